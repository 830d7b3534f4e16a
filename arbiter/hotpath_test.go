// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// canned is a source that always has the next of a few requests.
type canned struct {
	paths []string
	exe   string
	n     int
}

func (c *canned) Next(r *abi.Request) bool {
	r.Event, r.Access, r.PostedNS, r.Flags = abi.EventOpen, abi.AccessRead, 0, 0
	r.PathLen = uint32(copy(r.PathBuf[:], c.paths[c.n%len(c.paths)]))
	r.ExeLen = uint32(copy(r.ExeBuf[:], c.exe))
	r.PostedNS = 1 << 62 // in the future: it has not waited
	c.n++
	return true
}
func (c *canned) Reply(*abi.Request, abi.Verdict) bool { return true }
func (c *canned) Hold(*abi.Request) bool               { return true }
func (c *canned) Park(time.Duration)                   {}
func (c *canned) Wake()                                {}

// one builds a worker that is driven by the test, without goroutines.
func one(t testing.TB, rs *rules.RuleSet, entries int, src Source) *worker {
	t.Helper()
	a, err := New(Config{Rules: rs, Workers: []Worker{{Source: src, CPU: -1}}, CacheEntries: entries})
	if err != nil {
		t.Fatal(err)
	}
	w := a.workers[0]
	w.adopt(a.current.Load())
	return w
}

func (w *worker) step() {
	w.source.Next(w.req)
	w.taken, w.missing, w.patience = true, 0, 0
	if w.live.canary != nil {
		w.choose()
	}
	w.counters.requests.Add(1)
	w.answer()
}

// manyRules returns a set of n rules of mixed kinds, none of which matches what
// canned sources ask.
func manyRules(t testing.TB, n int) *rules.RuleSet {
	var b strings.Builder
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n")
	for i := range n {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "  - {id: r%d, events: [open], object: {path: /t/lit/%d}, verdict: deny}\n", i, i)
		case 1:
			fmt.Fprintf(&b, "  - {id: r%d, events: [open], object: {path: {prefix: /t/pre/%d/}}, verdict: audit}\n", i, i)
		case 2:
			fmt.Fprintf(&b, "  - {id: r%d, events: [open], object: {path: /t/glob/%d/**/*.so}, verdict: deny}\n", i, i)
		case 3:
			fmt.Fprintf(&b, "  - {id: r%d, events: [open], subject: {uid: %d}, object: {path: {prefix: /t/}}, verdict: deny}\n", i, i+100)
		}
	}
	return mustRules(t, b.String(), 1)
}

// Nothing is allocated per verdict: hit, miss, refusal with its record, failure.
func TestNoAllocations(t *testing.T) {
	var many []string
	for i := range 64 {
		many = append(many, fmt.Sprintf("/t/some/%d", i))
	}
	for _, tc := range []struct {
		name    string
		paths   []string
		entries int
	}{
		{"hit", []string{"/t/some/path"}, 4096},
		{"decided without a cache", many, -1},
		{"decided with a cache that is too small", many, 4},
		{"refused and recorded", []string{"/t/secret"}, 4096},
		{"key too long to cache", []string{"/t/" + strings.Repeat("x", 4000)}, 4096},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := one(t, mustRules(t, testRules, 1), tc.entries, &canned{paths: tc.paths, exe: "/usr/bin/x"})
			if got := testing.AllocsPerRun(2000, w.step); got != 0 {
				t.Errorf("%v allocations per verdict, want 0", got)
			}
		})
	}
}

func TestJournalFullIsCounted(t *testing.T) {
	w := one(t, mustRules(t, testRules, 1), -1, &canned{paths: []string{"/t/secret"}})
	const n = 20_000 // more than fits, and nobody drains
	for range n {
		w.step()
	}
	dropped := w.counters.dropped.Load()
	if dropped == 0 || dropped >= n {
		t.Fatalf("%d of %d records dropped, want some", dropped, n)
	}
	kept := 0
	var e Event
	for {
		o, ok := w.journal.next(&e)
		if !ok {
			break
		}
		kept++
		if o.decision != 0 || e.Path != "/t/secret" || e.Verdict != "deny" {
			t.Fatalf("record %d: rule %d %+v", kept, o.decision, e)
		}
	}
	if uint64(kept)+dropped != n {
		t.Errorf("%d kept + %d dropped, want %d", kept, dropped, n)
	}
}

// Records of every length go through the journal's wrap-around unharmed.
func TestJournalWrapsAround(t *testing.T) {
	src := &canned{exe: "/bin/" + strings.Repeat("e", 100)}
	w := one(t, mustRules(t, "version: 1\ndefault: audit\nscope: {paths: [/t]}\n", 1), -1, src)
	var e Event
	for i := range 3000 {
		src.paths = []string{"/t/" + strings.Repeat(string(rune('a'+i%26)), i%4000)}
		w.step()
		if _, ok := w.journal.next(&e); !ok {
			t.Fatalf("record %d is not there", i)
		}
		if e.Path != src.paths[0] || e.Exe != src.exe {
			t.Fatalf("record %d: path %.20q, want %.20q", i, e.Path, src.paths[0])
		}
	}
}

func BenchmarkVerdict(b *testing.B) {
	var many []string
	for i := range 100_000 {
		many = append(many, fmt.Sprintf("/t/some/longer/path/with/a/few/parts/%d", i))
	}
	for _, bc := range []struct {
		name  string
		paths []string
		rules int
	}{
		{"hit", many[:100], 1000},
		{"miss/10 rules", many, 10},
		{"miss/1000 rules", many, 1000},
	} {
		b.Run(bc.name, func(b *testing.B) {
			w := one(b, manyRules(b, bc.rules), 4096, &canned{paths: bc.paths, exe: "/usr/bin/x"})
			b.ReportAllocs()
			for b.Loop() {
				w.step()
			}
		})
	}
}

// ending is a source that stops its arbiter when n requests are answered.
type ending struct {
	canned
	arbiter *Arbiter
	n       int
}

func (e *ending) Next(r *abi.Request) bool {
	if e.n == 0 {
		e.arbiter.stop.Store(true)
		return false
	}
	e.n--
	return e.canned.Next(r)
}

// The whole round of a worker, a cache hit each time.
func BenchmarkVerdictLoop(b *testing.B) {
	src := &ending{canned: canned{paths: []string{"/t/some/longer/path/with/a/few/parts"}, exe: "/usr/bin/x"}, n: b.N}
	w := one(b, manyRules(b, 1000), 4096, src)
	src.arbiter = w.arbiter
	b.ReportAllocs()
	b.ResetTimer()
	for !w.loop() {
	}
}
