// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

const (
	// canaryBuffer is how many events may wait to be looked at: a second of those that one
	// can be asked about.
	canaryBuffer = 16384
	// canaryLeast is the number of decisions that a rate is of at least: the first refusal
	// is no rate of 100 %.
	canaryLeast = 100
	// The bounds of CanaryStart.For.
	minCanaryFor = time.Second
	maxCanaryFor = 720 * time.Hour
	// DefaultCanaryRate is that of MaxDenyRate and MaxFailureRate.
	DefaultCanaryRate = 0.01
)

// CanaryStart says for whom pushed rules decide, for how long, and what ends them before.
type CanaryStart struct {
	Percent float64 // of all processes; 0: those in Cgroup
	Cgroup  string
	For     time.Duration // then it is promoted, if nothing stands against it
	// MaxDenyRate is by how much of its decisions it may refuse more than the set in force
	// would; MaxFailureRate of how much there may be no decision.
	MaxDenyRate, MaxFailureRate float64
	MaxLatency                  time.Duration // of the 99th percentile; 0: whatever it is
	MinDecisions                uint64        // to be promoted by itself; 0 means 1
}

// canary is a set that decides for a part, and how it fares. The workers know nothing of the
// latter: their records are read like those of any watcher, and the set in force is asked
// about them again, too.
type canary struct {
	CanaryStart
	name        string
	uid         uint32
	set, beside *rules.RuleSet
	part        arbiter.Part
	sub         *arbiter.Subscription
	lostBefore  func() uint64 // events that were lost for all who watch
	base        uint64        // of that, at the start
	started     time.Time
	until       time.Time
	stop        chan struct{}

	mu         sync.Mutex
	tally      *trial.Tally // of the set in force, asked about the canary's decisions
	looked     uint64       // events, of either part
	seen       uint64       // answers to its part
	refused    uint64       // decisions that were compared, and refuse
	untold     uint64       // that refuse and could not be compared
	unanswered uint64       // failure verdicts of the kernel side to its part
	slow       uint64       // above MaxLatency
	lost       uint64
	trouble    string // what has ended it, as soon as it was seen
	ended      string // why; empty: it runs
	endedAt    time.Time
	promoted   bool
}

func newCanary(p *Push, set, beside *rules.RuleSet, part arbiter.Part) *canary {
	c := &canary{CanaryStart: *p.Canary, name: p.Name, uid: p.UID, set: set, beside: beside, part: part, stop: make(chan struct{})}
	c.MinDecisions = max(c.MinDecisions, 1)
	c.tally = trial.NewTally(trial.New(beside, trial.Options{SameScope: true, Cgroups: true}))
	return c
}

// run looks at events until the canary ends; sick is called once, when it is to end at once.
func (c *canary) run(sick func()) {
	for {
		select {
		case <-c.stop:
			return
		case e, ok := <-c.sub.C:
			if !ok {
				return // it ends with the daemon
			}
			if c.add(e) {
				sick()
			}
		}
	}
}

// add looks at one event; true: it was the one too many.
func (c *canary) add(e *arbiter.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked++
	switch {
	case e.Epoch == c.set.Epoch():
		c.seen++
		if c.MaxLatency > 0 && e.Latency > c.MaxLatency {
			c.slow++
		}
		refuses := e.Verdict == rules.Deny.String() || e.Verdict == rules.Kill.String()
		switch c.tally.Add(e) {
		case trial.Unknown:
			if refuses {
				c.untold++
			}
		case trial.NoDecision:
		default:
			if refuses {
				c.refused++
			}
		}
	case e.Epoch == 0 && e.Reason != abi.ReasonNone && e.Worker < 0 && e.Time.After(c.started) && c.part.Has(e.TGID, &e.Cgroup):
		c.unanswered++
	default:
		return false // of the other part
	}
	if c.trouble != "" || c.ended != "" {
		return false
	}
	c.trouble = c.excess()
	return c.trouble != ""
}

// excess says which limit is passed, "" for none. mu is held.
func (c *canary) excess() string {
	rate := func(limit float64, of uint64) float64 { return limit * float64(max(of, canaryLeast)) }
	more := float64(c.tally.Changes[trial.DenyToAllow]) - float64(c.tally.Changes[trial.AllowToDeny]) + float64(c.untold)
	failed := max(c.tally.Failed(), c.unanswered) // a late answer has one of each
	switch decided := c.tally.Decided + c.untold; {
	case more > rate(c.MaxDenyRate, decided):
		return fmt.Sprintf("it refuses %.0f more of %d decisions than epoch %d would, at most %v of them may be", more, decided, c.beside.Epoch(), c.MaxDenyRate)
	case float64(failed) > rate(c.MaxFailureRate, c.seen):
		return fmt.Sprintf("%d failure verdicts and late answers beside %d answers, at most %v of them may be", failed, c.seen, c.MaxFailureRate)
	case float64(c.slow) > rate(0.01, c.seen):
		return fmt.Sprintf("%d of %d answers took longer than %v, at most 1 in 100 may", c.slow, c.seen, c.MaxLatency)
	}
	return ""
}

// countLoss notices events that did not come. mu is held.
func (c *canary) countLoss() {
	if c.ended == "" {
		c.lost = max(c.lost, c.sub.Dropped()+c.lostBefore()-c.base)
	}
}

// against returns why it is not to be promoted by itself, "" when nothing stands against it.
func (c *canary) against() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble != "" {
		return c.trouble
	}
	return strings.Join(c.blocked(), "; ")
}

// blocked returns what stands against a promotion by itself now, in words; mu is held.
func (c *canary) blocked() (out []string) {
	c.countLoss()
	if c.trouble != "" {
		out = append(out, c.trouble)
	}
	if n := c.tally.Decided; n < c.MinDecisions {
		out = append(out, fmt.Sprintf("it has made %d decisions, and %d are wanted, for idle time proves nothing", n, c.MinDecisions))
	}
	if c.lost > c.looked {
		out = append(out, fmt.Sprintf("%d events were lost and %d looked at, which is too few to judge by", c.lost, c.looked))
	}
	return out
}

// end stops looking, for that reason.
func (c *canary) end(why string, promoted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != "" {
		return
	}
	c.countLoss()
	c.ended, c.endedAt, c.promoted = why, time.Now(), promoted
	close(c.stop)
	c.sub.Close() // the kernel side may decide by itself again
}
