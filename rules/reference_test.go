// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// The reference: what a rule set says, as slowly and plainly as it can be
// written, from the AST and the texts of the patterns alone. Nothing of what
// Decide runs is used. All of the content of the object must be known.

func reference(f *File, r *abi.Request) int32 {
	for i := range f.rules {
		rule := &f.rules[i]
		if !slices.Contains(eventsIn(rule.events), r.Event) {
			continue
		}
		if refBlock(&rule.match, r) && (rule.not == nil || !refBlock(rule.not, r)) && (rule.when == nil || refWhen(rule.when, r)) {
			return int32(i)
		}
	}
	return -1
}

// refWhen asks cel-go.
func refWhen(w *when, r *abi.Request) bool {
	p, err := celPrograms()(w.String())
	if err != nil {
		panic("BUG: cel-go does not take " + w.String() + ": " + err.Error())
	}
	return (*celReference)(nil).eval(p, r) == yes
}

// celPrograms returns what compiles expressions with cel-go, each once.
var celPrograms = sync.OnceValue(func() func(string) (cel.Program, error) {
	reference := newCELReference()
	var known sync.Map
	return func(text string) (cel.Program, error) {
		if p, ok := known.Load(text); ok {
			return p.(cel.Program), nil
		}
		p, err := reference.program(text)
		if err == nil {
			known.Store(text, p)
		}
		return p, err
	}
})

func eventsIn(s eventSet) []abi.Event {
	var out []abi.Event
	for e := range abi.Event(64) {
		if s&(1<<e) != 0 {
			out = append(out, e)
		}
	}
	return out
}

func refBlock(b *block, r *abi.Request) bool {
	in := func(rs []numberRange, v uint32) bool {
		id := uint64(v)
		return len(rs) == 0 || slices.ContainsFunc(rs, func(n numberRange) bool { return n.lo <= id && id <= n.hi })
	}
	inGroup := len(b.cgroup) == 0
	for _, c := range b.cgroup {
		id, err := fakeCgroups(c.path)
		if err == nil && slices.Contains(r.Cgroup[:], id) {
			inGroup = true
		}
	}
	inTree := len(b.tree) == 0
	for _, t := range b.tree {
		inTree = inTree || r.Trees&fakeMarks[t.path] != 0
	}
	a := b.attributes
	mode := uint64(r.Mode & 0o7777)
	isFile := r.Flags&abi.FlagNoObject == 0 && r.Mode>>12 != 0
	if a.given() && !(isFile && in(a.owner, r.OwnerUID) && in(a.group, r.OwnerGID) && mode&a.mode.all == a.mode.all && (a.mode.any == 0 || mode&a.mode.any != 0)) {
		return false
	}
	if len(b.size) > 0 && !(r.Size.Known && slices.ContainsFunc(b.size, func(n numberRange) bool { return n.lo <= r.Size.Bytes && r.Size.Bytes <= n.hi })) {
		return false
	}
	has, want := r.Credentials, b.credentials
	bits := func(t bitTest, v uint64) bool { return v&t.all == t.all && (t.any == 0 || v&t.any != 0) }
	if want.given() && !(has.Known && in(want.login, has.LoginUID) && in(want.session, has.Session) && bits(want.capabilities, has.Capabilities) && bits(want.host, uint64(has.HostNamespaces))) {
		return false
	}
	path, detail, exe := string(r.Path()), string(r.Detail()), string(r.Exe())
	return (b.access == 0 || r.Access&b.access != 0) &&
		in(b.uid, r.UID) && in(b.gid, r.GID) && in(b.euid, r.EUID) && in(b.egid, r.EGID) && inGroup && inTree &&
		(len(b.addr) == 0 || refAddr(b.addr, r)) &&
		!slices.ContainsFunc(b.args, func(a argTest) bool { return !refArg(a, r) }) &&
		(len(b.path) == 0 || r.Flags&abi.FlagPathTruncated == 0 && r.Flags&abi.FlagNoObject == 0 && refPatterns(b.path, path)) &&
		(len(b.detail) == 0 || r.Flags&abi.FlagDetailTruncated == 0 && refPatterns(b.detail, detail)) &&
		(len(b.exe) == 0 || r.Flags&abi.FlagNoExe == 0 && refPatterns(b.exe, exe)) &&
		(len(b.digest) == 0 || refContent(r) && slices.Contains(b.digest, digest(r.Digest))) &&
		(b.formats == 0 || refContent(r) && slices.Contains(b.formats.names(), r.Format.String())) &&
		(len(b.verity) == 0 || refContent(r) && slices.ContainsFunc(b.verity, func(v abi.Verity) bool { return v == r.Verity || v.Alg == verityAny && r.Verity.Alg != abi.VerityNone })) &&
		(b.scans == 0 || refContent(r) && slices.Contains(b.scans.names(), r.Scan.String()))
}

// refContent reports whether the object may be a file.
func refContent(r *abi.Request) bool {
	return r.Flags&abi.FlagNoObject == 0 && slices.Contains([]uint32{0, 0o10}, r.Mode>>12)
}

func refArg(a argTest, r *abi.Request) bool {
	for i, known := range catalogue.Of(r.Event).Args {
		if known.Name != a.name {
			continue
		}
		v := r.Arg[i]
		if len(a.ranges) > 0 {
			return slices.ContainsFunc(a.ranges, func(n numberRange) bool { return n.lo <= v && v <= n.hi })
		}
		for bit := range 64 {
			if a.all>>bit&1 == 1 && v>>bit&1 == 0 {
				return false
			}
		}
		return a.any == 0 || a.any&v != 0
	}
	return false
}

// refAddr looks at the address bit by bit.
func refAddr(nets []netip.Prefix, r *abi.Request) bool {
	ev := catalogue.Of(r.Event)
	if f := r.Arg[ev.Arg("family")]; f != 2 && f != 10 {
		return false
	}
	high, low := r.Arg[ev.Arg("addr_high")], r.Arg[ev.Arg("addr_low")]
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool {
		want := n.Addr().As16()
		for i := range n.Bits() {
			half := high
			if i >= 64 {
				half = low
			}
			if byte(half>>(63-i%64)&1) != want[i/8]>>(7-i%8)&1 {
				return false
			}
		}
		return true
	})
}

func refPatterns(ps []pattern, s string) bool {
	return slices.ContainsFunc(ps, func(p pattern) bool {
		switch p.kind {
		case literal:
			return s == p.text
		case prefix:
			return strings.HasPrefix(s, p.text)
		}
		return naiveGlob(p.text, s)
	})
}

// naiveGlob matches by expanding the braces into plain patterns and trying
// everything.
func naiveGlob(pattern, s string) bool {
	for _, p := range expand(refTokens(pattern)) {
		if naiveMatch(p, symbolsOf(s)) {
			return true
		}
	}
	return false
}

// refToken is one piece of a pattern: a symbol when meta is 0.
type refToken struct {
	meta byte // one of * ? [ { , } or D for ** or / for **/
	sym  int32
	not  bool
	set  [][2]int32
}

func symbolsOf(s string) []int32 {
	var out []int32
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = 0x110000 + int32(s[0])
		}
		out = append(out, r)
		s = s[n:]
	}
	return out
}

func refTokens(pattern string) []refToken {
	syms := symbolsOf(pattern)
	var out []refToken
	at := func(i int) int32 {
		if i < len(syms) {
			return syms[i]
		}
		return -1
	}
	depth := 0
	var slashBefore []bool // per open brace
	for i := 0; i < len(syms); i++ {
		slash := len(out) > 0 && out[len(out)-1].meta == 0 && out[len(out)-1].sym == '/' || len(out) > 0 && out[len(out)-1].meta == '/'
		if len(out) > 0 && (out[len(out)-1].meta == '{' || out[len(out)-1].meta == ',') {
			slash = slashBefore[len(slashBefore)-1]
		}
		switch c := syms[i]; {
		case c == '*' && at(i+1) == '*' && slash && at(i+2) == '/':
			out = append(out, refToken{meta: '/'})
			i += 2
		case c == '*' && at(i+1) == '*':
			out = append(out, refToken{meta: 'D'})
			i++
		case c == '*' || c == '?':
			out = append(out, refToken{meta: byte(c)})
		case c == '[':
			t := refToken{meta: '['}
			i++
			if at(i) == '!' {
				t.not = true
				i++
			}
			one := func() int32 {
				if at(i) == '\\' {
					i++
				}
				i++
				return at(i - 1)
			}
			for at(i) != ']' {
				lo := one()
				hi := lo
				if at(i) == '-' && at(i+1) != ']' {
					i++
					hi = one()
				}
				t.set = append(t.set, [2]int32{lo, hi})
			}
			out = append(out, t)
		case c == '{':
			depth++
			slashBefore = append(slashBefore, slash)
			out = append(out, refToken{meta: '{'})
		case c == '}' || c == ',' && depth > 0:
			if c == '}' {
				depth--
				slashBefore = slashBefore[:len(slashBefore)-1]
			}
			out = append(out, refToken{meta: byte(c)})
		case c == '\\':
			i++
			out = append(out, refToken{sym: at(i)})
		default:
			out = append(out, refToken{sym: c})
		}
	}
	return out
}

// expand returns all patterns that the braces stand for.
func expand(ts []refToken) [][]refToken {
	open := slices.IndexFunc(ts, func(t refToken) bool { return t.meta == '{' })
	if open < 0 {
		return [][]refToken{ts}
	}
	var out [][]refToken
	depth, from := 0, open+1
	var parts [][]refToken
	for i := open; i < len(ts); i++ {
		switch {
		case ts[i].meta == '{':
			depth++
		case ts[i].meta == ',' && depth == 1:
			parts = append(parts, ts[from:i])
			from = i + 1
		case ts[i].meta == '}':
			if depth--; depth == 0 {
				parts = append(parts, ts[from:i])
				for _, p := range parts {
					out = append(out, expand(slices.Concat(ts[:open], p, ts[i+1:]))...)
				}
				return out
			}
		}
	}
	panic("BUG: unbalanced braces in a pattern that was compiled")
}

func naiveMatch(ts []refToken, s []int32) bool {
	if len(ts) == 0 {
		return len(s) == 0
	}
	t, rest := ts[0], ts[1:]
	switch t.meta {
	case '/': // none, or anything that ends in a slash
		if naiveMatch(rest, s) {
			return true
		}
		for i, c := range s {
			if c == '/' && naiveMatch(rest, s[i+1:]) {
				return true
			}
		}
		return false
	case '*', 'D':
		for i := 0; ; i++ {
			if naiveMatch(rest, s[i:]) {
				return true
			}
			if i == len(s) || t.meta == '*' && s[i] == '/' {
				return false
			}
		}
	}
	if len(s) == 0 {
		return false
	}
	ok := s[0] == t.sym
	switch t.meta {
	case '?':
		ok = s[0] != '/'
	case '[':
		ok = s[0] != '/' && t.not != slices.ContainsFunc(t.set, func(r [2]int32) bool { return r[0] <= s[0] && s[0] <= r[1] })
	}
	return ok && naiveMatch(rest, s[1:])
}
