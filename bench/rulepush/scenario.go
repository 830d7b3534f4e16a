// SPDX-License-Identifier: Apache-2.0

// Package rulepush times a push of many rules, and the verdicts that are given while it is
// on: the rows of arbiter-bench rules that need the control plane, which package bench
// does without.
//
// The store, the compiler and the engine are those of the daemon. The kernel's side of
// the queue is the one of package ringtest, so no privilege is needed; programs, scope
// and gRPC are left out.
package rulepush

import (
	"fmt"
	"time"

	"github.com/arbiterd/arbiter/bench"
)

// Rules is how many rules are pushed by Scenarios.
const Rules = 100_000

// Scenarios are the rows of a push of Rules rules.
func Scenarios() []bench.Scenario {
	return []bench.Scenario{scenario{Rules, false}, scenario{Rules, true}}
}

// scenario pushes n rules again and again while somebody asks. Its samples are either
// the pushes or the verdicts.
type scenario struct {
	n        int
	verdicts bool
}

// most is how many pushes one round has at most.
const most = 5

func (s scenario) Describe() bench.Info {
	i := bench.Info{ID: bench.PushID, Mechanism: bench.RuleEngine, Responder: fmt.Sprintf("push of %d rules, until all workers use them", s.n),
		MaxSamples: most, StartLimit: time.Minute}
	if s.verdicts {
		i.ID, i.Responder, i.MaxSamples = bench.PushVerdictsID, fmt.Sprintf("verdicts during a push of %d rules", s.n), 0
	}
	return i
}

func (s scenario) Open(at bench.Place) (bench.Session, error) { return open(s.n, s.verdicts, at) }
