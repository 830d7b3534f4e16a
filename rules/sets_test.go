// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A set says the same as its values where it is named.
func TestSetsAreTheirValues(t *testing.T) {
	var paths, nets, sums []string
	for i := range 200 { // long enough for whatever lists have of their own
		paths, nets = append(paths, fmt.Sprintf("/srv/f%d", i), fmt.Sprintf("{prefix: /srv/d%d}", i)), append(nets, fmt.Sprintf("10.%d.0.0/16", i))
		sums = append(sums, fmt.Sprintf("%064x", i))
	}
	lists := map[string]string{"paths": strings.Join(paths, ", "), "nets": strings.Join(nets, ", "), "sums": strings.Join(sums, ", "), "ids": "0, 1000-1999", "ports": "80, 443"}
	src := head + "sets:\n"
	for name, values := range lists {
		src += "  " + name + ": [" + values + "]\n"
	}
	src += `rules:
- {id: a, events: [open], object: {path: "@paths", sha256: "@sums"}, subject: {uid: "@ids", exe: ["@paths", /bin/sh]}, verdict: deny}
- {id: b, events: [connect], args: {addr: "@nets", port: "@ports"}, verdict: deny}
- {id: c, events: [open], not: {object: {path: "@paths", sha256: "@sums"}}, verdict: deny}
- {id: d, events: [exec], object: {sha256: "@sums"}, verdict: deny}
- {id: e, events: [connect], args: {addr: ["@nets", "::1"]}, verdict: deny}
`
	written := src
	for name, values := range lists {
		written = strings.ReplaceAll(written, `["@`+name+`", `, "["+values+", ")
		written = strings.ReplaceAll(written, `"@`+name+`"`, "["+values+"]")
	}
	set, plain := mustLoad(t, src), mustLoad(t, written)
	if set.Fingerprint() != plain.Fingerprint() {
		t.Error("the fingerprints differ")
	}
	if n := len(set.members); n != 2 { // the one of objects, and that of programs, which has one more
		t.Errorf("%d long lists are kept, want 2: rules share a set", n)
	}
	if n := len(set.addrs); n != 3 {
		t.Errorf("%d lists of networks are kept, want 2", n-1)
	}
	for i, s := range set.Sets() {
		if s.Line != set.Sets()[0].Line+i || s.Values != strings.Count(lists[s.Name], ",")+1 {
			t.Errorf("set %d: %+v", i, s)
		}
	}
	for i := range 230 {
		for _, path := range []string{fmt.Sprintf("/srv/f%d", i), fmt.Sprintf("/srv/d%d/x", i)} {
			for _, r := range []*abi.Request{
				request(abi.EventOpen, path, path, func(r *abi.Request) { r.Flags, r.Digest[31] = abi.FlagDigest, byte(i) }),
				request(abi.EventOpen, path, "/bin/sh", func(r *abi.Request) { r.UID = uint32(i) }),
				request(abi.EventConnect, "", path, func(r *abi.Request) {
					r.Arg = [abi.Args]uint64{2, 1, 6, 443, 0, 0xffff<<32 | 10<<24 | uint64(i)<<16 | 7}
				}),
			} {
				if got, want := set.Decide(r), plain.Decide(r); got != want {
					t.Fatalf("%s %s: %+v, with the values written out %+v", r.Event, path, got, want)
				}
			}
		}
	}
}

// A large set that many rules name does not multiply.
func TestManyRulesNameASet(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "sets:\n  paths:\n")
	const n, rules = 5000, 2000
	for i := range n {
		fmt.Fprintf(&b, "  - /srv/f%d\n", i)
	}
	b.WriteString("rules:\n")
	for i := range rules {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: '@paths'}, subject: {exe: /bin/x%d}, verdict: deny}\n", i, i)
	}
	rs := mustLoad(t, b.String())
	if got := len(rs.members); got != 1 {
		t.Errorf("%d long lists, want 1", got)
	}
	slots := 0
	for _, nd := range append(rs.nodes[1:], rs.lists[abi.EventOpen].root) {
		for _, x := range nd.texts {
			slots += len(x.wholes.slots)
		}
	}
	if most := 4 * (timesKeys*(n+2*rules) + moreKeys); slots > most {
		t.Errorf("%d places in tables, want at most %d", slots, most)
	}
	for _, i := range []int{0, 77, rules - 1} {
		if d := rs.Decide(request(abi.EventOpen, "/srv/f17", fmt.Sprintf("/bin/x%d", i), nil)); d.Rule != int32(i) {
			t.Errorf("rule %d, want %d", d.Rule, i)
		}
	}
}
