// SPDX-License-Identifier: Apache-2.0

package bench

import "time"

// Info describes a scenario. It is a value; tables and JSON are made from it.
type Info struct {
	ID        string // [a-z0-9-], unique, the name in JSON and on the command line
	Mechanism Mechanism
	Responder string // where and how it is answered, for people
	// SameCPU puts the responder on the requester's own CPU.
	SameCPU bool
	// NoResponder marks a baseline: nobody answers.
	NoResponder bool
	// Baseline is the ID of the scenario that does the same without asking
	// anybody; the difference of the medians is what asking adds. "" for none.
	Baseline string
	// Lean switches the garbage collector and asynchronous preemption off in
	// the child: its threads hold their processors inside raw system calls, so
	// a stop of the world would wait for the kernel, and the kernel for it.
	Lean bool
	// MaxSamples bounds the samples of one round, 0 for no bound: a figure
	// that is known to be slow needs no long rounds.
	MaxSamples int
	// StartLimit bounds what Open takes, 0 for a time that is enough for most.
	StartLimit time.Duration
	// Program is the command of the child, nil for that of Options.Self: a scenario that
	// another program has. Its ID and its place are appended as they are there.
	Program []string
}

// Mechanism is who is asked how.
type Mechanism string

// The mechanisms of the bridge comparison.
const (
	NativeQueue Mechanism = "native queue"
	KernelCache Mechanism = "kernel cache"
	KernelRules Mechanism = "kernel rules"
	HookCost    Mechanism = "hook, not asked"
	Gate        Mechanism = "gate (sleep)"
	Fanotify    Mechanism = "fanotify permission"
	Seccomp     Mechanism = "seccomp notify"
	Ptrace      Mechanism = "ptrace stop"
	Baseline    Mechanism = "baseline"
)

// The mechanisms of the comparison of rule engines.
const (
	RuleEngine Mechanism = "rules"
	ListWalk   Mechanism = "list walk"
	OPA        Mechanism = "OPA"
)

// Scenario is one row of the comparison. Both methods may be called in
// different processes: Describe in the parent, Open in the child.
type Scenario interface {
	Describe() Info
	// Open prepares the rounds. An error that wraps UnavailableError or
	// kernelbridge.UnsupportedError means that this machine cannot.
	Open(Place) (Session, error)
}

// Session is an opened scenario. Its methods are called from one goroutine.
type Session interface {
	// Round asks until samples is full or the budget is used up, whichever is
	// first, and fills samples with the duration of each ask.
	Round(o RoundOptions, samples []uint32) (Outcome, error)
	Close() error
}

// Place says where the two sides run: CPU numbers. Responder equals Requester
// when the scenario's Info says SameCPU.
type Place struct{ Requester, Responder int }

// RoundOptions bound a round.
type RoundOptions struct {
	Warmup int           `json:"warmup"`    // asks before the first one that counts
	Budget time.Duration `json:"budget_ns"` // no ask begins later, warm-up included
}

// Outcome is what a round did.
type Outcome struct {
	Samples int `json:"samples"` // asks that counted
	Failed  int `json:"failed"`  // asks that got a failure verdict instead of an answer, among Samples
	// Unit is what a sample counts, 0 for nanoseconds: with those the longest is 4.29 s, and what took longer counts as 10 s.
	Unit time.Duration `json:"unit_ns,omitempty"`
	// Pace is what was between an answer and the next ask of one who does not ask while he waits. Those who
	// would have asked meanwhile are added to the histogram, not to Samples. 0: nobody would have.
	Pace time.Duration `json:"pace_ns,omitempty"`
	// Figures are what the scenario counts besides, by name; the worst one of all rounds is
	// reported, which is the largest.
	Figures map[string]float64 `json:"figures,omitempty"`
}

// Bridge returns the scenarios of `arbiter-bench bridge` in the order of their
// rounds.
func Bridge() []Scenario {
	list := []Scenario{
		nativeScenario{},
		nativeScenario{noCache: true},
		nativeScenario{sameCPU: true},
		throughputScenario{},
		stagesScenario{},
		cacheScenario{},
		pathScenario{},
		hookScenario{noRule},
		hookScenario{otherUser},
		hookScenario{otherTree},
		gateScenario{sameCPU: true},
		gateScenario{},
		openBaseline{},
		getppidBaseline{},
	}
	for _, same := range []bool{true, false} {
		list = append(list, fanotifyScenario{sameCPU: same}, fanotifyScenario{sameCPU: same, poll: true})
	}
	for _, same := range []bool{true, false} {
		list = append(list, seccompScenario{sameCPU: same}, seccompScenario{sameCPU: same, syncWakeUp: true})
	}
	return append(list, seccompScenario{poll: true}, ptraceScenario{sameCPU: true}, ptraceScenario{}, ptraceScenario{poll: true})
}

// Find returns the scenario with that ID.
func Find(list []Scenario, id string) (Scenario, bool) {
	for _, s := range list {
		if s.Describe().ID == id {
			return s, true
		}
	}
	return nil, false
}
