// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"path"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// follows are the events whose object is what a symbolic link leads to, and never the
// link.
var follows = setOf(abi.EventOpen, abi.EventExec, abi.EventTruncate, abi.EventMMapExec, abi.EventMount, abi.EventUmount, abi.EventChroot)

// links names the paths of a rule that lead through symbolic links: a request has the path
// without them.
func (l *linter) links(i int) {
	r := &l.file.rules[i]
	whole := r.events&^follows == 0
	asGiven := r.events&sockets != 0 // the name of a socket is the one that the program wrote
	for _, b := range []*block{&r.match, r.not} {
		if b == nil {
			continue
		}
		for _, p := range b.path {
			if !asGiven {
				l.link(i, "object.path", p, whole)
			}
		}
		for _, p := range b.exe {
			l.link(i, "subject.exe", p, true)
		}
		if r.events&^pathDetail == 0 {
			for _, p := range b.detail {
				l.link(i, "detail", p, false)
			}
		}
	}
}

// link looks at one pattern. whole: its last component is followed, too.
func (l *linter) link(i int, what string, p pattern, whole bool) {
	text := p.text
	if p.kind == globbed {
		text = p.glob.head
	}
	dir, name := path.Split(text)
	if !strings.HasPrefix(dir, "/") {
		return
	}
	if dir == "/proc/" || strings.HasPrefix(dir, "/proc/") || dir == "/dev/fd/" { // another place for everybody
		return
	}
	real, there := l.dir(path.Clean(dir))
	if !there {
		return
	}
	full := path.Join(real, name)
	if whole && p.kind == literal && name != "" {
		to, err := l.resolve(full)
		if err != nil {
			return
		}
		if full = to; strings.HasPrefix(to, "/proc/") {
			return
		}
	}
	if full == path.Clean(text) {
		return
	}
	if p.kind != literal && strings.HasSuffix(text, "/") && full != "/" {
		full += "/"
	}
	if p.kind == globbed {
		full += "..." // the rest may be escaped
	}
	l.add(i, fmt.Sprintf("%s %s matches nothing here: it leads through a symbolic link", what, quote(p.text)), "begin it with "+full+", which is where that is")
}

// dir returns a directory with its links followed; false when it is not there.
func (l *linter) dir(name string) (string, bool) {
	real, known := l.dirs[name]
	if !known {
		real, _ = l.resolve(name) // "" on an error
		l.dirs[name] = real
	}
	return real, real != ""
}
