// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// setting is what a unit setting does to the paths that it lists.
type setting uint8

const (
	nothing setting = iota
	inaccessible
	readOnly
	readWrite
	noExec
	exec
)

// settings are the unit settings that list paths, in systemd.exec(5), with their older names.
var settings = map[string]setting{
	"InaccessiblePaths": inaccessible, "ReadOnlyPaths": readOnly, "ReadWritePaths": readWrite, "NoExecPaths": noExec, "ExecPaths": exec,
	"InaccessibleDirectories": inaccessible, "ReadOnlyDirectories": readOnly, "ReadWriteDirectories": readWrite,
}

// settingNames returns the present names of the settings.
func settingNames() (names []string) {
	for name := range settings {
		if strings.HasSuffix(name, "Paths") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unitPath is a path of a setting.
type unitPath struct {
	place
	source string
	path   string
}

// unitReader reads units, drop-ins and plain lists, one after another as systemd does.
type unitReader struct {
	*importer
	lists map[setting][]unitPath
	// rooted is where the unit gets another root directory, which its paths begin in.
	rooted *place
}

func (im *importer) paths(sources []Source) {
	u := &unitReader{importer: im, lists: map[setting][]unitPath{}}
	for _, s := range sources {
		u.read(s)
	}
	u.refuse(inaccessible, nothing, "EACCES", everything, twoPaths)
	u.refuse(readOnly, readWrite, "EROFS", writing, twoPaths)
	u.refuse(noExec, exec, "EACCES", executing, nil)
	i := slices.IndexFunc(im.rules, func(r rule) bool { return !r.leftOut() })
	if i < 0 {
		return
	}
	first := im.rules[i].place
	if len(im.Cgroups) == 0 {
		im.findOnce(Note, first, "the rules hold for every program in the scope; name the unit's cgroup in the scope, such as /system.slice/NAME.service, and they hold for it alone")
	}
	im.findOnce(Note, first, "most of these events are asked about by the backend bpf-lsm alone")
}

// question is a rule that a path is refused by.
type question struct {
	events []string
	access []string
}

var (
	changing = []string{"create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "chmod", "chown", "truncate", "setattr", "setxattr", "removexattr"}

	everything = []question{{append([]string{"open", "exec", "chroot", "unix_connect"}, changing...), nil}}
	writing    = []question{{[]string{"open"}, []string{"write", "append", "truncate", "create"}}, {changing, nil}}
	executing  = []question{{[]string{"exec", "mmap_exec", "mprotect_exec"}, nil}}
	// twoPaths are the events whose second path is one as well.
	twoPaths = []string{"link", "rename"}
)

// refuse adds the rules for the paths of a setting. What another setting takes out of them again is
// in the rules as an exception, so that the order has no influence and nothing is allowed that a
// rule on something else refuses.
func (u *unitReader) refuse(s, except setting, errno string, questions []question, second []string) {
	refused, excepted := u.sorted(s), u.sorted(except)
	effective := map[string]bool{}
	for _, p := range refused {
		var out []pattern
		for _, q := range below(excepted, p.path) {
			effective[q.path] = true
			// Of the same path the stricter setting holds.
			if _, same := find(refused, q.path); !same {
				out = append(out, tree(q.path)...)
			}
		}
		bytes := 0
		for _, o := range out {
			bytes += len(o.text)
		}
		if !u.spend((len(questions) + 1) * (bytes + len(p.source) + len(p.path))) {
			return
		}
		for _, q := range questions {
			r := rule{place: p.place, source: p.source, events: q.events, verdict: verdict{"deny", errno}}
			r.match.path, r.match.access, r.not.path = tree(p.path), q.access, out
			u.add(r)
		}
		if second != nil {
			r := rule{place: p.place, source: p.source, events: second, verdict: verdict{"deny", errno}}
			r.match.detail, r.not.detail = tree(p.path), out
			u.add(r)
		}
	}
	for _, q := range excepted {
		if !effective[q.path] {
			u.find(Note, q.place, "", "%s: no other setting takes away what this one gives", bare(q.path))
		}
	}
}

// add adds a rule, unless the paths of the unit begin somewhere else.
func (u *unitReader) add(r rule) {
	if u.rooted != nil {
		r.miss("the unit has a root directory of its own, in " + bare(u.rooted.file) + ":" + strconv.Itoa(u.rooted.line) + ", and its paths begin there")
	}
	u.emit(r)
}

// sorted returns the paths of a setting, sorted and each once.
func (u *unitReader) sorted(s setting) []unitPath {
	list := slices.Clone(u.lists[s])
	slices.SortStableFunc(list, func(a, b unitPath) int { return cmp.Compare(a.path, b.path) })
	return slices.CompactFunc(list, func(a, b unitPath) bool { return a.path == b.path })
}

func find(sorted []unitPath, path string) (int, bool) {
	return slices.BinarySearchFunc(sorted, path, func(p unitPath, path string) int { return cmp.Compare(p.path, path) })
}

// below returns the paths that are the directory or below it.
func below(sorted []unitPath, dir string) []unitPath {
	if i, same := find(sorted, dir); same {
		rest := below(sorted[i+1:], dir)
		return append([]unitPath{sorted[i]}, rest...)
	}
	first := strings.TrimSuffix(dir, "/") + "/"
	last := strings.TrimSuffix(first, "/") + "0" // 0 is what follows / in ASCII
	i := sort.Search(len(sorted), func(i int) bool { return sorted[i].path >= first })
	j := sort.Search(len(sorted), func(i int) bool { return sorted[i].path >= last })
	return sorted[i:max(i, j)]
}
