// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

const (
	// ruleBatch is over how many decisions a sample is the mean, see Decisions.Batch.
	ruleBatch = 16
	// warmAsks and coldAsks are how many different requests there are, see askKind.
	warmAsks, coldAsks = 1 << 10, 1 << 15
	// FigureBytes is the name of what a rule costs in memory: the heap that a set keeps,
	// its text and its indexes included, for each rule.
	FigureBytes = "bytes_per_rule"
	// weighedFrom is from how many rules on that says something about a rule.
	weighedFrom = 1000
)

// missScenario is a decision that no cache has, by n rules of mixed kinds.
type missScenario struct {
	n    int
	asks askKind
}

// askKind is what is asked of the rules.
type askKind string

const (
	// noneMatches: files that no rule is about, which most are that a system opens.
	noneMatches askKind = "none matches"
	// oneMatches: a rule anywhere in the file matches, for each of 1,024 requests.
	oneMatches askKind = "one matches"
	// coldMatch is the same with so many requests that hardly anything of the set that a
	// decision looks at is in the caches of the CPU.
	coldMatch askKind = "one matches, cold"
)

func (s missScenario) Describe() Info {
	return Info{ID: missID(s.asks, s.n), Mechanism: RuleEngine, Responder: fmt.Sprintf("miss, %s, %s", many(s.n), s.asks), NoResponder: true, StartLimit: slowStart}
}

func missID(asks askKind, n int) string {
	prefix := map[askKind]string{noneMatches: "none", oneMatches: "one", coldMatch: "cold"}[asks]
	return fmt.Sprintf("%s-%d", prefix, n)
}

func (s missScenario) Open(at Place) (Session, error) {
	rs, bytes, err := weigh(s.n)
	if err != nil {
		return nil, err
	}
	d := decideBy(at, s.asks.of(s.n), ruleBatch, func(r *abi.Request) int32 { return rs.Decide(r).Rule })
	if s.n >= weighedFrom {
		d.Figures = map[string]float64{FigureBytes: bytes}
	}
	return d, nil
}

// of returns requests of the kind, for n rules.
func (k askKind) of(n int) []PlainAsk {
	switch k {
	case noneMatches:
		return UsualAsks(warmAsks)
	case coldMatch:
		return MixedAsks(n, coldAsks)
	}
	return MixedAsks(n, warmAsks)
}

// many writes a number of rules.
func many(n int) string { return thousands(n) + " rules" }

// thousands writes a number with commas.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// weigh compiles n mixed rules and returns how many bytes of the heap each one keeps.
func weigh(n int) (*rules.RuleSet, float64, error) {
	src := MixedRules(n)
	var before, after runtime.MemStats
	settle := func(m *runtime.MemStats) {
		runtime.GC()
		runtime.GC() // what the first one's finalizers let go
		runtime.ReadMemStats(m)
	}
	settle(&before)
	rs, err := rules.Load("bench.yaml", src, rules.Options{Epoch: 1})
	if err != nil {
		return nil, 0, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	settle(&after)
	runtime.KeepAlive(src)
	return rs, (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n), nil
}

// decideBy is a session over requests as workers have them.
func decideBy(at Place, asks []PlainAsk, batch int, decide func(*abi.Request) int32) *Decisions {
	slots := make([]abi.Request, batch)
	return &Decisions{Asks: asks, Batch: batch, CPU: at.Requester,
		Prepare: func(slot, i int) { asks[i].Fill(&slots[slot]) },
		Decide:  func(slot int) int32 { return decide(&slots[slot]) }}
}

// walkScenario is the same decision by a list.
type walkScenario struct{ n int }

func walkID(n int) string { return fmt.Sprintf("walk-%d", n) }

func (s walkScenario) Describe() Info {
	return Info{ID: walkID(s.n), Mechanism: ListWalk, Responder: many(s.n) + ", one matches", NoResponder: true}
}

func (s walkScenario) Open(at Place) (Session, error) {
	w := newWalk(s.n)
	batch := ruleBatch
	if s.n > 100 {
		batch = 1 // long enough for the clock
	}
	return decideBy(at, oneMatches.of(s.n), batch, w.decide), nil
}

// whenScenario is a decision by one rule, with an expression that holds or without one.
type whenScenario struct{ id, responder, when string }

// The rows of an expression.
const whenNoneID, whenTextsID, whenPatternsID = "when-none", "when-texts", "when-patterns"

func whenScenarios() []Scenario {
	return []Scenario{
		whenScenario{whenNoneID, "one rule, no when", ""},
		whenScenario{whenTextsID, "one rule, when: three comparisons",
			`subject.uid == 1000 && object.path.startsWith("/srv/app/") && !object.path.endsWith(".so")`},
		whenScenario{whenPatternsID, "one rule, when: eight, two regular expressions among them",
			`(subject.uid == 1000 || subject.uid in [100, 101, 102]) && !subject.exe.matches(r"^/usr/(s?bin|lib(exec)?)/agents/[^/]+$") ` +
				`&& object.path.matches(r"\.(conf|ya?ml|json)$") && !object.path.contains("/cache/") && size(object.path) < 200 && (access.read || access.write)`},
	}
}

func (s whenScenario) Describe() Info {
	i := Info{ID: s.id, Mechanism: RuleEngine, Responder: s.responder, NoResponder: true, Baseline: whenNoneID}
	if s.when == "" {
		i.Mechanism, i.Baseline = Baseline, ""
	}
	return i
}

func (s whenScenario) Open(at Place) (Session, error) {
	var b strings.Builder
	b.WriteString(plainHead + "- {id: one, events: [open], object: {path: {prefix: /srv/app/}}, verdict: deny")
	if s.when != "" {
		fmt.Fprintf(&b, ", when: '%s'", s.when)
	}
	b.WriteString("}\n")
	rs, err := rules.Load("bench.yaml", []byte(b.String()), rules.Options{Epoch: 1})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rule: %w", err)
	}
	asks := make([]PlainAsk, 64)
	for i := range asks {
		asks[i] = PlainAsk{Event: abi.EventOpen, Path: fmt.Sprintf("/srv/app/data/folder-%02d/file.conf", i), Exe: "/opt/agent/bin/agentd", UID: 1000}
	}
	return decideBy(at, asks, ruleBatch, func(r *abi.Request) int32 { return rs.Decide(r).Rule }), nil
}
