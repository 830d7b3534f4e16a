// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// few is up to how many rules are compared one after another instead of being filed. By
// BenchmarkFew, on amd64, filing is the faster from about 13 rules on; nodes below the root
// look up less, and rules of more than one demand are slower to compare.
const few = 8

// key is one demand that a rule can be filed under.
type key struct {
	fact fact
	kind keyKind
	n    uint16 // length of a text in bytes, of a network's prefix in bits; the hash of an fs-verity digest
	// Of a part, its first byte.
	first byte
	a, b  uint64 // the hash of a text; a number, or the first and the last one of a range; a network
}

type keyKind uint8

const (
	keyWhole keyKind = iota
	keyBegin
	keyOddBegin // one that does not end in '/'
	keyName
	keyPart
	keyEnd
	keyNumber
	keySpan
	keyCgroup
	keyNet
	keyContent
)

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.fact, o.fact), cmp.Compare(k.kind, o.kind), cmp.Compare(k.n, o.n), cmp.Compare(k.a, o.a), cmp.Compare(k.b, o.b))
}

// demand is what a rule demands of one fact: each part has to be filed, under one of its
// keys, for the rule holds when any of them does.
type demand struct {
	fact  fact
	parts [][]key
}

// root files the rules of one event, in rising order.
func (b *builder) root(e abi.Event, rules []int32) *node {
	b.event = e
	return b.node(rules, 0)
}

type builder struct {
	rs    *RuleSet
	event abi.Event
	few   int // up to so many are not filed
	left  int // how many keys may still be looked at

	// What rules demand, and what that is put together in.
	keys    lists[key]
	parts   lists[[]key]
	demands lists[demand]
	scratch struct {
		parts   [][]key
		demands []demand
		counts  counts
	}
}

// A rule is filed under each of its paths, and below each of them under each of its users:
// lists multiply. How many keys are looked at for all events together is bounded by how many
// the rules have, which is bounded by the size of the file: so many times all of them, and
// some more. What is over that is compared one after another.
const (
	timesKeys = 8
	moreKeys  = 1_000_000
)

// keys returns how many values a rule lists, of all facts together.
func (rs *RuleSet) keys(m *matcher) int {
	c := &m.match
	n := 1 + rs.len(c.path) + rs.len(c.detail) + rs.len(c.exe) + len(rs.addrs[c.addr].nets) + len(rs.contents[c.content].sums) + rs.contents[c.content].verity.len()
	for _, a := range rs.argsOf(c) {
		n += len(a.ranges)
	}
	s := &rs.ids[c.ids]
	return n + len(s.uid) + len(s.gid) + len(s.euid) + len(s.egid) + len(s.cgroup) + len(s.attributes.owner) + len(s.attributes.group) + len(s.size) + len(s.credentials.login) + len(s.credentials.session)
}

// valueCount returns how many values all rules list, a set that several of them name once.
func (rs *RuleSet) valueCount() (n int) {
	shared := map[[2]uint32]bool{}
	ranges, sums, verities := map[*numberRange]bool{}, map[*digest]bool{}, map[*verityMatch]bool{}
	for i := range rs.all {
		m := &rs.all[i]
		n += rs.keys(m)
		once := func(kind, list uint32, values int) {
			if shared[[2]uint32{kind, list}] {
				n -= values
			}
			shared[[2]uint32{kind, list}] = true
		}
		for _, t := range [...]texts{m.match.path, m.match.detail, m.match.exe} {
			if t.kind == manyTexts {
				once(0, t.at, rs.len(t))
			}
		}
		for _, a := range rs.argsOf(&m.match) {
			if len(a.ranges) == 0 {
				continue
			}
			if ranges[&a.ranges[0]] {
				n -= len(a.ranges)
			}
			ranges[&a.ranges[0]] = true
		}
		once(1, m.match.addr, len(rs.addrs[m.match.addr].nets))
		if d := rs.contents[m.match.content].sums; len(d) > 0 {
			if sums[&d[0]] {
				n -= len(d)
			}
			sums[&d[0]] = true
		}
		if v := rs.contents[m.match.content].verity; v != nil {
			if verities[v] {
				n -= v.len()
			}
			verities[v] = true
		}
		s := &rs.ids[m.match.ids]
		once(2, m.match.ids, len(s.uid)+len(s.gid)+len(s.euid)+len(s.egid)+len(s.cgroup)+len(s.attributes.owner)+len(s.attributes.group)+len(s.size)+len(s.credentials.login)+len(s.credentials.session))
	}
	return n
}

// node files rules, by none of the facts in used.
func (b *builder) node(rules []int32, used uint32) *node {
	n := &node{first: rules[0], rest: rules}
	if len(rules) <= b.few {
		return n
	}
	all := 0
	for _, i := range rules {
		all += b.rs.keys(&b.rs.all[i])
	}
	b.left -= all
	if b.left < 0 {
		return n
	}
	demands := make([][]demand, len(rules))
	for at, i := range rules {
		demands[at] = b.demandsOf(&b.rs.all[i], used)
	}
	counts := &b.scratch.counts // until the first node below
	counts.count(demands)
	filed := make([]filing, 0, len(rules))
	byContent := map[fact][]int32{}
	n.rest = nil
	for at, i := range rules {
		keys := counts.best(demands[at], len(rules))
		if keys == nil {
			n.rest = append(n.rest, i)
		} else if f := keys[0].fact; f.ofContent() {
			byContent[f] = append(byContent[f], i)
		}
		for _, k := range keys {
			filed = append(filed, filing{k, i})
		}
	}
	filed = sorted(filed)
	groups := make([]group, 0, len(filed))
	for from := 0; from < len(filed); {
		to := from + 1
		var members []int32
		for ; to < len(filed) && filed[to].key == filed[from].key; to++ {
			if filed[to].rule != filed[to-1].rule {
				members = append(members, filed[to].rule)
			}
		}
		g := group{key: filed[from].key, to: ref(^filed[from].rule)}
		if len(members) > 0 {
			members = append(members, 0)
			copy(members[1:], members)
			members[0] = filed[from].rule
			g.to = ref(len(b.rs.nodes))
			b.rs.nodes = append(b.rs.nodes, nil)
			below := b.node(slices.Clip(members), used|1<<g.fact)
			b.rs.nodes[g.to] = below
		}
		groups = append(groups, g)
		from = to
	}
	b.file(n, groups)
	for i := range n.contents {
		x := &n.contents[i]
		x.unknown = b.node(byContent[x.fact], used|1<<x.fact)
	}
	return n
}

// filing is a rule that is filed under a key.
type filing struct {
	key
	rule int32
}

// sorted returns filings that are in the order of their rules by their keys, and by their rules
// where those are equal.
func sorted(filed []filing) []filing {
	// Nearly all are told apart by the beginning of the key, which is compared in one step.
	type place struct {
		by uint64
		at int32
	}
	places := make([]place, len(filed))
	for at := range filed {
		k := &filed[at].key
		next := uint64(k.n)<<32 | k.a>>32
		if k.n == 0 {
			next = min(k.a, 1<<32-1) // most numbers are small
		}
		places[at] = place{uint64(k.fact)<<56 | uint64(k.kind)<<48 | next, int32(at)}
	}
	slices.SortFunc(places, func(x, y place) int {
		if x.by != y.by {
			return cmp.Compare(x.by, y.by)
		}
		if c := filed[x.at].compare(filed[y.at].key); c != 0 {
			return c
		}
		return cmp.Compare(x.at, y.at)
	})
	out := make([]filing, len(filed))
	for to, p := range places {
		out[to] = filed[p.at]
	}
	return out
}

// group is the rules that are filed under one key.
type group struct {
	key
	to ref
}

// file makes the indexes of a node from its groups, which are sorted by key.
func (b *builder) file(n *node, groups []group) {
	for len(groups) > 0 {
		f := groups[0].fact
		to := 1
		for to < len(groups) && groups[to].fact == f {
			to++
		}
		of := groups[:to]
		groups = groups[to:]
		switch f {
		case factPath, factDetail, factExe:
			n.texts = append(n.texts, newTextIndex(f, of))
		case factCgroup:
			t := newTable(len(of))
			for _, g := range of {
				t.put(spread(g.a), g.to)
			}
			n.cgroups = &t
		case factAddr:
			n.nets = newNetIndex(of, b.event)
		case factVerity, factDigest:
			n.contents = append(n.contents, newContentIndex(f, of))
		default:
			n.numbers = append(n.numbers, b.rs.newNumberIndex(f, of))
		}
	}
}

func newTextIndex(f fact, groups []group) textIndex {
	x := textIndex{fact: f, wholesAlone: !slices.ContainsFunc(groups, func(g group) bool { return g.kind != keyWhole })}
	var number [keyNumber]int
	for _, g := range groups {
		number[g.kind]++
	}
	tables := [keyNumber]*textTable{keyWhole: &x.wholes, keyBegin: &x.begins, keyOddBegin: &x.odd, keyName: &x.names, keyPart: &x.parts, keyEnd: &x.ends}
	for _, g := range groups {
		t := tables[g.kind]
		if t.lengths == nil {
			t.table, t.lengths = newTable(number[g.kind]), new(lengths)
		}
		t.put(spread(g.a), g.to)
		t.add(int(g.n))
		if g.kind == keyPart {
			x.firsts[g.first>>6] |= 1 << (g.first & 63)
		}
	}
	return x
}

func (rs *RuleSet) newNumberIndex(f fact, groups []group) numberIndex {
	x := numberIndex{fact: f}
	singles := 0
	for _, g := range groups {
		if g.kind == keyNumber {
			singles++
		} else {
			x.spans = append(x.spans, span{lo: g.a, hi: g.b, to: g.to})
		}
	}
	if singles > 0 {
		x.values = newTable(singles)
		for _, g := range groups {
			if g.kind == keyNumber {
				x.values.put(spread(g.a), g.to)
			}
		}
	}
	rs.plant(x.spans) // sorted by lo, as groups are
	return x
}

func newNetIndex(groups []group, e abi.Event) *netIndex {
	x := &netIndex{high: argIndex("addr_high")[e], low: argIndex("addr_low")[e]}
	for len(groups) > 0 { // sorted by length first
		to := 1
		for to < len(groups) && groups[to].n == groups[0].n {
			to++
		}
		l := netLength{nets: newTable(to)}
		l.highMask, l.lowMask = masks(int(groups[0].n))
		for _, g := range groups[:to] {
			l.nets.put(netHash(g.a, g.b), g.to)
		}
		x.lengths = append(x.lengths, l)
		groups = groups[to:]
	}
	return x
}

// demandsOf lists what a rule demands of each fact that is not in used.
func (b *builder) demandsOf(m *matcher, used uint32) []demand {
	out, parts := b.scratch.demands[:0], b.scratch.parts[:0]
	// add takes the parts since the last one.
	add := func(f fact) {
		if len(parts) > 0 && !slices.ContainsFunc(parts, func(keys []key) bool { return len(keys) == 0 }) {
			out = append(out, demand{f, b.parts.copy(parts...)})
		}
		parts = parts[:0]
	}
	c := &m.match
	for f, t := range [...]texts{factPath: c.path, factDetail: c.detail, factExe: c.exe} {
		if t.kind != noTexts && used>>f&1 == 0 {
			parts = b.textKeys(parts, fact(f), t)
			add(fact(f))
		}
	}
	ranges := func(f fact, rs []numberRange) {
		if used>>f&1 != 0 {
			return
		}
		for _, r := range rs {
			k := key{fact: f, kind: keySpan, a: r.lo, b: r.hi}
			if r.lo == r.hi {
				k.kind, k.b = keyNumber, 0
			}
			parts = append(parts, b.keys.copy(k))
		}
		add(f)
	}
	ids := &b.rs.ids[c.ids]
	ranges(factUID, ids.uid)
	ranges(factGID, ids.gid)
	ranges(factEUID, ids.euid)
	ranges(factEGID, ids.egid)
	ranges(factOwner, ids.attributes.owner)
	ranges(factGroup, ids.attributes.group)
	ranges(factSize, ids.size)
	ranges(factLogin, ids.credentials.login)
	ranges(factSession, ids.credentials.session)
	if used>>factCgroup&1 == 0 {
		for _, g := range ids.cgroup {
			parts = append(parts, b.keys.copy(key{fact: factCgroup, kind: keyCgroup, a: g.id}))
		}
		add(factCgroup)
	}
	for _, a := range b.rs.argsOf(c) {
		if at := a.at[b.event]; at < abi.Args {
			ranges(factArg0+fact(at), a.ranges)
		}
	}
	if a := &b.rs.addrs[c.addr]; c.addr != 0 && used>>factAddr&1 == 0 && a.high[b.event] < abi.Args && a.low[b.event] < abi.Args {
		for _, n := range a.nets {
			parts = append(parts, b.keys.copy(key{fact: factAddr, kind: keyNet, n: n.bits, a: n.high, b: n.low}))
		}
		add(factAddr)
	}
	content := &b.rs.contents[c.content]
	if used>>factVerity&1 == 0 {
		parts = append(parts, content.verity.keys()...)
		add(factVerity)
	}
	if sums := content.sums; sums != nil && used>>factDigest&1 == 0 {
		for _, d := range sums {
			parts = append(parts, b.keys.copy(digestKey(d)))
		}
		add(factDigest)
	}
	b.scratch.demands, b.scratch.parts = out, parts
	return b.demands.copy(out...)
}

// textKeys appends, for each pattern, what it can be filed under.
func (b *builder) textKeys(parts [][]key, f fact, t texts) [][]key {
	for q := range b.rs.each(t) {
		var keys []key
		switch q.kind {
		case literal:
			keys = b.keys.copy(key{fact: f, kind: keyWhole, n: uint16(len(q.text)), a: hashText(q.text)})
		case prefix:
			if q.text != "" { // else any text, of a detail that is no path
				keys = b.keys.copy(beginKey(f, q.text))
			}
		default:
			keys = q.glob.keys(f)
		}
		parts = append(parts, keys)
	}
	return parts
}

func beginKey(f fact, s string) key {
	k := key{fact: f, kind: keyBegin, n: uint16(len(s)), a: hashText(s)}
	if !strings.HasSuffix(s, "/") {
		k.kind = keyOddBegin
	}
	return k
}

// keys returns what a glob fixes: the text before its first wildcard or the directory in
// it, what is behind the last one, and beginnings of components between.
func (g *glob) keys(f fact) (keys []key) {
	if dir := g.head[:strings.LastIndexByte(g.head, '/')+1]; len(dir) > 1 {
		keys = append(keys, beginKey(f, dir))
		if dir != g.head {
			keys = append(keys, beginKey(f, g.head))
		}
	} else if len(g.head) > 1 {
		keys = append(keys, beginKey(f, g.head))
	}
	if slash := strings.LastIndexByte(g.tail, '/'); slash >= 0 {
		if name := g.tail[slash+1:]; name != "" {
			keys = append(keys, key{fact: f, kind: keyName, n: uint16(len(name)), a: hashPart(name)})
		}
	} else if g.tail != "" {
		keys = append(keys, key{fact: f, kind: keyEnd, n: uint16(len(g.tail)), a: hashEnd(g.tail)})
	}
	for _, s := range g.parts() {
		keys = append(keys, key{fact: f, kind: keyPart, n: uint16(len(s)), first: s[0], a: hashPart(s)})
	}
	return keys
}

// mostParts is how many parts of a glob are looked at.
const mostParts = 8

// parts returns texts with which a component of every path begins that the glob matches.
func (g *glob) parts() (parts []string) {
	// How many branches lead past each instruction: not all matches go through it if any does.
	past := make([]int, len(g.code)+1)
	for i, in := range g.code {
		if in.op == opSplit || in.op == opJump {
			past[i]++
			past[in.x]--
		}
	}
	for i := 1; i < len(past); i++ {
		past[i] += past[i-1]
	}
	slash := func(i int) bool { // whether a '/' is before instruction i, always
		switch {
		case i == 0:
			return strings.HasSuffix(g.head, "/")
		case g.code[i-1].op != opSymbol || g.code[i-1].x != '/':
			return false
		case past[i-1] == 0:
			return true
		}
		// The one of "**/", which stands behind a '/' itself and is passed by its own branch alone.
		return past[i-1] == 1 && i >= 3 && g.code[i-2].op == opDeep && g.code[i-3].op == opSplit && int(g.code[i-3].x) == i
	}
	for i := 0; i < len(g.code) && len(parts) < mostParts; i++ {
		var text []byte
		for at := i; at < len(g.code) && slash(i); at++ {
			in := g.code[at]
			if in.op != opSymbol || in.x == '/' || in.x >= 0x80 {
				break
			}
			text = append(text, byte(in.x))
		}
		if len(text) > 0 {
			parts = append(parts, string(text))
		}
	}
	return parts
}
