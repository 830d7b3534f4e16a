// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// TestPlainRules has the rule engine and the list decide the same requests, made to match
// and made to miss by one fact.
func TestPlainRules(t *testing.T) {
	const n = 601
	rs, err := rules.Load("bench.yaml", MixedRules(n), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if rs.Len() != n {
		t.Errorf("got %d rules, want %d", rs.Len(), n)
	}
	w := newWalk(n)
	f := func(name string, asks []PlainAsk, change func(*PlainAsk)) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			refused := 0
			for _, a := range asks {
				change(&a)
				r := new(abi.Request)
				a.Fill(r)
				engine, list := rs.Decide(r).Rule, w.decide(r)
				if engine != list {
					t.Fatalf("%+v: got rule %d by the engine and %d by the list", a, engine, list)
				}
				if name == "as they are" && engine != a.Want {
					t.Fatalf("%+v: got rule %d, want %d", a, engine, a.Want)
				}
				if engine >= 0 {
					refused++
				}
			}
			if got := refused == len(asks); got != (name == "as they are" && asks[0].Want >= 0) {
				t.Errorf("%d of %d are refused", refused, len(asks))
			}
		})
	}
	asks := MixedAsks(n, 2*n)
	f("as they are", asks, func(*PlainAsk) {})
	f("another user", asks, func(a *PlainAsk) { a.UID = 500 })
	f("another port", asks, func(a *PlainAsk) { a.Port = 80 })
	f("read", asks, func(a *PlainAsk) { a.Write = false })
	f("another event", asks, func(a *PlainAsk) { a.Event = abi.EventExec })
	f("another ending", asks, func(a *PlainAsk) { a.Path = strings.TrimSuffix(a.Path, ".so") })
	f("longer", asks, func(a *PlainAsk) { a.Path += "/x" })
	f("usual files", UsualAsks(100), func(*PlainAsk) {})
}

// TestRuleScenarios runs each kind of row for a moment, in this process.
func TestRuleScenarios(t *testing.T) {
	scenarios := []Scenario{hitScenario{}, missScenario{10, noneMatches}, missScenario{1000, oneMatches}, missScenario{1000, coldMatch},
		walkScenario{10}, walkScenario{1000}}
	for _, s := range append(scenarios, whenScenarios()...) {
		t.Run(s.Describe().ID, func(t *testing.T) {
			cpus, err := AllowedCPUs()
			if err != nil {
				t.Fatal(err)
			}
			session, err := s.Open(Place{cpus[0], cpus[0]})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			const n = 50
			done := make(chan result)
			go func() { done <- serveRound(session, command{RoundOptions{Warmup: 20, Budget: time.Minute}, n}) }()
			got := <-done
			most := 0
			if s.Describe().ID == hitID {
				most = n / 4 // requests that fall into the same set of the cache displace each other
			}
			if got.Error != "" || got.Samples != n || got.Failed > most {
				t.Errorf("got %d samples, %d failed, error %q, want %d and at most %d", got.Samples, got.Failed, got.Error, n, most)
			}
			h, err := decode(got.Histogram)
			if err != nil {
				t.Fatal(err)
			}
			if p := h.ValueAtPercentile(50); p < 2 || p > int64(100*time.Millisecond) {
				t.Errorf("got a p50 of %d ns, which is not plausible", p)
			}
			if bytes, ok := got.Figures[FigureBytes]; ok && (bytes < 64 || bytes > 10_000) {
				t.Errorf("got %.0f bytes for a rule, which is not plausible", bytes)
			}
		})
	}
}

// TestDecisionsThatFail counts the samples that hold a wrong decision, and what is allocated.
func TestDecisionsThatFail(t *testing.T) {
	var kept []byte
	d := &Decisions{Asks: []PlainAsk{{Want: 1}, {Want: 2}, {Want: 1}, {Want: 1}}, Batch: 2,
		Figures: map[string]float64{"of the session": 7},
		Prepare: func(int, int) {},
		Decide:  func(int) int32 { kept = make([]byte, 100); return 1 }}
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	d.CPU = cpus[0]
	type got struct {
		o   Outcome
		err error
	}
	done := make(chan got)
	go func() {
		o, err := d.Round(RoundOptions{Warmup: 4, Budget: time.Minute}, make([]uint32, 1000))
		done <- got{o, err}
	}()
	g := <-done
	if g.err != nil || g.o.Samples != 1000 || g.o.Failed != 500 {
		t.Errorf("got %+v, %v, want every other one of 1000 to be wrong", g.o, g.err)
	}
	if n := g.o.Figures[FigureAllocs]; n < 1 || n >= 2 || len(kept) == 0 {
		t.Errorf("got %v allocations a decision, want 1", n)
	}
	if g.o.Figures["of the session"] != 7 {
		t.Errorf("got figures %v, want that of the session among them", g.o.Figures)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// TestOPARows are rows that say why when the program is not there.
func TestOPARows(t *testing.T) {
	o := testOptions(t)
	o.Scenarios = OPARows(filepath.Join(t.TempDir(), "arbiter-bench-opa"))
	r, err := Run(t.Context(), o)
	if !errors.Is(err, ErrNothingMeasured) {
		t.Fatalf("got %v, want ErrNothingMeasured", err)
	}
	for _, s := range r.Scenarios {
		if s.Status != Broken || !strings.Contains(s.Reason, "no such file") {
			t.Errorf("%s: got %s %q, want it to say that there is no such file", s.ID, s.Status, s.Reason)
		}
	}
	if _, err := o.Scenarios[0].Open(Place{}); err == nil {
		t.Error("opening a row of OPA here: got no error, want one")
	}
}

// rulesReport is one where every bar is met.
func rulesReport() *Report {
	r := quietReport()
	r.Scenarios = nil
	row := func(id string, p50 int64, figures map[string]float64) {
		s := measured(id, RuleEngine, id, "", Percentiles{p50, p50, p50, p50, p50})
		s.Figures = figures
		r.Scenarios = append(r.Scenarios, s)
	}
	row(hitID, 80, nil)
	for _, n := range missSizes {
		row(missID(noneMatches, n), 100, map[string]float64{FigureAllocs: 0.01, FigureBytes: 300})
		row(missID(oneMatches, n), 120, map[string]float64{FigureAllocs: 0})
	}
	row(missID(coldMatch, 1_000_000), 800, map[string]float64{FigureAllocs: 0, FigureBytes: 240})
	row(walkID(1000), 1800, nil)
	row(whenTextsID, 50, map[string]float64{FigureAllocs: 0})
	row(whenPatternsID, 120, map[string]float64{FigureAllocs: 0})
	row(PushID, 700_000_000, map[string]float64{FigureStale: 0})
	row(PushVerdictsID, 40_000, map[string]float64{FigureStale: 0})
	row(OPAIndexedID, 12_600, map[string]float64{FigureAllocs: 78})
	return r
}

func TestJudgeRules(t *testing.T) {
	f := func(name string, change func(rows map[string]*ScenarioReport, m *Machine), bar, want, why string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := rulesReport()
			rows := map[string]*ScenarioReport{}
			for i := range r.Scenarios {
				rows[r.Scenarios[i].ID] = &r.Scenarios[i]
			}
			change(rows, &r.Machine)
			found := false
			for _, b := range judgeRules(r).Bars {
				switch {
				case !strings.HasPrefix(b.Name, bar):
				case b.Outcome != want || !strings.Contains(b.Why, why):
					t.Errorf("got %s, want %s %q", &b, want, why)
					fallthrough
				default:
					found = true
				}
			}
			if !found {
				t.Errorf("no bar %q", bar)
			}
		})
	}
	type rows = map[string]*ScenarioReport
	noisy := func(m *Machine) { m.LoadBefore = ptr(9.0) }
	f("all met", func(rows, *Machine) {}, "", Met, "")
	f("a row misses", func(r rows, _ *Machine) { r[missID(coldMatch, 1_000_000)].Median.P50 = 2001 }, "a decision on a cache miss", Missed, "")
	f("grows", func(r rows, _ *Machine) { r[missID(noneMatches, 1_000_000)].Median.P50 = 151 }, "a miss where none", Missed, "")
	f("allocates", func(r rows, _ *Machine) { r[whenTextsID].Figures[FigureAllocs] = 1 }, "allocations", Missed, "")
	f("one is wrong", func(r rows, _ *Machine) { r[whenTextsID].Failed = 1 }, "decisions that are not", Missed, "")
	f("stale", func(r rows, _ *Machine) { r[PushID].Figures[FigureStale] = 1 }, "verdicts of the old", Missed, "")
	f("slow verdicts", func(r rows, _ *Machine) { r[PushVerdictsID].Median.P99 = 50_001 }, "verdicts during", Missed, "")
	f("no push", func(r rows, _ *Machine) { r[PushID].Status = Broken }, "a push", CannotTell, "no figure of push")
	f("noisy and met", func(_ rows, m *Machine) { noisy(m) }, "a push", Met, "")
	f("noisy and missed", func(r rows, m *Machine) { noisy(m); r[PushID].Median.P50 = 2e9 }, "a push", CannotTell, "noisy")
	f("a ratio of noise", func(_ rows, m *Machine) { noisy(m) }, "a miss where one", CannotTell, "noisy")
	f("noise makes no bytes", func(r rows, m *Machine) { noisy(m); r[missID(coldMatch, 1_000_000)].Figures[FigureBytes] = 257 }, "memory", Missed, "")
}

func TestRulesTable(t *testing.T) {
	r := rulesReport()
	r.Scenarios = append(r.Scenarios, ScenarioReport{ID: OPAWalkID, Mechanism: OPA, Responder: "data", Status: Broken, Reason: "no such file"})
	r.Machine.LoadBefore = ptr(5.5)
	report := &RulesReport{r, judgeRules(r)}
	var b bytes.Buffer
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table_rules.txt", b.String())
	b.Reset()
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, `"bars"`) || strings.Contains(text, `"factor_bar"`) {
		t.Errorf("got %s, want the verdict about rules alone", text)
	}
}

func TestSpan(t *testing.T) {
	for ns, want := range map[int64]string{0: "0 ns", 999: "999 ns", 1000: "1.00 µs", 12_340: "12.3 µs", 999_400: "999 µs", 2_040_000_000: "2.04 s", 146_000_000: "146 ms"} {
		if got := span(ns); got != want {
			t.Errorf("span(%d): got %q, want %q", ns, got, want)
		}
	}
}

// TestWarmUp leaves time for samples where a decision takes long.
func TestWarmUp(t *testing.T) {
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	const budget = time.Second
	d := &Decisions{Asks: []PlainAsk{{}}, Batch: 1, CPU: cpus[0], Prepare: func(int, int) {},
		Decide: func(int) int32 {
			for begin := time.Now(); time.Since(begin) < budget/10; {
			}
			return 0
		}}
	done := make(chan Outcome)
	go func() {
		out, err := d.Round(RoundOptions{Warmup: 1000, Budget: budget}, make([]uint32, 1000))
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	if out := <-done; out.Samples == 0 {
		t.Error("got no sample, want some: the warm-up took all of the time")
	}
}
