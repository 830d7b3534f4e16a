// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// replayed is what -o json prints.
type replayed struct {
	Candidate   string            `json:"candidate"`
	Fingerprint string            `json:"fingerprint"`
	Rules       int               `json:"rules"`
	Files       int               `json:"files"`
	Records     uint64            `json:"records"`
	Unreadable  uint64            `json:"unreadable_lines"`
	Runs        int               `json:"runs"` // of the daemon
	Missing     uint64            `json:"missing_numbers"`
	Decided     uint64            `json:"decided"`
	Changes     map[string]uint64 `json:"changes"` // by kind; all but rule are flips
	SameSet     uint64            `json:"same_set"`
	Broken      uint64            `json:"same_set_otherwise"`
	CannotTell  map[string]uint64 `json:"cannot_tell"` // by the facts that are missing
	Failures    map[string]uint64 `json:"failures"`
	Foreign     uint64            `json:"by_no_rule_set"`
	ByNames     []string          `json:"scope_not_looked_at"`
	Groups      []replayedGroup   `json:"groups"`
	Others      uint64            `json:"others"`
}

type replayedGroup struct {
	Kind    string          `json:"kind"`
	Count   uint64          `json:"count"`
	Before  replayedOutcome `json:"before"`
	After   replayedOutcome `json:"after"`
	Program string          `json:"program"` // quoted
	Sample  json.RawMessage `json:"sample"`  // as in the recording
}

type replayedOutcome struct {
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
	Line    int    `json:"line"`
	Reason  string `json:"reason,omitempty"`
}

func (p *replay) report() replayed {
	t := p.tally
	r := replayed{Candidate: audit.Quote(p.name), Fingerprint: fingerprint(p.rules.Fingerprint()), Rules: p.rules.Len(), Files: p.files,
		Records: t.Records, Unreadable: p.unreadable, Runs: p.runs, Missing: p.missing, Decided: t.Decided, Changes: map[string]uint64{},
		SameSet: t.Own, Broken: t.Broken, CannotTell: map[string]uint64{}, Failures: t.FailuresByName(), Foreign: t.Foreign,
		ByNames: append([]string{}, p.byNames...), Groups: []replayedGroup{}, Others: t.Others}
	for k := trial.Kind(0); k < trial.KindCount; k++ {
		r.Changes[k.String()] = t.Changes[k]
	}
	for f, n := range t.CannotTell {
		r.CannotTell[trial.Missing(f)] = n
	}
	outcome := func(o trial.Outcome) replayedOutcome {
		out := replayedOutcome{Verdict: o.Verdict.String(), Rule: o.Rule, Line: o.Line}
		if o.Reason != abi.ReasonNone {
			out.Reason = o.Reason.String()
		}
		return out
	}
	for _, g := range t.Groups() {
		line := audit.AppendEvent(nil, g.Sample)
		r.Groups = append(r.Groups, replayedGroup{Kind: g.Kind.String(), Count: g.Count, Before: outcome(g.Before), After: outcome(g.After),
			Program: audit.Quote(g.Program), Sample: line[:len(line)-1]})
	}
	return r
}

func (p *replay) text() string {
	t := p.tally
	head := newTable()
	head.row("candidate", fmt.Sprintf("%s: %s, fingerprint %s", audit.Quote(p.name), plural(p.rules.Len(), "rule"), fingerprint(p.rules.Fingerprint())))
	recording := fmt.Sprintf("%s in %s", plural(t.Records, "record"), plural(p.files, "file"))
	if p.runs > 1 {
		recording += fmt.Sprintf(", of %s of the daemon", plural(p.runs, "run"))
	}
	if p.missing > 0 {
		recording += fmt.Sprintf("; %s missing between: lost, or not recorded here", plural(p.missing, "number"))
	}
	if p.unreadable > 0 {
		recording += fmt.Sprintf("; %s that cannot be read", plural(p.unreadable, "line"))
	}
	head.row("recording", recording)
	head.row("decided again", fmt.Sprintf("%d: %s, %d the same by another rule or audit", t.Decided, plural(t.Flips(), "flip"), t.Changes[trial.Rule]))
	if t.Own > 0 {
		what := "all bit for bit as recorded"
		if t.Broken > 0 {
			what = fmt.Sprintf("%d of them otherwise than recorded", t.Broken)
		}
		head.row("of the same set", fmt.Sprintf("%d: %s", t.Own, what))
	}
	if n := t.Unknown(); n > 0 {
		var parts []string
		for _, f := range slices.Sorted(maps.Keys(t.CannotTell)) {
			parts = append(parts, fmt.Sprintf("%d without %s", t.CannotTell[f], trial.Missing(f)))
		}
		head.row("cannot tell", fmt.Sprintf("%d: %s", n, strings.Join(parts, "; ")))
	}
	if t.Failed()+t.Foreign > 0 {
		head.row("no decisions", fmt.Sprintf("%s (%s), %d by no rule set", plural(t.Failed(), "failure verdict"), counts(t.FailuresByName()), t.Foreign))
	}
	if len(p.byNames) > 0 {
		head.row("scope", "looked at by names, and "+strings.Join(p.byNames, ", ")+" not at all: what they name counts as asked about")
	}
	text := head.text()
	groups := t.Groups()
	if len(groups) == 0 {
		return text
	}
	rows := changesTable()
	for _, g := range groups {
		rows.row(fmt.Sprint(g.Count), g.Kind.String(), outcomeText(g.Before), outcomeText(g.After), audit.Field(g.Program),
			fmt.Sprintf("%d %s %s", g.Sample.Seq, g.Sample.Event, audit.Field(g.Sample.Path)))
	}
	text += "\n" + rows.text()
	if t.Others > 0 {
		text += fmt.Sprintf("and %d more in other groups\n", t.Others)
	}
	return text
}

// changesTable has a row for each group of changes.
func changesTable() *table { return newTable("COUNT", "CHANGE", "BEFORE", "AFTER", "PROGRAM", "FIRST") }

// outcomeText writes an outcome in one column.
func outcomeText(o trial.Outcome) string {
	verdict, reason := o.Verdict.Action.String(), ""
	if o.Verdict.Action == rules.Deny {
		verdict += ":" + rules.ErrnoName(o.Verdict.Errno)
	}
	if o.Reason != abi.ReasonNone {
		reason = o.Reason.String()
	}
	return outcomeColumn(verdict, o.Rule, o.Line, reason)
}

// outcomeColumn joins what an outcome consists of.
func outcomeColumn(verdict, rule string, line int, reason string) string {
	switch {
	case reason != "":
		return verdict + " (" + audit.Field(reason) + ")"
	case rule == "":
		return verdict + " (not asked about)"
	case line > 0:
		return fmt.Sprintf("%s %s:%d", verdict, audit.Field(rule), line)
	}
	return verdict + " " + audit.Field(rule)
}
