// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strings"
)

// fapolicydReader reads rules files of fapolicyd, and its trust files, one after another: sets
// and the order go on from one to the next, as when fagenrules puts them together.
type fapolicydReader struct {
	*importer
	sets map[string][]string
	// asked is what fapolicyd asks a rule for, by the index of the rule.
	asked map[int]string
}

func (im *importer) fapolicyd(sources []Source) {
	r := &fapolicydReader{im, map[string][]string{}, map[int]string{}}
	for _, s := range sources {
		lines := strings.Split(string(s.Text), "\n")
		if isTrustFile(lines) {
			r.trustFile(s.Name, lines)
			continue
		}
		for i, line := range lines {
			r.line(place{s.Name, i + 1}, strings.TrimRight(line, " \t\r"))
		}
	}
	r.tellTwins()
}

// line reads one line of a rules file.
func (r *fapolicydReader) line(at place, line string) {
	if trimmed := strings.TrimLeft(line, " \t"); trimmed == "" || trimmed[0] == '#' || r.full {
		return
	}
	tokens, column, message, hint := lexFapolicyd(line)
	switch {
	case message != "":
		r.problem(at.file, at.line, column, hint, "%s", message)
	case tokens[0].text[:1] == "%":
		r.set(at, tokens)
	default:
		r.rule(at, line, tokens)
	}
}

// set reads the definition of a set: %name=value,value.
func (r *fapolicydReader) set(at place, tokens []token) {
	name, value, ok := strings.Cut(tokens[0].text, "=")
	name, more := strings.CutSuffix(name, "+")
	switch {
	case !ok || len(tokens) > 1 || strings.Trim(name[1:], setName) != "" || name == "%":
		r.problem(at.file, at.line, tokens[0].column, "write %name=value,value with values in quotes if they have blanks", "the line is no definition of a set")
	case more && r.sets[name] == nil:
		r.problem(at.file, at.line, tokens[0].column, "name the file that defines it before this one", "the set %s is added to and not defined", quote(name))
	case !more && r.sets[name] != nil:
		r.problem(at.file, at.line, tokens[0].column, "keep one of them", "the set %s is defined twice", quote(name))
	default:
		r.sets[name] = append(r.sets[name], values(value)...)
		if r.sets[name] == nil {
			r.sets[name] = []string{}
		}
	}
}

const setName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

var fapolicydDecisions = map[string]struct {
	verdict verdict
	told    string // where else the decision goes
}{
	"allow": {allow, ""}, "allow_audit": {audit, "the audit log of the kernel"}, "allow_syslog": {audit, "syslog"}, "allow_log": {audit, "the audit log of the kernel and syslog"},
	"deny": {deny, ""}, "deny_audit": {deny, "the audit log of the kernel"}, "deny_syslog": {deny, "syslog"}, "deny_log": {deny, "the audit log of the kernel and syslog"},
}

// rule reads a rule: with a colon "decision perm=P subject : object", without one in
// the old way "decision attribute...", which knows no permission but open.
func (r *fapolicydReader) rule(at place, line string, tokens []token) {
	decision, ok := fapolicydDecisions[tokens[0].text]
	if !ok {
		r.problem(at.file, at.line, tokens[0].column, "a rule begins with allow or deny, also with _audit, _syslog or _log behind it",
			"unknown decision %s", quote(tokens[0].text))
		return
	}
	out := rule{place: at, source: line, verdict: decision.verdict}
	perm := "open"
	tokens = tokens[1:]
	colon := slices.IndexFunc(tokens, func(t token) bool { return t.text == ":" })
	if len(tokens) > 0 && colon >= 0 {
		if name, value, _ := strings.Cut(tokens[0].text, "="); name == "perm" {
			perm = value
			if perm != "open" && perm != "execute" && perm != "any" {
				r.problem(at.file, at.line, tokens[0].column, "write perm=open, perm=execute or perm=any", "unknown permission %s", quote(perm))
				return
			}
			tokens, colon = tokens[1:], colon-1
		}
	}
	a := attributes{fapolicydReader: r, rule: &out}
	for i, t := range tokens {
		switch {
		case i == colon:
			a.inObject = true
			continue
		case t.text == "all":
			// It matches everything; in the old way the first is the subject.
			if a.inObject || colon < 0 && a.subjects > 0 {
				a.objects++
			} else {
				a.subjects++
			}
			continue
		}
		if message, hint := a.read(t.text, colon >= 0); message != "" {
			r.problem(at.file, at.line, t.column, hint, "%s", message)
			return
		}
	}
	if a.subjects == 0 || a.objects == 0 {
		r.problem(at.file, at.line, 1, `write both, with all for any: "deny perm=any all : path=/x"`, "the rule has no %s", map[bool]string{true: "subject", false: "object"}[a.subjects == 0])
		return
	}
	if decision.told != "" {
		r.findOnce(Note, at, "the decision goes to %s as well; here it is in the events and the verdict log", decision.told)
	}
	r.emitFor(out, perm)
}

// emitFor adds the rule for what fapolicyd asks. An exec is asked about twice there, as an exec and as
// an open, and goes on when both are allowed; here it is one question. So a deny of opens
// is about execs as well, while to allow opens allows no exec.
func (r *fapolicydReader) emitFor(out rule, perm string) {
	switch {
	case perm == "execute":
		out.events = []string{"exec"}
	case perm == "any" || out.verdict.denies():
		out.events = []string{"open", "exec"}
	default:
		out.events = []string{"open"}
	}
	r.asked[len(r.rules)] = perm
	uids := out.match.uid
	r.emit(out)
	if out.verdict.denies() && !out.leftOut() && len(uids) > 0 {
		// fapolicyd from 2.0 on compares the effective id, too.
		out.match.uid, out.match.euid = nil, uids
		r.asked[len(r.rules)] = perm
		r.emit(out)
	}
}

// tellTwins names the rules for which one question about an exec is not as good as two.
func (r *fapolicydReader) tellTwins() {
	c := comparer{left: maxCompared}
	var allowed []int // that are about opens alone or execs alone
	for i := range r.rules {
		d := &r.rules[i]
		switch {
		case d.leftOut() || c.left < 0:
			continue
		case !d.verdict.denies() && r.asked[i] != "any":
			allowed = append(allowed, i)
			continue
		case !d.verdict.denies() || r.asked[i] == "execute":
			continue
		}
		for _, j := range allowed {
			c.left--
			if r.asked[j] == "open" && r.asked[i] == "any" || !c.meetBeside(d, &r.rules[j]) {
				continue
			}
			how := "execs that it refuses as opens are allowed by the earlier " + r.rules[j].id
			if r.asked[j] == "open" {
				how = "execs of what the earlier " + r.rules[j].id + " lets be opened are refused here as well"
			}
			d.changed = append(d.changed, how)
			r.find(Changed, d.place, d.id, "%s", how)
			break
		}
	}
	if c.left < 0 {
		r.findOnce(Note, r.rules[0].place, "there are too many rules to say which denies of opens meet allows of execs")
	}
}
