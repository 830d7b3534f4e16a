// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// epochSet returns a set whose one rule is named after its epoch and audits /t/x.
func epochSet(t testing.TB, epoch uint64) *rules.RuleSet {
	t.Helper()
	return mustRules(t, fmt.Sprintf("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n"+
		"  - {id: rule-%d, events: [open], object: {path: /t/x}, verdict: audit, message: message %[1]d}\n", epoch), epoch)
}

// checkNamed checks that e has the rule, message and fingerprint of its epoch.
func checkNamed(t testing.TB, e *Event, sets map[uint64]*rules.RuleSet) {
	t.Helper()
	want := sets[e.Epoch]
	if want == nil {
		t.Fatalf("event %d is of epoch %d, which was never installed", e.Seq, e.Epoch)
	}
	if e.Rule != fmt.Sprintf("rule-%d", e.Epoch) || e.Message != fmt.Sprintf("message %d", e.Epoch) || e.Line != 5 || e.Fingerprint != want.Fingerprint() {
		t.Fatalf("event %d of epoch %d: rule %q, line %d, message %q, fingerprint %x", e.Seq, e.Epoch, e.Rule, e.Line, e.Message, e.Fingerprint)
	}
}

// install puts rs in force in an arbiter that a test drives without goroutines.
func (w *worker) install(t testing.TB, rs *rules.RuleSet) {
	t.Helper()
	if err := w.arbiter.Install(t.Context(), rs, cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	w.adopt(w.arbiter.current.Load())
}

// A record is named by the set that made it, however many followed before it was
// collected, and a set is forgotten when none of its records can be left.
func TestRecordsKeepTheirRules(t *testing.T) {
	sets := map[uint64]*rules.RuleSet{}
	for epoch := uint64(1); epoch <= 20; epoch++ {
		sets[epoch] = epochSet(t, epoch)
	}
	w := one(t, sets[1], -1, &canned{paths: []string{"/t/x"}})
	s := w.arbiter.stream
	sub := w.arbiter.Subscribe(100, SubscribeOptions{})
	defer sub.Close()
	const rounds = 20
	for i := range rounds { // 1 2 1 3 1 4 ...: every push is rolled back at once
		w.step()
		w.install(t, sets[uint64(i)%19+2])
		w.step()
		w.install(t, sets[1])
	}
	if got := len(s.sets); got != 2*rounds+1 {
		t.Errorf("%d sets are remembered while all have records, want %d", got, 2*rounds+1)
	}
	drainAll(w.arbiter)
	for range 2 * rounds {
		checkNamed(t, receive(t, sub), sets)
	}
	w.install(t, sets[2])
	if got := len(s.sets); got != 2 {
		t.Errorf("%d sets are remembered when no record is left, want the current one and the one before", got)
	}

	// The last record taken is of an old set, one more of it waits.
	w.step()
	w.step()
	s.take(w)
	for epoch := uint64(3); epoch < 10; epoch++ {
		w.install(t, sets[epoch])
	}
	w.step()
	drainAll(w.arbiter)
	for _, want := range []uint64{2, 2, 9} {
		e := receive(t, sub)
		if checkNamed(t, e, sets); e.Epoch != want {
			t.Errorf("event %d is of epoch %d, want %d", e.Seq, e.Epoch, want)
		}
	}
}

// However fast sets are installed, no record loses its rule, and no more than maxSets
// are remembered.
func TestSetsAreBounded(t *testing.T) {
	first, other := epochSet(t, 1), epochSet(t, 2)
	sets := map[uint64]*rules.RuleSet{1: first, 2: other}
	w := one(t, first, -1, &canned{paths: []string{"/t/x"}})
	s := w.arbiter.stream
	sub := w.arbiter.Subscribe(5000, SubscribeOptions{})
	defer sub.Close()
	// Nobody collects, and each set has a record.
	const installs = 3 * maxSets
	for i := range installs {
		w.step()
		w.install(t, sets[uint64(i)%2+1])
		if got := len(s.sets); got > maxSets {
			t.Fatalf("%d sets are remembered, want at most %d", got, maxSets)
		}
	}
	// The worker hangs in a request while others are installed.
	for range installs {
		if err := w.arbiter.Install(t.Context(), first, cache.RulesPushed); err != nil {
			t.Fatal(err)
		}
		if got := len(s.sets); got > maxSets {
			t.Fatalf("%d sets are remembered, want at most %d", got, maxSets)
		}
	}
	w.step()
	w.install(t, other)
	w.step()
	drainAll(w.arbiter)
	for range installs + 2 {
		checkNamed(t, receive(t, sub), sets)
	}
}

// Sets are forgotten while workers poll or park.
func TestSetsAreForgotten(t *testing.T) {
	rs := epochSet(t, 1)
	for _, spin := range []time.Duration{-1, time.Hour} {
		t.Run(fmt.Sprintf("spin for %v", spin), func(t *testing.T) {
			a, k := start(t, 2, func(c *Config) { c.Rules, c.SpinFor = rs, spin })
			k.Ask(facts(abi.EventOpen, 0), "/t/x", "")
			for end := time.Now().Add(10 * time.Second); ; {
				if err := a.Install(t.Context(), rs, cache.RulesPushed); err != nil {
					t.Fatal(err)
				}
				a.stream.mu.Lock()
				number, got := a.current.Load().number, len(a.stream.sets)
				a.stream.mu.Unlock()
				if number > 20 && got == 2 {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%d sets are remembered, want the current one and the one before", got)
				}
			}
		})
	}
}

// The same with everything at work.
func TestRecordsKeepTheirRulesUnderLoad(t *testing.T) {
	sets := map[uint64]*rules.RuleSet{1: epochSet(t, 1), 2: epochSet(t, 2), 3: epochSet(t, 3)}
	a, k := start(t, 2, func(c *Config) { c.Rules = sets[1] })
	sub := a.Subscribe(1<<16, SubscribeOptions{})
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				k.Ask(facts(abi.EventOpen, 0), "/t/x", "")
			}
		})
	}
	for i := range uint64(100) {
		checkNamed(t, receive(t, sub), sets) // the requesters are at work
		if err := a.Install(t.Context(), sets[i%3+1], cache.RolledBack); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for e := range sub.C {
		checkNamed(t, e, sets)
	}
}
