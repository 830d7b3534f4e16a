// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// manyRules is a rule set as an operator writes them, none of which matches
// /srv/app/data/file.
func manyRules(n int, kind string) string {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range n {
		pattern := fmt.Sprintf("/srv/app/data/f%03d", i)
		switch {
		case kind == "prefix" || kind == "mixed" && i%3 == 1:
			pattern = fmt.Sprintf("{prefix: /srv/app/d%d/}", i)
		case kind == "glob" || kind == "mixed" && i%3 == 2:
			pattern = fmt.Sprintf("'/srv/**/x%d*.so'", i)
		}
		fmt.Fprintf(&b, "- {id: r%d, events: [open, exec], object: {path: %s}, subject: {uid: [0, 1000-1999]}, verdict: deny}\n", i, pattern)
	}
	return b.String()
}

// BenchmarkDecide is one decision that no rule matches, the longest one.
func BenchmarkDecide(b *testing.B) {
	for _, kind := range []string{"literal", "prefix", "glob", "mixed"} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				rs := mustLoad(b, manyRules(n, kind))
				r := request(abi.EventOpen, "/srv/app/data/file", "/usr/bin/cat", nil)
				b.ReportAllocs()
				for b.Loop() {
					if d := rs.Decide(r); d.Rule != -1 {
						b.Fatalf("got rule %d, want the default", d.Rule)
					}
				}
			})
		}
	}
}

// BenchmarkDecideAmong is one decision that no rule matches, by up to as many rules as a file
// can have.
func BenchmarkDecideAmong(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000, MaxRules} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			decideAmong(b, amongRules(b, n))
		})
	}
}

// BenchmarkFew is where few comes from: the same decision by rules that are filed, and that
// are compared one after another.
func BenchmarkFew(b *testing.B) {
	for _, n := range []int{2, 4, 8, 12, 16, 32} {
		for name, few := range map[string]int{"filed": 1, "compared": n} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				rs := amongRules(b, n)
				for e := range rs.lists {
					rs.lists[e].root = nil
				}
				rs.classify(few)
				decideAmong(b, rs)
			})
		}
	}
}

// amongRules are n rules about open, in turns literal, prefix and glob.
func amongRules(b *testing.B, n int) *RuleSet {
	var src strings.Builder
	src.WriteString(head + "rules:\n")
	for i := range n {
		pattern := [...]string{"/srv/app/data/f%d", "{prefix: /srv/app/d%d/}", "'/srv/**/x%d*.so'"}[i%3]
		fmt.Fprintf(&src, "- {id: r%d, events: [open], object: {path: "+pattern+"}, verdict: deny}\n", i, i)
	}
	return mustLoad(b, src.String())
}

// decideAmong is one decision that none of amongRules matches.
func decideAmong(b *testing.B, rs *RuleSet) {
	r := request(abi.EventOpen, "/srv/app/data/file/and/some/more/of/it.conf", "/usr/bin/cat", nil)
	b.ReportAllocs()
	for b.Loop() {
		if d := rs.Decide(r); d.Rule != -1 {
			b.Fatalf("got rule %d, want the default", d.Rule)
		}
	}
}

// BenchmarkGlob is one pattern on one path.
func BenchmarkGlob(b *testing.B) {
	path := []byte("/usr/lib/x86_64-linux-gnu/perl5/5.36/auto/List/Util/Util.so")
	for _, pattern := range []string{"/usr/lib/**", "/usr/**/*.so", "/usr/lib/*/perl5/**/[A-Z]*/Util.so", "/usr/{lib,lib64,share}/**/{Util,Tools}.so",
		"/**/{a,b,c,d,e,f}*.so*"} {
		b.Run(strings.ReplaceAll(pattern, "/", "|"), func(b *testing.B) {
			g, err := compileGlob(pattern)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.match(path)
			}
		})
	}
}

// BenchmarkLoad is a push without the network, of a usual size and of the most
// rules that are read.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1000, 100_000, MaxRules} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			src := []byte(manyRules(n, "literal"))
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load("f.yaml", src, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecideMixed is a decision by rules of many kinds, for requests of which most match one of
// them, anywhere in the file: nothing of it is in the caches of the CPU, as it is when verdicts are
// rare.
func BenchmarkDecideMixed(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000, MaxRules} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rs, err := Load("f.yaml", mixedRules(n), Options{})
			if err != nil {
				b.Fatal(err)
			}
			requests := mixedRequests(n)
			runtime.GC() // what compiling left
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				rs.Decide(requests[i%len(requests)])
			}
		})
	}
}

// mixedRequests are requests for mixedRules(n), one in eight of which none matches.
func mixedRequests(n int) []*abi.Request {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]*abi.Request, 1024)
	for k := range out {
		i := rng.IntN(max(n/6, 1)) * 6
		name := func(of string) string { return fmt.Sprintf(of, i+k%6) }
		switch {
		case k%8 == 7:
			out[k] = request(abi.EventOpen, "/srv/app/lib/file/and/some/more/of/it.conf", "/usr/bin/cat", nil)
		case k%6 == 0:
			out[k] = request(abi.EventExec, name("/usr/lib/app/bin/tool-%d"), "/usr/bin/cat", nil)
		case k%6 == 1:
			out[k] = request(abi.EventOpen, name("/srv/app/data/d%d/file"), "/usr/bin/cat", nil)
		case k%6 == 2:
			out[k] = request(abi.EventOpen, name("/srv/app/lib/x%d.1.so"), "/usr/bin/cat", nil)
		case k%6 == 3:
			out[k] = request(abi.EventConnect, "", "/usr/bin/cat", func(r *abi.Request) {
				r.Arg = [abi.Args]uint64{familyInet6, 1, 6, 443, 0x20010db8 << 32, uint64(i+3) & 0xffff}
			})
		case k%6 == 4:
			out[k] = request(abi.EventOpen, name("/home/user/.config/f%d"), "/usr/bin/cat", nil)
		default:
			out[k] = request(abi.EventOpen, "/srv/app/lib/file", name("/usr/bin/program-%d"), func(r *abi.Request) { r.Access = abi.AccessWrite })
		}
	}
	return out
}
