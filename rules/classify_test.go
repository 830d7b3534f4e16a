// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// What a glob fixes of every path that it matches, beside both ends.
func TestGlobParts(t *testing.T) {
	for pattern, want := range map[string]string{
		"/a/*/b":               "",
		"/a/*/b*":              "b",
		"/a/**/b*":             "b",
		"/a/**/b/*":            "b",
		"/a/**/b/c*/d*":        "b c d",
		"/a**b*":               "",
		"/a*/bc?":              "bc",
		"/*a/b[xy]":            "b",
		"/**/é*":               "",
		"/**/aé*":              "a",
		"/{a,b}*/c*":           "c",
		"/{a/b,c/d}*":          "",
		"/x*{,/b}y*":           "",
		"/x*/{**/,a}b*":        "",
		"/x*/{a,**/}b*":        "",
		"/x*/{a/,**/}b*":       "",
		"/x*/**/{a,b}*":        "",
		"/x*/b{a,b}*":          "b",
		"/x*/{a,b}c*":          "",
		"/home/*/.ssh/**":      ".ssh",
		"/srv/**/x12*.so":      "x12",
		"/usr/lib/*/perl5/**x": "perl5",
	} {
		g, problem := compileGlob(pattern)
		if problem != nil {
			t.Fatalf("%s: %v", pattern, problem)
		}
		if got := strings.Join(g.parts(), " "); got != want {
			t.Errorf("%s: parts %q, want %q", pattern, got, want)
		}
	}
}

func TestMasks(t *testing.T) {
	for bits, want := range map[int][2]uint64{0: {0, 0}, 1: {1 << 63, 0}, 64: {^uint64(0), 0}, 65: {^uint64(0), 1 << 63}, 127: {^uint64(0), ^uint64(1)}, 128: {^uint64(0), ^uint64(0)}} {
		if high, low := masks(bits); high != want[0] || low != want[1] {
			t.Errorf("%d bits: %#x %#x, want %#x", bits, high, low, want)
		}
	}
}

// An argument of the same name is elsewhere in another event.
func TestEventsHaveTheirOwnArguments(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 3 * few {
		fmt.Fprintf(&b, "- {id: r%d, events: [chown, setgid], args: {gid: %d}, verdict: deny}\n", i, i+100)
	}
	rs := mustLoad(t, b.String())
	for i := range 3 * few {
		for e, at := range map[abi.Event]int{abi.EventChown: 1, abi.EventSetGID: 0} {
			r := request(e, "/x", "/y", func(r *abi.Request) { r.Arg[at] = uint64(i + 100) })
			if d := rs.Decide(r); d.Rule != int32(i) {
				t.Errorf("%s with gid %d: rule %d, want %d", e, i+100, d.Rule, i)
			}
		}
	}
}

// many is a file with rules of every kind that share words, and a request for each that
// it may match.
func many(rng *rand.Rand, n int) (string, []*abi.Request) {
	word := func() string { return fmt.Sprintf("w%d", rng.IntN(40)) }
	var b strings.Builder
	var requests []*abi.Request
	b.WriteString(head + "rules:\n")
	for i := range n {
		one, two, three := word(), word(), word()
		path, exe := "/"+one+"/"+two+"/"+three, "/usr/bin/"+word()
		uid, port := uint32(rng.IntN(50)), uint64(rng.IntN(50))
		low := uint64(rng.IntN(1 << 10))
		event, conditions := abi.EventOpen, ""
		switch rng.IntN(15) {
		case 0:
			conditions = "object: {path: " + path + "}"
		case 1:
			conditions = "object: {path: {prefix: /" + one + "/" + two + "}}"
		case 2:
			conditions = "object: {path: {prefix: /" + one + "/" + two + "/w}}"
		case 3:
			conditions = "object: {path: '/**/" + two + "/*" + three[1:] + "'}"
		case 4:
			conditions = "object: {path: '/*/" + two + "/?" + three[1:] + "'}"
		case 5:
			conditions = "object: {path: '/**/" + three + "'}"
		case 6:
			conditions = fmt.Sprintf("subject: {uid: [%d, %d-%d]}", uid, uid+7, uid+20)
		case 8:
			conditions = fmt.Sprintf("object: {path: [%s, '/*/%s/**']}, not: {subject: {uid: %d}}", path, two, uid)
		case 9:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {port: %d-%d, addr: \"::%x/%d\"}", port, port+uint64(rng.IntN(3)), low&^15, 124)
		case 10:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {port: %d}, subject: {cgroup: /a}", port)
		case 11:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {addr: \"::%x/%d\"}", low&^(1<<4-1), 124)
		default: // so many that those of one user are filed again by program
			uid, exe = uint32(rng.IntN(10)), fmt.Sprintf("/usr/bin/w%d", rng.IntN(10))
			conditions = fmt.Sprintf("object: {path: /%s/**}, subject: {uid: %d, exe: %s}", one, uid, exe)
		}
		fmt.Fprintf(&b, "- {id: r%d, events: [%s], %s, verdict: deny}\n", i, event, conditions)
		requests = append(requests, request(event, path, exe, func(r *abi.Request) {
			r.UID = uid
			r.Cgroup[0] = uint64(rng.IntN(3))
			if event == abi.EventConnect {
				r.Arg[0], r.Arg[1], r.Arg[5] = familyInet6, port, low
			}
		}))
	}
	return b.String(), requests
}

// Of thousands of rules, on requests that are made to match: the first one, whatever it is
// filed under and however deep.
func TestManyRulesAreTheReference(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 0))
		src, requests := many(rng, 2000)
		rs := mustLoad(t, src)
		deep := 0
		for _, n := range rs.nodes[1:] {
			if len(n.texts)+len(n.numbers) > 0 || n.nets != nil || n.cgroups != nil {
				deep++
			}
		}
		if deep < 3 {
			t.Errorf("of %d nodes %d have others below", len(rs.nodes), deep)
		}
		f, late := rs.parsed(), 0
		for _, r := range requests {
			got, want := rs.Decide(r).Rule, reference(f, r)
			if got != want {
				t.Fatalf("seed %d: rule %d, the reference says %d: %s %q by %q, uid %d, %v", seed, got, want, r.Event, r.Path(), r.Exe(), r.UID, r.Arg)
			}
			if want > 100 {
				late++
			}
		}
		if late < 200 {
			t.Errorf("only %d requests get past the first rules", late)
		}
	}
}

// Rules that nothing can be filed under are compared in the order of the file.
func TestRulesThatCannotBeFiled(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 3 * few {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], access: %s, not: {subject: {uid: %d-4000000000}}, verdict: deny}\n", i, []string{"read", "write"}[i%2], i)
	}
	rs := mustLoad(t, b.String())
	if rest := rs.lists[abi.EventOpen].root.rest; len(rest) != 3*few || !slices.IsSorted(rest) {
		t.Errorf("compared one after another: %v, want all %d", rest, 3*few)
	}
	for uid, want := range map[uint32]int32{0: 1, 1: 3, 2: 3, 3: 5, 100: -1} {
		r := request(abi.EventOpen, "/x", "/y", func(r *abi.Request) { r.UID, r.Access = uid, abi.AccessWrite })
		if d := rs.Decide(r); d.Rule != want {
			t.Errorf("uid %d: rule %d, want %d", uid, d.Rule, want)
		}
	}
}

// Lists multiply where rules share them. The work is bounded all the same, and so is what
// comes of it; the first match stays.
func TestListsDoNotMultiply(t *testing.T) {
	const groups, each, n = 10, few + 1, 200
	list := func(what string, of int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "/%s%d/%d, ", what, of, i)
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range groups * each { // the rules of a group share paths, those at one place in each group programs
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: [%s]}, subject: {exe: [%s]}, verdict: deny}\n", i, list("p", i/each), list("x", i%each))
	}
	rs := mustLoad(t, b.String())
	filed := 0
	count := func(slots []slot) {
		for _, s := range slots {
			if s.to != 0 {
				filed++
			}
		}
	}
	for _, n := range append(rs.nodes[1:], rs.lists[abi.EventOpen].root) {
		for _, x := range n.texts {
			count(x.wholes.slots)
		}
	}
	keys := moreKeys
	for i := range rs.all {
		keys += timesKeys * rs.keys(&rs.all[i])
	}
	if all := groups * each * n * n; filed > keys || all < 2*keys {
		t.Errorf("%d entries in %d nodes, want at most %d of %d", filed, len(rs.nodes), keys, all)
	}
	if filed < keys/4 {
		t.Errorf("%d entries: the bound of %d is not what ends it", filed, keys)
	}
	for i := range groups * each {
		r := request(abi.EventOpen, fmt.Sprintf("/p%d/%d", i/each, i), fmt.Sprintf("/x%d/%d", i%each, i), nil)
		if d := rs.Decide(r); d.Rule != int32(i) {
			t.Errorf("what rule %d is for: rule %d", i, d.Rule)
		}
	}
}

// Keys whose hashes are alike are found, each of them: hashes are short and not secret.
func TestEqualTags(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n- {id: a, events: [open], subject: {uid: 128178}, verdict: deny}\n- {id: b, events: [open], subject: {uid: 629919}, verdict: deny}\n")
	for i := range few {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], subject: {uid: %d}, verdict: deny}\n", i, i+1)
	}
	b.WriteString("- {id: c, events: [connect], args: {addr: '2001:db8::1'}, verdict: deny}\n- {id: d, events: [connect], args: {addr: '2001:db8:0:1:a648:86c2:b29a:ca08'}, verdict: deny}\n")
	for i := range few {
		fmt.Fprintf(&b, "- {id: n%d, events: [connect], args: {addr: '::%d'}, verdict: deny}\n", i, i+1)
	}
	rs := mustLoad(t, b.String())
	if uint32(spread(128178)) != uint32(spread(629919)) {
		t.Error("the tags of the two users differ: find others")
	}
	for uid, want := range map[uint32]int32{128178: 0, 629919: 1} {
		r := request(abi.EventOpen, "/x", "/y", func(r *abi.Request) { r.UID = uid })
		if d := rs.Decide(r); d.Rule != want {
			t.Errorf("uid %d: rule %d, want %d", uid, d.Rule, want)
		}
	}
	for text, want := range map[string]string{"2001:db8::1": "c", "2001:db8:0:1:a648:86c2:b29a:ca08": "d"} {
		r := request(abi.EventConnect, "", "/y", func(r *abi.Request) {
			r.Arg[0] = familyInet6
			r.Arg[4], r.Arg[5], _ = ParseAddr(text)
		})
		if d := rs.Decide(r); rs.RuleID(d.Rule) != want {
			t.Errorf("%s: rule %s, want %s", text, rs.RuleID(d.Rule), want)
		}
	}
}

// Of many rules the last ones about the event are explained.
func TestExplainMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 3 * mostSteps {
		fmt.Fprintf(&b, "- {id: r%d, events: [%s], object: {path: /f%d}, verdict: deny}\n", i, [...]string{"open", "exec"}[i%2], i)
	}
	rs := mustLoad(t, b.String())
	for name, tc := range map[string]struct {
		path        string
		first, last string
		steps, left int
	}{
		"decided early": {"/f10", "r0", "r10", 11, 0},
		"decided late":  {fmt.Sprintf("/f%d", 3*mostSteps-2), fmt.Sprintf("r%d", mostSteps), fmt.Sprintf("r%d", 3*mostSteps-2), mostSteps, 2*mostSteps - 1},
		"by none":       {"/x", fmt.Sprintf("r%d", mostSteps), fmt.Sprintf("r%d", 3*mostSteps-2), mostSteps, 2 * mostSteps},
	} {
		t.Run(name, func(t *testing.T) {
			x := rs.Explain(request(abi.EventOpen, tc.path, "/y", nil))
			if n := len(x.Steps); n != tc.steps || x.LeftOut != tc.left || x.Steps[0].Rule != tc.first || x.Steps[n-1].Rule != tc.last {
				t.Errorf("%d steps, %s to %s, %d left out; want %d, %s to %s, %d", n, x.Steps[0].Rule, x.Steps[n-1].Rule, x.LeftOut, tc.steps, tc.first, tc.last, tc.left)
			}
			for i, s := range x.Steps {
				if s.Matched != (s.Rule == x.Rule) {
					t.Errorf("step %d is %+v, the decisive rule %s", i, s, x.Rule)
				}
			}
		})
	}
}

// Any text is a demand that nothing can be filed under.
func TestAnyDetail(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 2 * few {
		fmt.Fprintf(&b, "- {id: r%d, events: [setxattr], detail: user.a%d, verdict: deny}\n", i, i)
	}
	b.WriteString("- {id: rest, events: [setxattr], detail: [user.x, '**'], verdict: deny}\n")
	rs := mustLoad(t, b.String())
	for _, name := range []string{"user.zzz", "", "user.x"} {
		r := request(abi.EventSetXattr, "/x", "/y", func(r *abi.Request) { r.DetailLen = uint32(copy(r.DetailBuf[:], name)) })
		if d := rs.Decide(r); rs.RuleID(d.Rule) != "rest" {
			t.Errorf("detail %q: rule %s, want rest", name, rs.RuleID(d.Rule))
		}
	}
}

// A path that names a part again and again does not have its rules compared as often.
func TestRepeatedParts(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 3 * manyParts {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: '/srv/**/x%03d*.so'}, verdict: deny}\n", i, i)
	}
	rs := mustLoad(t, b.String())
	var all strings.Builder
	for i := range 3 * manyParts {
		fmt.Fprintf(&all, "/x%03d", i)
	}
	for _, tc := range []struct {
		path string
		want int32
	}{
		{"/srv" + all.String() + "/y.so", -1},
		{"/srv" + all.String() + "/x100.so", 100},
		{"/srv" + strings.Repeat("/x007", 700) + "/y.so", -1},
		{"/srv" + strings.Repeat("/x007", 700) + "/x150.so", 150},
		{"/srv" + strings.Repeat("/x150", 700) + "/x007.so", 7},
	} {
		r := request(abi.EventOpen, tc.path, "/y", nil)
		if d := rs.Decide(r); d.Rule != tc.want {
			t.Errorf("a path of %d bytes: rule %d, want %d", len(tc.path), d.Rule, tc.want)
		}
		if n := testing.AllocsPerRun(10, func() { rs.Decide(r) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	// As much as a walk over those rules, and not seven hundred times that of one.
	once, often := request(abi.EventOpen, "/srv/"+strings.Repeat("a/", 1750)+"x007/y.so", "/y", nil), request(abi.EventOpen, "/srv"+strings.Repeat("/x007", 700)+"/y.so", "/y", nil)
	took := func(r *abi.Request) float64 {
		return float64(testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				rs.Decide(r)
			}
		}).NsPerOp())
	}
	if ratio := took(often) / took(once); ratio > 350 {
		t.Errorf("the part 700 times costs %.0f times as much as once", ratio)
	}
}
