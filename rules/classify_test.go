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
		switch rng.IntN(12) {
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
		case 7:
			conditions = fmt.Sprintf("object: {path: /%s/**}, subject: {uid: %d, exe: %s}", one, uid, exe)
		case 8:
			conditions = fmt.Sprintf("object: {path: [%s, '/*/%s/**']}, not: {subject: {uid: %d}}", path, two, uid)
		case 9:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {port: %d-%d, addr: \"::%x/%d\"}", port, port+uint64(rng.IntN(3)), low&^15, 124)
		case 10:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {port: %d}, subject: {cgroup: /a}", port)
		case 11:
			event, conditions = abi.EventConnect, fmt.Sprintf("args: {addr: \"::%x/%d\"}", low&^(1<<4-1), 124)
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
		if len(rs.nodes) < 50 {
			t.Errorf("%d nodes: the rules are not filed below each other", len(rs.nodes))
		}
		late := 0
		for _, r := range requests {
			got, want := rs.Decide(r).Rule, reference(rs.file, r)
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
	var paths, b strings.Builder
	const n = 300
	for i := range n {
		fmt.Fprintf(&paths, "/p%d, ", i)
	}
	b.WriteString(head + "rules:\n")
	for i := range 5 * few {
		var uids, gids strings.Builder
		for j := range n {
			fmt.Fprintf(&uids, "%d, ", 2*(j*5*few+i))
			fmt.Fprintf(&gids, "%d, ", 2*(j*5*few+i))
		}
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: [%s]}, subject: {uid: [%s], gid: [%s]}, verdict: deny}\n", i, &paths, &uids, &gids)
	}
	rs := mustLoad(t, b.String())
	size := 0
	for _, n := range rs.nodes[1:] {
		size += len(n.rest)
		for _, x := range n.texts {
			size += len(x.wholes.slots)
		}
		for _, x := range n.numbers {
			size += len(x.values.slots)
		}
	}
	root := rs.lists[abi.EventOpen].rules
	if most := 4 * (maxDepth*rs.keys(root) + mostKeys); size > most {
		t.Errorf("%d entries in %d nodes, want at most %d", size, len(rs.nodes), most)
	}
	for i := range uint32(5 * few) {
		r := request(abi.EventOpen, "/p7", "/x", func(r *abi.Request) { r.UID, r.GID = 2*(9*5*few+i), 2*i })
		if d := rs.Decide(r); d.Rule != int32(i) {
			t.Errorf("the user of rule %d: rule %d", i, d.Rule)
		}
	}
}
