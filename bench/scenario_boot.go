// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/rules"
)

const (
	bootPrefix = "boot-"
	// bootID is the row of the native queue.
	bootID = bootPrefix + "native"
	// FigureBoot is the name of the time that all asks of a boot take together,
	// nanoseconds, of BootEvents events, in the slowest round.
	FigureBoot = "boot_ns"
	// FigureMisses is the name of the share of asks that the workers' cache had not, the largest.
	FigureMisses = "cache_misses"
)

// Boot returns the scenarios of `arbiter-bench boot` in the order of their rounds: the queue and, of each
// opponent, what is best on the requester's own CPU and on another one, as in Load.
func Boot() []Scenario {
	list := []Scenario{bootScenario{}}
	for _, of := range []Scenario{openBaseline{}, fanotifyScenario{sameCPU: true}, fanotifyScenario{poll: true},
		getppidBaseline{}, seccompScenario{sameCPU: true, syncWakeUp: true}, seccompScenario{poll: true}} {
		list = append(list, bootTotal{of})
	}
	return list
}

// bootScenario asks for each event of a boot, one after another, through the native queue;
// the whole engine answers, and begins each round with nothing in its cache.
type bootScenario struct{}

func (bootScenario) Describe() Info {
	return Info{ID: bootID, Mechanism: NativeQueue, Responder: fmt.Sprintf("other CPU, %d rules, cold cache", nativeRules+1)}
}

func (bootScenario) Open(at Place) (Session, error) {
	return withNative(at, func(n *kernelbridge.Native) (Session, error) { return openBoot(n, at) })
}

func openBoot(n *kernelbridge.Native, at Place) (Session, error) {
	s := &bootSession{nativeSession: nativeSession{queue: n, cpu: at.Requester}, native: n}
	rs, err := s.rules()
	if err != nil {
		return nil, err
	}
	var want [abi.EventCount]abi.Fields
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		want[e] = rs.Consulted(e)
	}
	n.Configure(want, [abi.EventCount]abi.Verdict{})
	if s.engine, err = startEngine(sourcesOf(n), at, arbiter.Config{Rules: rs}); err != nil {
		return nil, err
	}
	return s, nil
}

// bootRules returns rules about all that a boot asks about: those of RuleSet, and one
// that looks at what each event has.
func bootRules() []byte {
	var events []string
	for _, m := range bootMix {
		if name := m.event.String(); !slices.Contains(events, name) {
			events = append(events, name)
		}
	}
	b := bytes.NewBuffer(RuleSet(nativeRules, "/srv/bench"))
	fmt.Fprintf(b, "  - {id: all-events, events: [%s], subject: {exe: /usr/bin/nobody, uid: 65534}, verdict: deny}\n", strings.Join(events, ", "))
	return b.Bytes()
}

type bootSession struct {
	nativeSession
	native *kernelbridge.Native
	epoch  uint64
}

// rules compiles the rules once more, as another set.
func (s *bootSession) rules() (*rules.RuleSet, error) {
	s.epoch++
	rs, err := rules.Load("boot.yaml", bootRules(), rules.Options{Epoch: s.epoch})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	return rs, nil
}

// bootLot is how many asks are made between two looks at the budget.
const bootLot = 1000

// Round is a boot of as many events as there are samples.
func (s *bootSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	rs, err := s.rules()
	if err != nil {
		return Outcome{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Budget)
	defer cancel()
	if err := s.engine.Install(ctx, rs, cache.RulesPushed); err != nil {
		return Outcome{}, fmt.Errorf("emptying the cache: %w", err)
	}
	trace := newBootTrace(len(samples))
	took := make([]uint64, len(samples))
	stats, misses := s.engine.Stats(), 0.0
	answered, err := s.answered()
	if err != nil {
		return Outcome{}, err
	}
	begin, done, total := time.Now(), 0, uint64(0)
	for done < len(took) && time.Since(begin) <= o.Budget {
		lot := took[done:min(done+bootLot, len(took))]
		if err := s.native.RunEach(s.cpu, lot, func(i int) { s.prepare(&trace.unique[trace.order[done+i]]) }); err != nil {
			return Outcome{}, err
		}
		done += len(lot)
	}
	for i, ns := range took[:done] {
		samples[i] = uint32(min(ns, math.MaxUint32))
		total += ns
	}
	after, err := s.answered()
	if err != nil {
		return Outcome{}, err
	}
	now := s.engine.Stats() // counted after the answer: one may be missing
	if requests := now.Requests - stats.Requests; requests > 0 {
		misses = 1 - float64(now.Hits-stats.Hits)/float64(requests)
	}
	return Outcome{Samples: done, Failed: done - (after - answered),
		Figures: map[string]float64{FigureBoot: perBoot(float64(total), done), FigureMisses: misses}}, nil
}

// answered returns how many asks have been answered so far.
func (s *bootSession) answered() (n int, err error) {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		c, err := s.native.Counts(e)
		if err != nil {
			return 0, err
		}
		n += int(c.Answered)
	}
	return n, nil
}

// perBoot is what n asks took, for as many as a boot has.
func perBoot(total float64, n int) float64 { return total / float64(max(n, 1)) * BootEvents }

func (s *bootSession) prepare(a *bootAsk) {
	s.native.SetQuestion(ring.Facts{Event: uint32(a.event), Access: uint32(a.access), Dev: 1, Ino: a.arg + 1, Mode: 0o100644,
		Arg: [abi.Args]uint64{a.arg}}, a.path, a.exe)
}

// bootTotal is another scenario, asked as often as a boot asks: what its asks are about does
// not matter to it.
type bootTotal struct{ of Scenario }

func (s bootTotal) Describe() Info {
	i := s.of.Describe()
	i.ID = bootPrefix + i.ID
	if i.Baseline != "" {
		i.Baseline = bootPrefix + i.Baseline
	}
	return i
}

func (s bootTotal) Open(at Place) (Session, error) {
	inner, err := s.of.Open(at)
	if err != nil {
		return nil, err
	}
	return bootTotalSession{inner}, nil
}

type bootTotalSession struct{ Session }

func (s bootTotalSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	out, err := s.Session.Round(o, samples)
	if err != nil {
		return out, err
	}
	if out.Samples == 0 {
		return out, errors.New("booting: no ask within the budget")
	}
	total := 0.0
	for _, ns := range samples[:out.Samples] {
		total += float64(ns)
	}
	out.Figures = map[string]float64{FigureBoot: perBoot(total, out.Samples)}
	return out, nil
}
