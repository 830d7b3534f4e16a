// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// What the kernel side says of paths is what abi.DecideKernel says, which the rules are compared
// with.
func TestNativeDecidesByPath(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: MaxWait})
	n.queue.arm(true)
	// Few letters and long names, so that much begins alike and words of eight bytes end anywhere.
	text := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"/", "a", "/a", "b", "/usr/lib", "\x80", "abcdefg", strings.Repeat("/x", 40)}), 1, 6),
		func(parts []string) string { return "/" + strings.Join(parts, "") })
	pattern := rapid.Custom(func(t *rapid.T) abi.KernelPattern {
		s := text.Draw(t, "text")
		return abi.KernelPattern{Text: s[:min(len(s), abi.KernelPatternBytes)], Kind: rapid.SampledFrom([]abi.PatternKind{abi.PatternWhole, abi.PatternBelow, abi.PatternWithin}).Draw(t, "kind")}
	})
	rule := rapid.Custom(func(t *rapid.T) abi.KernelRule {
		r := abi.KernelRule{Errno: rapid.SampledFrom([]uint16{0, 0, 0, 13}).Draw(t, "errno")}
		if rapid.IntRange(0, 3).Draw(t, "about access") == 0 {
			r.Tests = []abi.KernelTest{{Field: abi.KernelAccess, Mask: 3, Low: 1, High: rapid.Uint64Range(1, 3).Draw(t, "high")}}
		}
		if rapid.IntRange(0, 5).Draw(t, "about paths") > 0 {
			r.Paths = rapid.SliceOfN(pattern, 1, 4).Draw(t, "paths")
		}
		return r
	})
	decided, asked := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var rules [abi.EventCount][]abi.KernelRule
		for _, e := range []abi.Event{abi.EventOpen, abi.EventUnlink} {
			rules[e] = rapid.SliceOfN(rule, 0, 4).Draw(t, e.String())
			if len(rules[e]) == 4 { // the last bit that there is
				rules[e] = append(slices.Repeat([]abi.KernelRule{{Errno: 1, Paths: []abi.KernelPattern{{Text: "/never"}}}}, abi.MaxKernelRules-4), rules[e]...)
			}
			for i := range rules[e] {
				rules[e][i].Rule = int32(i)
			}
		}
		if err := n.Decide(rules); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			path := text.Draw(t, "path")
			if all := slices.Concat(rules[abi.EventOpen], rules[abi.EventUnlink]); len(all) > 0 && rapid.Bool().Draw(t, "begins as a pattern") {
				if r := rapid.SampledFrom(all).Draw(t, "of rule"); len(r.Paths) > 0 {
					path = r.Paths[0].Text + rapid.SampledFrom([]string{"", "a", "/a", "a/a", "/"}).Draw(t, "end")
				}
			}
			if rapid.IntRange(0, 20).Draw(t, "unknown") == 0 {
				path = ""
			}
			f := ring.Facts{Event: uint32(rapid.SampledFrom([]abi.Event{abi.EventOpen, abi.EventUnlink}).Draw(t, "event")), Access: uint32(rapid.Uint32Range(0, 3).Draw(t, "access"))}
			n.SetQuestion(f, path, "")
			got, ok, err := n.RunDecided(-1, make([]uint64, 1))
			if err != nil {
				t.Fatal(err)
			}
			r := &abi.Request{Event: abi.Event(f.Event), Access: abi.Access(f.Access)}
			r.PathLen = uint32(copy(r.PathBuf[:], path))
			want, wantOK := abi.DecideKernel(rules[f.Event], r)
			if wantOK {
				decided++
			} else {
				asked++
			}
			if ok != wantOK || ok && got.Errno != want.Errno {
				t.Fatalf("%s of %q: decided %t with %v, want %t with errno %d; rules %+v", r.Event, path, ok, got, wantOK, want.Errno, rules[f.Event])
			}
		}
	})
	if decided == 0 || asked == 0 {
		t.Errorf("%d were decided and %d asked about: want some of either", decided, asked)
	}
	t.Attr("seen", fmt.Sprintf("%d paths decided in the kernel, %d left to workers", decided, asked))
}

// An allow by path holds for the rules that the slot was claimed under alone, and while nobody
// watches allows and the daemon lives.
func TestNativeDecidesByPathOrAsks(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: MaxWait})
	var rules [abi.EventCount][]abi.KernelRule
	rules[abi.EventExec] = []abi.KernelRule{{Paths: []abi.KernelPattern{{Text: "/usr/", Kind: abi.PatternBelow}}}}
	if err := n.Decide(rules); err != nil {
		t.Fatal(err)
	}
	n.SetQuestion(ring.Facts{Event: uint32(abi.EventExec), Access: uint32(abi.AccessExec)}, "/usr/bin/true", "")
	h := n.queue.Header()
	for _, tc := range []struct {
		name     string
		set      func(on uint32)
		epochOff uint64
		decided  bool
	}{
		{"as it is", func(uint32) {}, 0, true},
		{"claimed under other rules", func(uint32) {}, 1, false},
		{"watched", func(on uint32) { h.Watched = on }, 0, false},
		{"a dead daemon", func(on uint32) { h.Dead = on }, 0, false},
	} {
		tc.set(1)
		n.question.Facts.Epoch = h.Epoch + tc.epochOff
		last, err := n.run(n.objs.ArbNativeDecided, -1, make([]uint64, 1))
		if err != nil || (last <= 0) != tc.decided {
			t.Errorf("%s: got %d, %v, want it decided: %t", tc.name, last, err, tc.decided)
		}
		tc.set(0)
	}
}

// How long the kernel side takes for a path, of one rule and of all that fit.
func TestNativeDecidesInTime(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: MaxWait})
	n.queue.arm(true)
	for _, many := range []bool{false, true} {
		var rules [abi.EventCount][]abi.KernelRule
		if many {
			for i := range abi.MaxKernelRules - 1 {
				r := abi.KernelRule{Rule: int32(i)}
				for k := range abi.MaxKernelPatterns/abi.MaxKernelRules - 1 {
					r.Paths = append(r.Paths, abi.KernelPattern{Text: fmt.Sprintf("/%s/%02d%02d/", strings.Repeat("d", i%15), i, k), Kind: abi.PatternBelow})
				}
				rules[abi.EventExec] = append(rules[abi.EventExec], r)
			}
		}
		rules[abi.EventExec] = append(rules[abi.EventExec], abi.KernelRule{Rule: 100, Paths: []abi.KernelPattern{{Text: "/usr/lib/", Kind: abi.PatternBelow}}})
		if err := n.Decide(rules); err != nil {
			t.Fatal(err)
		}
		n.SetQuestion(ring.Facts{Event: uint32(abi.EventExec), Access: uint32(abi.AccessExec)}, "/usr/lib/x86_64-linux-gnu/libexec/program", "")
		took := make([]uint64, 20_000)
		if v, ok, err := n.RunDecided(-1, took); !ok || v.Errno != 0 || err != nil {
			t.Fatalf("decided %t with %v, %v; want an allow", ok, v, err)
		}
		slices.Sort(took)
		p50 := time.Duration(took[len(took)/2])
		if p50 > 20*time.Microsecond {
			t.Errorf("p50 %v of %d rules", p50, len(rules[abi.EventExec]))
		}
		t.Attr("seen", fmt.Sprintf("%d rules about paths in the kernel: p50 %v, p99 %v", len(rules[abi.EventExec]), p50, time.Duration(took[len(took)*99/100])))
	}
}
