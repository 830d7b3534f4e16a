// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// why says why condition c of the block does not hold.
func (b *block) why(c condition, r *abi.Request) string {
	switch c {
	case condPath:
		switch {
		case r.Flags&abi.FlagNoObject != 0:
			return "there is no object with a path"
		case r.Flags&abi.FlagPathTruncated != 0:
			return "object.path is not known"
		}
	case condDetail:
		if r.Flags&abi.FlagDetailTruncated != 0 {
			return "detail is not known"
		}
	case condArgs:
		for _, a := range b.args {
			if subject, wanted, ok := a.words(r); !ok {
				return doesNot(subject, wanted)
			}
		}
		return doesNot(b.addrWords(r))
	case condExe:
		if r.Flags&abi.FlagNoExe != 0 {
			return "subject.exe is not known"
		}
	case condDigest:
		if r.NoContent() {
			return "the object is no file with a content"
		}
	}
	return doesNot(b.words(c, r))
}

func doesNot(subject string, wanted []string) string {
	if len(wanted) == 1 {
		return subject + " does not match " + wanted[0]
	}
	return subject + " matches none of " + shorten(wanted)
}

// held says what all conditions of the block were, in the order they are tried.
func (b *block) held(r *abi.Request) string {
	var parts []string
	for c := condAccess; c <= condDigest; c++ {
		if c == condArgs {
			for _, a := range b.args {
				subject, wanted, _ := a.words(r)
				parts = append(parts, subject+" matches "+shorten(wanted))
			}
			if len(b.addr) > 0 {
				subject, wanted := b.addrWords(r)
				parts = append(parts, subject+" matches "+shorten(wanted))
			}
			continue
		}
		if subject, wanted := b.words(c, r); len(wanted) > 0 {
			parts = append(parts, subject+" matches "+shorten(wanted))
		}
	}
	return strings.Join(parts, " and ")
}

// words returns what condition c looks at, with its value, and what it wants;
// nothing when the block does not give it.
func (b *block) words(c condition, r *abi.Request) (subject string, wanted []string) {
	ids := func(rs []numberRange) {
		for _, v := range rs {
			if v.lo == v.hi {
				wanted = append(wanted, fmt.Sprint(v.lo))
			} else {
				wanted = append(wanted, fmt.Sprintf("%d-%d", v.lo, v.hi))
			}
		}
	}
	pats := func(ps []pattern) {
		for _, p := range ps {
			wanted = append(wanted, p.String())
		}
	}
	switch c {
	case condAccess:
		subject, wanted = fmt.Sprintf("access %v", AccessNames(r.Access)), AccessNames(b.access)
	case condUID:
		subject = fmt.Sprintf("subject.uid %d", r.UID)
		ids(b.uid)
	case condGID:
		subject = fmt.Sprintf("subject.gid %d", r.GID)
		ids(b.gid)
	case condEUID:
		subject = fmt.Sprintf("subject.euid %d", r.EUID)
		ids(b.euid)
	case condEGID:
		subject = fmt.Sprintf("subject.egid %d", r.EGID)
		ids(b.egid)
	case condCgroup:
		subject = "subject.cgroup"
		for _, p := range b.cgroup {
			wanted = append(wanted, bare(p.path))
		}
	case condPath:
		subject = "object.path " + quote(string(r.PathBuf[:min(r.PathLen, abi.PathBytes)]))
		pats(b.path)
	case condDetail:
		subject = "detail " + quote(string(r.DetailBuf[:min(r.DetailLen, abi.PathBytes)]))
		pats(b.detail)
	case condExe:
		subject = "subject.exe " + quote(string(r.ExeBuf[:min(r.ExeLen, abi.PathBytes)]))
		pats(b.exe)
	case condDigest:
		return b.digestWords(r)
	}
	return subject, wanted
}

// words returns the argument with its value, what is wanted, and whether it is so.
func (a *argTest) words(r *abi.Request) (subject string, wanted []string, ok bool) {
	m := argMatch{at: argIndex(a.name), ranges: mergeRanges(a.ranges), all: a.all, any: a.any}
	text := func(v uint64) string { return ArgText(r.Event, a.name, v) }
	for _, v := range a.ranges {
		if v.lo == v.hi {
			wanted = append(wanted, text(v.lo))
		} else {
			wanted = append(wanted, fmt.Sprintf("%d-%d", v.lo, v.hi))
		}
	}
	var bits []string
	if a.all != 0 {
		bits = append(bits, "all of "+text(a.all))
	}
	if a.any != 0 {
		bits = append(bits, "any of "+text(a.any))
	}
	if bits != nil {
		wanted = []string{strings.Join(bits, " and ")}
	}
	return "args." + a.name + " " + text(r.Arg[m.at[r.Event]%abi.Args]), wanted, m.holds(r)
}

// addrWords returns the address, and the networks that are wanted.
func (b *block) addrWords(r *abi.Request) (subject string, wanted []string) {
	for _, n := range b.addr {
		wanted = append(wanted, netText(n))
	}
	number := func(name string) uint64 {
		if i := argIndex(name)[r.Event]; i < abi.Args {
			return r.Arg[i]
		}
		return 0
	}
	if f := number("family"); f != familyInet && f != familyInet6 {
		return "args." + addrName + " of the family " + ArgText(r.Event, "family", f), wanted
	}
	return "args." + addrName + " " + Addr(number("addr_high"), number("addr_low")).String(), wanted
}

// shorten joins the first few of a list.
func shorten(words []string) string {
	const shown = 8
	if len(words) > shown {
		return strings.Join(words[:shown], ", ") + fmt.Sprintf(" and %d more", len(words)-shown)
	}
	return strings.Join(words, ", ")
}
