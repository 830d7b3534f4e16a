// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// installCanary is install of a second set.
func (w *worker) installCanary(t testing.TB, c *Canary) {
	t.Helper()
	if err := w.arbiter.InstallCanary(t.Context(), c, cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	w.adopt(w.arbiter.current.Load())
}

// answered is a source that keeps the answer.
type answered struct {
	given
	verdict abi.Verdict
}

func (a *answered) Reply(_ *abi.Request, v abi.Verdict) bool {
	a.verdict = v
	return true
}

// canarySets are a set, one that looks at other facts, and one that looks at the same and says
// something else.
func canarySets(t testing.TB) [3]*rules.RuleSet {
	const head = "version: 1\ndefault: audit\nscope: {paths: [/t]}\nevents: [open, exec]\nrules:\n"
	const first = head + "  - {id: a-path, events: [open], object: {path: /t/1}, verdict: {deny: EACCES}}\n"
	return [3]*rules.RuleSet{
		mustRules(t, first, 1),
		mustRules(t, head+"  - {id: b-uid, events: [open], subject: {uid: 1}, verdict: {deny: EBUSY}}\n"+
			"  - {id: b-exe, events: [exec], subject: {exe: /b}, verdict: {deny: EXDEV}}\n", 2),
		mustRules(t, strings.Replace(first, "EACCES", "ENOENT", 1), 3),
	}
}

// Each request is decided by exactly the set that its subject belongs to, from the cache or
// not, whatever canaries come and go; and its record says so.
func TestCanaryDecidesItsPart(t *testing.T) {
	sets := canarySets(t)
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		src := &answered{}
		w := one(t, sets[0], rapid.SampledFrom([]int{-1, 4, 4096}).Draw(rt, "cache"), src)
		live, canary := sets[0], (*Canary)(nil)
		var e Event
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "do") {
			case 0:
				canary = &Canary{Rules: sets[rapid.IntRange(1, 2).Draw(rt, "set")], Part: Part{
					Share: ShareOf(rapid.SampledFrom([]float64{1, 50, 99}).Draw(rt, "percent")), Seed: rapid.Uint64().Draw(rt, "seed")}}
				if rapid.Bool().Draw(rt, "by cgroup") {
					canary.Part.Cgroup = rapid.Uint64Range(1, 3).Draw(rt, "cgroup")
				}
				w.installCanary(t, canary)
				continue
			case 1:
				canary = nil
				w.installCanary(t, nil)
				continue
			}
			r := &src.r
			*r = abi.Request{Event: rapid.SampledFrom([]abi.Event{abi.EventOpen, abi.EventExec}).Draw(rt, "event"), Have: abi.AllFields,
				TGID: rapid.Uint32Range(1, 20).Draw(rt, "tgid"), StartBoottime: rapid.Uint64().Draw(rt, "start"), UID: rapid.Uint32Range(0, 1).Draw(rt, "uid")}
			for i := range rapid.IntRange(0, 2).Draw(rt, "levels") {
				r.Cgroup[i] = rapid.Uint64Range(1, 4).Draw(rt, "level")
			}
			src.path(rapid.SampledFrom([]string{"/t/1", "/t/2"}).Draw(rt, "path"))
			src.exe(rapid.SampledFrom([]string{"/a", "/b"}).Draw(rt, "exe"))
			set, part := live, "the set in force"
			if canary != nil && canary.Part.Has(r.TGID, &r.Cgroup) {
				set, part = canary.Rules, "the canary"
			}
			want := set.Decide(r)
			w.step()
			if src.verdict.Errno != want.Verdict.Errno {
				rt.Fatalf("%+v: got %+v, want errno %d by %s", r, src.verdict, want.Verdict.Errno, part)
			}
			o, ok := w.journal.next(&e)
			if !ok {
				rt.Fatal("no record")
			}
			w.arbiter.stream.mu.Lock()
			w.arbiter.stream.name(&e, o)
			w.arbiter.stream.mu.Unlock()
			if e.Epoch != set.Epoch() || e.Rule != set.RuleID(want.Rule) || e.Fingerprint != set.Fingerprint() {
				rt.Fatalf("the record has epoch %d, rule %q, want %d, %q", e.Epoch, e.Rule, set.Epoch(), set.RuleID(want.Rule))
			}
			if e.Cached {
				part += ", cached"
			}
			seen[part]++
		}
	})
	for _, what := range []string{"the set in force", "the canary", "the set in force, cached", "the canary, cached"} {
		if seen[what] == 0 {
			t.Errorf("nothing was decided by %s: %v", what, seen)
		}
	}
}

// What is allowed for the set in force must not be kept for the part of the canary, nor the
// other way round.
func TestNothingIsKeptBesideACanary(t *testing.T) {
	sets := [2]*rules.RuleSet{}
	for i := range sets {
		sets[i] = mustRules(t, "version: 1\ndefault: allow\nscope: {paths: [/t]}\nevents: [open]\n", uint64(i)+1)
	}
	src := &answered{}
	src.r = abi.Request{Event: abi.EventOpen}
	src.path("/t/1")
	w := one(t, sets[0], 4096, src)
	canary := &Canary{Rules: sets[1], Part: Part{Share: ShareOf(50), Seed: 1}}
	for i, c := range []*Canary{nil, canary, nil} {
		w.installCanary(t, c)
		for src.r.TGID = range 20 {
			if w.step(); src.verdict.Keep != (c == nil) {
				t.Fatalf("step %d, process %d: kept %t, want %t", i, src.r.TGID, src.verdict.Keep, c == nil)
			}
		}
	}
}

// A share is about what it says, and the same process is always in it or never.
func TestPartIsAShare(t *testing.T) {
	for _, percent := range []float64{0, 1, 5, 50, 99.9, 100} {
		p := Part{Share: ShareOf(percent), Seed: 7}
		const n = 100_000
		in := 0
		for tgid := range uint32(n) {
			if p.Has(tgid, &[abi.CgroupLevels]uint64{9}) {
				in++
			}
		}
		if got := float64(in) * 100 / n; got < percent-0.5 || got > percent+0.5 {
			t.Errorf("%v%%: %v%% of the processes are in it", percent, got)
		}
	}
}

func TestCanaryAllocatesNothing(t *testing.T) {
	sets := canarySets(t)
	src := &answered{}
	src.r = abi.Request{Event: abi.EventOpen}
	src.path("/t/1")
	w := one(t, sets[0], 4096, src)
	w.installCanary(t, &Canary{Rules: sets[1], Part: Part{Share: ShareOf(50), Seed: 1}})
	if got := testing.AllocsPerRun(2000, func() { src.r.TGID++; w.step() }); got != 0 {
		t.Errorf("%v allocations per verdict, want 0", got)
	}
}

// The two sets must be told apart.
func TestCanaryNeedsAnEpoch(t *testing.T) {
	a, _ := start(t, 1, nil)
	for name, c := range map[string]*Canary{"no rules": {}, "the epoch in force": {Rules: mustRules(t, testRules, 1)}} {
		if err := a.InstallCanary(t.Context(), c, cache.RulesPushed); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	a.Close()
	if err := a.InstallCanary(t.Context(), nil, cache.RulesPushed); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// Under load, with parked and polling workers: no verdict of a set before is given to a part
// once the change has returned. Odd process numbers belong to the canaries.
func TestCanaryIsInForce(t *testing.T) {
	// A seed and a share that tell two processes apart.
	part := Part{Share: ShareOf(50)}
	for part.Seed = 1; part.Has(2, &[abi.CgroupLevels]uint64{}) || !part.Has(1, &[abi.CgroupLevels]uint64{}); part.Seed++ {
	}
	epochRules := func(epoch uint64) *rules.RuleSet {
		return mustRules(t, fmt.Sprintf("version: 1\ndefault: {deny: %d}\ndeadline: 1m\nscope: {paths: [/t]}\n", epoch), epoch)
	}
	for _, spin := range []time.Duration{-1, time.Hour} {
		t.Run(fmt.Sprintf("spin for %v", spin), func(t *testing.T) {
			a, k := start(t, 2, func(c *Config) { c.SpinFor, c.Rules = spin, epochRules(1) })
			ask := func(tgid uint32) ringtest.Answer {
				return k.Ask(ring.Facts{Event: uint32(abi.EventOpen), TGID: tgid}, "/t/x", "")
			}
			// The epochs by which each may be decided: in force before and after.
			var least, most [3]atomic.Uint64
			for i := range least {
				least[i].Store(1)
				most[i].Store(1)
			}
			var stop atomic.Bool
			var wg sync.WaitGroup
			for i := range 4 {
				tgid := uint32(i%2 + 1)
				wg.Go(func() {
					for !stop.Load() {
						low := least[tgid].Load()
						got := ask(tgid)
						if epoch := uint64(got.Errno); got.Reason != abi.ReasonNone || epoch < low || epoch > most[tgid].Load() {
							t.Errorf("process %d: %+v, want an epoch from %d to %d", tgid, got, low, most[tgid].Load())
							return
						}
					}
				})
			}
			for epoch := uint64(2); epoch < 40; epoch++ {
				next := epochRules(epoch)
				most[1].Store(epoch)
				if err := a.InstallCanary(t.Context(), &Canary{Rules: next, Part: part}, cache.RulesPushed); err != nil {
					t.Error(err)
					break
				}
				least[1].Store(epoch)
				if in, out := ask(1), ask(2); uint64(in.Errno) != epoch || uint64(out.Errno) != most[2].Load() {
					t.Errorf("canary %d beside %d: got %+v and %+v", epoch, most[2].Load(), in, out)
				}
				if epoch%3 != 0 {
					continue
				}
				most[2].Store(epoch)
				if err := a.Install(t.Context(), next, cache.RulesPushed); err != nil { // promoted
					t.Error(err)
					break
				}
				least[2].Store(epoch)
				if out := ask(2); uint64(out.Errno) != epoch {
					t.Errorf("epoch %d is in force: got %+v", epoch, out)
				}
			}
			stop.Store(true)
			wg.Wait()
		})
	}
}

// A held request is of its part when it comes back, too, whoever was answered meanwhile; and
// it is decided by what is in force then.
func TestCanaryAndHeldRequests(t *testing.T) {
	second := strings.NewReplacer("{deny: EIO}", "{deny: ENODEV}", "{deny: EACCES}", "{deny: EBUSY}").Replace(knownRules)
	part := Part{Cgroup: 5}
	for _, tc := range []struct {
		name       string
		known, end bool
		want       unix.Errno
	}{
		{"the canary's verdict", true, false, unix.EBUSY},
		{"its failure verdict", false, false, unix.ENODEV},
		{"the canary has ended", true, true, unix.EACCES},
		{"the canary has ended, and it fails", false, true, unix.EIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHasher()
			a, k := startHolding(t, h, nil)
			if err := a.InstallCanary(t.Context(), &Canary{Rules: mustRules(t, second, 2), Part: part}, cache.RulesPushed); err != nil {
				t.Fatal(err)
			}
			k.Header().WaitNS = uint64(30 * time.Second)
			exec := &asking{t, make(chan ringtest.Answer, 1)}
			go func() {
				exec.done <- k.Ask(ring.Facts{Event: uint32(abi.EventExec), TGID: 1, Cgroup: [abi.CgroupLevels]uint64{4, 5}}, "/t/x", "/bin/sh")
			}()
			held := h.next(t)
			if tc.end {
				if err := a.InstallCanary(t.Context(), nil, cache.RolledBack); err != nil {
					t.Fatal(err)
				}
			}
			askFor(t, k, abi.EventOpen, "/t/y").want(0) // of the other part
			held.Content(digest(otherSum, tc.known))
			exec.want(tc.want)
		})
	}
}
