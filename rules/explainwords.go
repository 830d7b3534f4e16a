// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// why says why condition c of the block does not hold.
func (p *pool) why(b *conditions, c condition, r *abi.Request) string {
	if why := notKnown(c, r); why != "" {
		return why
	}
	if c != condArgs {
		return doesNot(p.words(b, c, r))
	}
	for _, a := range p.argsOf(b) {
		if !a.holds(r) {
			return doesNot(a.words(r))
		}
	}
	return doesNot(p.addrs[b.addr].words(r))
}

// notKnown says that the text which condition c looks at is not known, "" when it is.
func notKnown(c condition, r *abi.Request) string {
	switch {
	case c == condPath && r.Flags&abi.FlagNoObject != 0:
		return "there is no object with a path"
	case c == condPath && r.Flags&abi.FlagPathTruncated != 0:
		return "object.path is not known"
	case c == condDetail && r.Flags&abi.FlagDetailTruncated != 0:
		return "detail is not known"
	case c == condExe && r.Flags&abi.FlagNoExe != 0:
		return "subject.exe is not known"
	case c >= condFormat && r.NoContent():
		return "the object is no file with a content"
	}
	return ""
}

func doesNot(subject string, wanted []string) string {
	if len(wanted) == 1 {
		return subject + " does not match " + wanted[0]
	}
	return subject + " matches none of " + shorten(wanted)
}

// held says what all conditions of the block were, in the order they are tried.
func (p *pool) held(b *conditions, r *abi.Request) string {
	var parts []string
	for c := condAccess; c < conditionCount; c++ {
		if c == condArgs {
			for _, a := range p.argsOf(b) {
				subject, wanted := a.words(r)
				parts = append(parts, subject+" matches "+shorten(wanted))
			}
			if b.addr != 0 {
				subject, wanted := p.addrs[b.addr].words(r)
				parts = append(parts, subject+" matches "+shorten(wanted))
			}
			continue
		}
		if subject, wanted := p.words(b, c, r); len(wanted) > 0 {
			parts = append(parts, subject+" matches "+shorten(wanted))
		}
	}
	return strings.Join(parts, " and ")
}

// words returns what condition c looks at, with its value, and what it wants;
// nothing when the block does not give it.
func (p *pool) words(b *conditions, c condition, r *abi.Request) (subject string, wanted []string) {
	ids := func(rs []numberRange) { wanted = rangeWords(rs) }
	pats := func(t texts) {
		for q := range p.each(t) {
			wanted = append(wanted, q.String())
		}
	}
	of := &p.ids[b.ids]
	switch c {
	case condAccess:
		subject, wanted = fmt.Sprintf("access %v", AccessNames(r.Access)), AccessNames(b.access)
	case condUID:
		subject = fmt.Sprintf("subject.uid %d", r.UID)
		ids(of.uid)
	case condGID:
		subject = fmt.Sprintf("subject.gid %d", r.GID)
		ids(of.gid)
	case condEUID:
		subject = fmt.Sprintf("subject.euid %d", r.EUID)
		ids(of.euid)
	case condEGID:
		subject = fmt.Sprintf("subject.egid %d", r.EGID)
		ids(of.egid)
	case condOwner, condGroup, condMode:
		return of.attributes.words(c, r)
	case condSize:
		return sizeWords(of.size, r)
	case condLogin, condSession, condCapabilities, condHost:
		return of.credentials.words(c, r)
	case condCgroup:
		subject = "subject.cgroup"
		for _, g := range of.cgroup {
			wanted = append(wanted, bare(g.path))
		}
	case condTree:
		subject = "subject.process_tree"
		for set := p.treeSets[of.tree]; set != 0; set &= set - 1 {
			wanted = append(wanted, bare(p.trees[bits.TrailingZeros64(set)].Path))
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
	default:
		return p.contents[b.content].words(c, r)
	}
	return subject, wanted
}

// words returns the argument with its value, and what is wanted.
func (a *argMatch) words(r *abi.Request) (subject string, wanted []string) {
	text := func(v uint64) string { return ArgText(r.Event, a.name, v) }
	for _, v := range a.ranges {
		if v.lo == v.hi {
			wanted = append(wanted, text(v.lo))
		} else {
			wanted = append(wanted, fmt.Sprintf("%d-%d", v.lo, v.hi))
		}
	}
	if a.ranges == nil {
		wanted = bitTest{a.all, a.any}.words(text)
	}
	return "args." + a.name + " " + text(r.Arg[a.at[r.Event]%abi.Args]), wanted
}

// words returns the address, and the networks that are wanted.
func (m *addrMatch) words(r *abi.Request) (subject string, wanted []string) {
	for _, n := range m.nets {
		wanted = append(wanted, netText(n.prefix()))
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
