// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/rulepush"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is a file with one claim.
const sample = `version: 1
documents: [doc.md]
claims:
  - id: fast
    says: it is fast
    quotes: [{in: doc.md, text: "takes 0.26 µs"}]
    run: bridge
    figure: {row: native, of: p50}
    at_most: 520ns
excluded:
  - why: a setting
    quotes: [{in: doc.md, text: "a heartbeat of 100 ms"}]
`

func read(t *testing.T, text string) *File {
	t.Helper()
	f, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOurs reads the file of this repository, and looks for the rows that it names among those that there are.
func TestOurs(t *testing.T) {
	f := read(t, bench.Claims())
	known := map[string][]bench.Scenario{bench.KindBridge: bench.Bridge(), bench.KindRules: append(append(bench.Rules(), rulepush.Scenarios()...), bench.OPARows("opa")...),
		bench.KindBoot: bench.Boot()}
	for _, c := range f.Claims {
		if _, ok := known[c.Run]; !ok && c.Run != bench.KindDaemon {
			t.Errorf("%s: got run %q, want a command that writes reports", c.ID, c.Run)
		}
	}
	for run, scenarios := range known {
		for _, pattern := range f.Rows(run) {
			found := false
			for _, s := range scenarios {
				found = found || Matches(pattern, s.Describe().ID)
			}
			if !found {
				t.Errorf("%s: got no row %s, want the one that a claim names", run, pattern)
			}
		}
	}
	if got := f.Rows(bench.KindDaemon); len(got) != 0 {
		t.Errorf("got the rows %v of a daemon, want none", got)
	}
}

// TestDocumentedSample reads the claim that docs/latency.md shows.
func TestDocumentedSample(t *testing.T) {
	text, err := os.ReadFile("../../docs/latency.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(text), "```yaml\n")
	block, _, end := strings.Cut(block, "```\n")
	if !ok || !end {
		t.Fatal("docs/latency.md shows no claim any more")
	}
	shown, ours := read(t, "version: 1\nclaims:\n"+block), read(t, bench.Claims())
	for i := range ours.Claims {
		if c := &ours.Claims[i]; c.ID == shown.Claims[0].ID {
			if diff := cmp.Diff(c.operands(), shown.Claims[0].operands()); diff != "" {
				t.Errorf("docs/latency.md shows another figure than the file has (-file +shown):\n%s", diff)
			}
			for _, q := range shown.Claims[0].Quotes {
				if !slices.Contains(c.Quotes, q) {
					t.Errorf("docs/latency.md shows the quote %q of %s, which the file does not have", q.Text, q.In)
				}
			}
			return
		}
	}
	t.Errorf("docs/latency.md shows the claim %q, which the file does not have", shown.Claims[0].ID)
}

func TestReadRefuses(t *testing.T) {
	f := func(name, old, replacement, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			text := strings.Replace(sample, old, replacement, 1)
			if text == sample {
				t.Fatalf("the sample has no %q", old)
			}
			_, err := Read(strings.NewReader(text))
			if !errors.Is(err, ErrBadFile) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	read(t, sample)
	f("nothing", sample, "", "EOF")
	f("no YAML", "version: 1", "version: [", "yaml")
	f("an unknown key", "says:", "says_:", "says_")
	f("a version", "version: 1", "version: 2", "version 2, want 1")
	f("no claims", "claims:", "claims: []\nx:", "field x not found")
	f("no id", "id: fast", "id: ''", "id of its own")
	f("an id twice", "excluded:", "  - {id: fast, says: s, quotes: [{in: a, text: b}], run: bridge, figure: {row: r, of: p50}, at_most: 1ns}\nexcluded:", "claim 2 (fast): give it an id")
	f("says nothing", "says: it is fast", "says: ''", "write what it says")
	f("no quotes", `[{in: doc.md, text: "takes 0.26 µs"}]`, "[]", "the quotes")
	f("an empty quote", `"takes 0.26 µs"`, "' '", "a quote needs in and text")
	f("no command", "run: bridge", "run: ''", "run: bridge for example")
	f("no row", "row: native, ", "", "one of row, lowest and highest")
	f("two rows", "row: native,", "row: native, lowest: [a],", "one of row, lowest and highest")
	f("no statistic", ", of: p50", "", "which statistic")
	f("no bound", "at_most: 520ns", "why: none", "at_most or at_least")
	f("a bound without a unit", "520ns", "520", "a bound of a time is written as 400ns")
	f("a bound in words", "520ns", "little", "line 9")
	f("a ratio with a time", "at_most", "over: {row: other, of: p50}\n    at_most", "any other one as a number")
	f("a difference and a ratio", "at_most", "over: {row: a, of: p50}\n    less: {row: b, of: p50}\n    at_most", "either over or less")
	f("a row of a daemon", "run: bridge", "run: daemon", "a daemon has no rows")
	f("no reason", "why: a setting", "why: ''", "excluded 1: write quotes and why")

	fault := errors.New("the disk is gone")
	if _, err := Read(iotest.ErrReader(fault)); !errors.Is(err, fault) || errors.Is(err, ErrBadFile) {
		t.Errorf("got %v, want the fault alone", err)
	}
}

// report is one of a quiet machine, with the p50 of its rows.
func report(p50 map[string]int64) *bench.Saved {
	load := 0.2
	s := &bench.Saved{Kind: bench.KindBridge, Machine: bench.Machine{CPUs: 4, LoadBefore: &load}, Run: new(bench.Report)}
	for id, v := range p50 {
		s.Run.Scenarios = append(s.Run.Scenarios, bench.ScenarioReport{ID: id, Status: bench.Measured, Figures: map[string]float64{"bytes": float64(v), "whole_ns": float64(v)},
			Median: &bench.Percentiles{P50: v, P99: 10 * v}, Merged: &bench.Percentiles{Max: 100 * v}})
	}
	return s
}

func TestVerify(t *testing.T) {
	f := func(name, figure, bound string, change func(*bench.Saved), want Outcome, text string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			c := read(t, strings.NewReplacer("figure: {row: native, of: p50}", figure, "at_most: 520ns", bound).Replace(sample))
			s := report(map[string]int64{"native": 400, "other-a": 8000, "other-b": 9000, "none": 0})
			change(s)
			got := Verify(c, []Source{{"run.json", s}})
			if len(got) != 1 || got[0].Outcome != want || !strings.Contains(got[0].Found+got[0].Why, text) {
				t.Errorf("got %+v, want %q and %q", got, want, text)
			}
		})
	}
	as := func(*bench.Saved) {}
	noisy := func(s *bench.Saved) { load := 9.0; s.Machine.LoadBefore = &load }
	gone := func(s *bench.Saved) {
		for i := range s.Run.Scenarios {
			s.Run.Scenarios[i].Status, s.Run.Scenarios[i].Reason = bench.Unavailable, "run as root"
		}
	}
	const native, ratio, less = "figure: {row: native, of: p50}", "figure: {lowest: ['other-*'], of: p50}\n    over: {row: native, of: p50}", "figure: {row: other-a, of: p50}\n    less: {row: native, of: p50}"
	f("below", native, "at_most: 520ns", as, Holds, "400 ns, at most 520 ns")
	f("at the bound", native, "at_most: 400ns", as, Holds, "")
	f("above", native, "at_most: 399ns", as, DoesNotHold, "400 ns, at most 399 ns")
	f("too low", native, "at_least: 401ns", as, DoesNotHold, "at least 401 ns")
	f("between", native, "at_least: 300ns\n    at_most: 500ns", as, Holds, "")
	f("another percentile", "figure: {row: native, of: p99}", "at_most: 3us", as, DoesNotHold, "4.00 µs")
	f("the largest", "figure: {row: native, of: max}", "at_most: 40us", as, Holds, "40.0 µs")
	f("a ratio", ratio, "at_least: 20", as, Holds, "20, at least 20")
	f("a ratio that is missed", ratio, "at_least: 20.1", as, DoesNotHold, "20, at least 20.1")
	f("the highest", "figure: {highest: ['other-*'], of: p50}", "at_most: 8us", as, DoesNotHold, "9.00 µs")
	f("a difference", less, "at_most: 7600ns", as, Holds, "7.60 µs")
	f("a difference the other way", "figure: {row: native, of: p50}\n    less: {row: other-a, of: p50}", "at_most: 0s", as, Holds, "-7.60 µs")
	f("bytes", "figure: {row: native, of: bytes}", "at_most: 399", as, DoesNotHold, "400, at most 399")
	f("failures", "figure: {row: native, of: failed}", "at_most: 0", as, Holds, "0, at most 0")
	f("by nothing", "figure: {row: native, of: p50}\n    over: {row: none, of: p50}", "at_most: 1", as, CannotTell, "divided by nothing")
	f("no such row", "figure: {row: natives, of: p50}", "at_most: 1us", as, CannotTell, "no row natives")
	f("no such rows", "figure: {lowest: ['fan-*'], of: p50}", "at_most: 1us", as, CannotTell, "no row fan-*")
	f("no such figure", "figure: {row: native, of: colours}", "at_most: 1", as, CannotTell, "no figure colours")
	f("unavailable", native, "at_most: 1us", gone, CannotTell, "native is unavailable: run as root")
	f("none of them available", ratio, "at_least: 20", gone, CannotTell, "run as root")
	f("one of them unavailable", ratio, "at_least: 22", func(s *bench.Saved) {
		for i := range s.Run.Scenarios {
			if s.Run.Scenarios[i].ID == "other-a" {
				s.Run.Scenarios[i].Status = bench.Unavailable
			}
		}
	}, Holds, "22.5")
	change := func(id string, change func(*bench.ScenarioReport)) func(*bench.Saved) {
		return func(s *bench.Saved) { change(s.Row(id)) }
	}
	f("one of them broke", ratio, "at_least: 20", change("other-b", func(r *bench.ScenarioReport) { r.Status, r.Reason = bench.Broken, "it hangs" }), CannotTell, "other-b is broken: it hangs")
	f("one of them left out", "figure: {lowest: ['fanotify-*'], of: p50}", "at_most: 1s", func(s *bench.Saved) { s.Run.Scenarios[0].ID = "fanotify-same" }, CannotTell, "no row fanotify-* that is fanotify-same-poll")
	f("failures in a time", native, "at_most: 520ns", change("native", func(r *bench.ScenarioReport) { r.Samples, r.Failed = 1000, 2 }), CannotTell, "2 of 1000 asks of native failed")
	f("a few failures in a time", native, "at_most: 520ns", change("native", func(r *bench.ScenarioReport) { r.Samples, r.Failed = 2000, 2 }), Holds, "")
	f("failures are failures", "figure: {row: native, of: failed}", "at_most: 0", change("native", func(r *bench.ScenarioReport) { r.Failed = 2 }), DoesNotHold, "2, at most 0")
	f("an empty round", "figure: {row: native, of: bytes}", "at_most: 400", change("native", func(r *bench.ScenarioReport) { r.EmptyRounds = 1 }), CannotTell, "1 of 1 rounds of native had no sample")
	emulated := func(s *bench.Saved) {
		s.Machine.CPUModel, s.Machine.Counted = "QEMU TCG CPU version 2.5+", true
	}
	f("emulated", native, "at_most: 520ns", emulated, CannotTell, "emulated, times are instructions")
	f("emulated, a difference", less, "at_most: 8us", emulated, CannotTell, "emulated")
	f("emulated, a ratio", ratio, "at_least: 20", emulated, Holds, "")
	f("emulated, a count", "figure: {row: native, of: bytes}", "at_most: 400", emulated, Holds, "")
	f("noise, met", native, "at_most: 520ns", noisy, Holds, "")
	f("noise, missed", native, "at_most: 399ns", noisy, CannotTell, "noisy machine, load 9.00")
	f("noise, at least", native, "at_least: 300ns", noisy, CannotTell, "noisy machine")
	f("noise in a ratio", ratio, "at_least: 20", noisy, CannotTell, "noisy machine")
	f("noise in a difference", less, "at_most: 8us", noisy, CannotTell, "noisy machine")
	f("noise in a time that is counted besides", "figure: {row: native, of: whole_ns}", "at_most: 399ns", noisy, CannotTell, "noisy machine")
	f("a time that is counted besides", "figure: {row: native, of: whole_ns}", "at_most: 520ns", noisy, Holds, "400 ns, at most 520 ns")
	f("offered more than it served", native, "at_most: 520ns", func(s *bench.Saved) {
		for i := range s.Run.Scenarios {
			s.Run.Scenarios[i].Figures = map[string]float64{bench.FigureOffered: 1000, bench.FigureShort: 0.5}
		}
	}, CannotTell, "native does not keep 1000/s: served 500/s")
	f("noise makes no bytes", "figure: {row: native, of: bytes}", "at_most: 399", noisy, DoesNotHold, "")
}

func TestVerifyReports(t *testing.T) {
	c := read(t, sample)
	good, bad, rules := report(map[string]int64{"native": 400}), report(map[string]int64{"native": 600}), report(map[string]int64{"native": 1})
	rules.Kind = bench.KindRules
	empty := report(nil)
	f := func(name string, want Outcome, from string, reports ...Source) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got := Verify(c, reports)[0]
			if got.Outcome != want || got.From != from {
				t.Errorf("got %+v, want %q from %q", got, want, from)
			}
		})
	}
	f("none", CannotTell, "")
	f("of another command", CannotTell, "", Source{"rules", rules})
	f("one that says nothing", Holds, "good", Source{"empty", empty}, Source{"good", good})
	f("one that does not hold decides", DoesNotHold, "bad", Source{"good", good}, Source{"bad", bad}, Source{"good again", good})
}

func TestDaemon(t *testing.T) {
	c := read(t, strings.NewReplacer("run: bridge", "run: daemon", "{row: native, of: p50}", "{of: idle_cpu_percent}", "520ns", "0.2").Replace(sample))
	load := 99.0
	f := func(idle float64, want Outcome) {
		t.Helper()
		s := &bench.Saved{Kind: bench.KindDaemon, Machine: bench.Machine{CPUs: 1, LoadBefore: &load}, Daemon: &bench.DaemonReport{Idle: idle}}
		if got := Verify(c, []Source{{"d", s}})[0]; got.Outcome != want {
			t.Errorf("%v %%: got %+v, want %q", idle, got, want)
		}
	}
	f(0.1, Holds)
	f(0.3, DoesNotHold)
}

func TestUnlistedAndGone(t *testing.T) {
	f := func(name, doc string, unlisted, gone []string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			look := func(path string) (string, bool) { return doc, path == "doc.md" && doc != "" }
			c := read(t, sample)
			if diff := cmp.Diff(unlisted, Unlisted(c, look)); diff != "" {
				t.Errorf("unlisted (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(gone, Gone(c, look)); diff != "" {
				t.Errorf("gone (-want +got):\n%s", diff)
			}
		})
	}
	const both = "# Doc\n\nIt takes\n0.26 µs, with a heartbeat of 100 ms.\n"
	f("all there", both, nil, nil)
	f("one more", both+"\nAnd another way takes 3.5 ms.\n", []string{`doc.md:6: "3.5 ms."`}, nil)
	f("a factor", both+"\nThat is 21 times less, or twice: ten times in all.\n", []string{`doc.md:6: "21 times"`, `doc.md:6: "ten times"`}, nil)
	f("others", both+"\n2× as many, 240 bytes each, 31.6 MiB resident, 4 to 5 µs.\n", []string{`doc.md:6: "2× "`, `doc.md:6: "240 bytes each"`, `doc.md:6: "31.6 MiB resident"`, `doc.md:6: "4 to 5 µs."`}, nil)
	f("other ways to say it", both+"\n21x, 3 μs and a factor of 7.\n", []string{`doc.md:6: "21x,"`, `doc.md:6: "3 μs "`, `doc.md:6: "factor of 7"`}, nil)
	f("no figures", both+"\n1,024 slots, 49 events, in 2 tests, 64 bytes, at p99, 4 msgs, 0x10, 2 xattrs, Linux 7.x.\n", nil, nil)
	f("the figure elsewhere", both+"\nElsewhere 0.26 µs.\n", []string{`doc.md:6: "0.26 µs."`}, nil)
	f("printed by a program", both+"\n```\nlatency p50 25.599µs\n```\n", nil, nil)
	f("changed", strings.Replace(both, "0.26", "0.31", 1), []string{`doc.md:4: "0.31 µs,"`}, []string{`doc.md: does not say "takes 0.26 µs"`})
	f("no document", "", []string{"doc.md: no such document"}, []string{"doc.md: no such document", "doc.md: no such document"})

	blank := read(t, strings.Replace(sample, "takes 0.26 µs", "It takes", 1))
	if got := Gone(blank, func(string) (string, bool) { return both, true }); len(got) != 1 || !strings.Contains(got[0], `no figure in "It takes"`) {
		t.Errorf("a quote without a figure: got %q, want it named", got)
	}
}

func TestSections(t *testing.T) {
	const doc = "# Doc\n\n1 ms.\n\n## Here, `now`\n\n2 ms.\n\n### Below\n\n3 ms.\n\n```\n# 4 ms\n```\n\n## Next\n\n5 ms.\n\n### Here\n\n6 ms.\n"
	f := func(section string, want ...string) {
		t.Helper()
		c := &File{Documents: []string{"doc.md" + section}}
		var got []string
		for _, line := range Unlisted(c, func(string) (string, bool) { return doc, true }) {
			_, what, _ := strings.Cut(line, ": ")
			got = append(got, strings.Trim(what, `".`))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", section, diff)
		}
	}
	f("", "1 ms", "2 ms", "3 ms", "5 ms", "6 ms")
	f("#here-now", "2 ms", "3 ms")
	f("#below", "3 ms")
	f("#next", "5 ms", "6 ms")
	f("#here", "6 ms")
	f("#gone", "no such section")
}

func TestWrite(t *testing.T) {
	c := read(t, sample)
	noisy := report(map[string]int64{"native": 600})
	load := 9.0
	noisy.Machine.LoadBefore = &load
	f := func(want string, reports ...Source) {
		t.Helper()
		var b bytes.Buffer
		if err := Write(&b, Verify(c, reports)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("the text differs (-want +got):\n%s", diff)
		}
	}
	f("holds         fast: it is fast\n              400 ns, at most 520 ns (a.json)\n\n1 claim: 1 holds, 0 do not hold, 0 cannot be told\n", Source{"a.json", report(map[string]int64{"native": 400})})
	f("does NOT hold fast: it is fast\n              600 ns, at most 520 ns (b.json)\n              doc.md: takes 0.26 µs\n\n1 claim: 0 hold, 1 does not hold, 0 cannot be told\n", Source{"b.json", report(map[string]int64{"native": 600})})
	f("cannot tell   fast: it is fast\n              600 ns, at most 520 ns; noisy machine, load 9.00 before the start, at most 2.0 (half the CPUs) is quiet (c.json)\n\n1 claim: 0 hold, 0 do not hold, 1 cannot be told\n", Source{"c.json", noisy})
	f("cannot tell   fast: it is fast\n              no report of arbiter-bench bridge\n\n1 claim: 0 hold, 0 do not hold, 1 cannot be told\n")
}
