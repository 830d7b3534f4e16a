// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
)

// santaRule is one rule of a list of Santa. Its identity is type and identifier: the last one of
// an identity holds, wherever it stands.
type santaRule struct {
	place
	source string
	fields map[string]string
}

func (im *importer) santa(sources []Source) {
	var list []santaRule
	for _, s := range sources {
		if first := bytes.TrimLeft(s.Text, " \t\r\n"); len(first) > 0 && (first[0] == '{' || first[0] == '[') {
			list = append(list, im.santaJSON(s)...)
		} else {
			list = append(list, im.santaCSV(s)...)
		}
	}
	for _, r := range im.inForce(list) {
		im.santaRule(r)
	}
	if im.Lockdown && len(sources) > 0 {
		im.emit(rule{place: place{sources[len(sources)-1].Name, 1}, source: "(lockdown) what no rule names is not executed",
			id: "santa-lockdown", events: []string{"exec"}, verdict: deny})
	}
}

func (im *importer) santaJSON(s Source) (list []santaRule) {
	items, others, _ := im.jsonList(s, "rules")
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if name != "cursor" {
			im.find(Lost, place{s.Name, 1}, "", "%s: of the file the rules alone are read", bare(name))
		}
	}
	for _, i := range items {
		if fields, ok := im.fields(i); ok {
			list = append(list, santaRule{i.place, i.text(), fields})
		}
	}
	return list
}

// santaCSV reads a table whose first line names the columns as JSON does.
func (im *importer) santaCSV(s Source) (list []santaRule) {
	r := csv.NewReader(bytes.NewReader(s.Text))
	head, err := r.Read()
	if err == nil {
		for i, h := range head {
			head[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))
			if slices.Contains(head[:i], head[i]) {
				im.problem(s.Name, 1, 1, "keep one of them", "the column %s is there twice", quote(head[i]))
				return nil
			}
		}
		if !slices.Contains(head, "rule_type") || !slices.Contains(head, "policy") {
			im.problem(s.Name, 1, 1, "name the columns in the first line: rule_type,policy,identifier,custom_msg", "there is no column rule_type, or no column policy")
			return nil
		}
	}
	for err == nil {
		var row []string
		if row, err = r.Read(); err != nil {
			break
		}
		line, _ := r.FieldPos(0)
		fields := map[string]string{}
		for i, v := range row {
			fields[head[i]] = v
		}
		list = append(list, santaRule{place{s.Name, line}, strings.Join(row, ","), fields})
	}
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		im.problem(s.Name, bad.Line, max(bad.Column, 1), "every line has the columns of the first; put a value with a comma or a quote in double quotes", "not a table: %s", bad.Err)
	case errors.Is(err, io.EOF) && head == nil:
		im.problem(s.Name, 1, 1, "write JSON, or a table whose first line names the columns: rule_type,policy,identifier", "the file is empty")
	}
	return list
}

// inForce returns the rules that hold when all were received in their order, and reports those that
// a later one replaces or removes.
func (im *importer) inForce(list []santaRule) (out []santaRule) {
	key := func(r santaRule) string {
		return strings.ToUpper(r.fields["rule_type"]) + " " + strings.ToLower(r.identifier())
	}
	last := map[string]int{}
	for i, r := range list {
		if j, seen := last[key(r)]; seen {
			im.find(Note, list[j].place, "", "the rule is replaced by the one of %s:%d", bare(r.file), r.line)
		}
		last[key(r)] = i
	}
	for i, r := range list {
		switch {
		case last[key(r)] != i:
		case strings.EqualFold(r.fields["policy"], "REMOVE"):
			im.find(Note, r.place, "", "REMOVE takes a rule away; here it is not written in the first place")
		default:
			out = append(out, r)
		}
	}
	return out
}

// identifier is called sha256 in older lists.
func (r *santaRule) identifier() string {
	if id := r.fields["identifier"]; id != "" {
		return id
	}
	return r.fields["sha256"]
}

// santaTypes says why rules of a type have no equal here.
var santaTypes = map[string]string{
	"BINARY":      "",
	"CERTIFICATE": "files carry no signing certificate here; list them by digest",
	"TEAMID":      "files carry no team id here; list them by digest",
	"SIGNINGID":   "files carry no signing id here; list them by digest",
	"CDHASH":      "files carry no code directory here; list them by sha256",
}

var santaPolicies = map[string]struct {
	verdict verdict
	missing string
	note    string
}{
	"ALLOWLIST":                 {allow, "", ""},
	"WHITELIST":                 {allow, "", ""},
	"ALLOWLIST_COMPILER":        {allow, "", "a compiler is allowed as any program; what it writes is not allowed by that"},
	"WHITELIST_COMPILER":        {allow, "", "a compiler is allowed as any program; what it writes is not allowed by that"},
	"BLOCKLIST":                 {deny, "", ""},
	"BLACKLIST":                 {deny, "", ""},
	"SILENT_BLOCKLIST":          {deny, "", "silent: no user is told of a refusal here, and every refusal is recorded"},
	"SILENT_BLACKLIST":          {deny, "", "silent: no user is told of a refusal here, and every refusal is recorded"},
	"SILENT_GUI_BLOCKLIST":      {deny, "", "silent: no user is told of a refusal here, and every refusal is recorded"},
	"SILENT_TTY_BLOCKLIST":      {deny, "", "silent: no user is told of a refusal here, and every refusal is recorded"},
	"ALLOWLIST_LOCAL_BINARY":    {allow, "a rule that is confirmed on the machine has no equal here", ""},
	"ALLOWLIST_LOCAL_SIGNINGID": {allow, "a rule that is confirmed on the machine has no equal here", ""},
	"CEL":                       {deny, "an expression that is computed for each exec has no equal here", ""},
}

// santaRule adds the rule. Digests of programs are all different, so the order has no influence.
func (im *importer) santaRule(r santaRule) {
	kind, policy := strings.ToUpper(r.fields["rule_type"]), strings.ToUpper(r.fields["policy"])
	why, known := santaTypes[kind]
	if !known {
		im.problem(r.file, r.line, 1, "write BINARY, CERTIFICATE, TEAMID, SIGNINGID or CDHASH", "unknown rule_type %s", quote(r.fields["rule_type"]))
		return
	}
	p, known := santaPolicies[policy]
	if !known {
		im.problem(r.file, r.line, 1, "write ALLOWLIST, BLOCKLIST, SILENT_BLOCKLIST or REMOVE", "unknown policy %s", quote(r.fields["policy"]))
		return
	}
	out := rule{place: r.place, source: r.source, events: []string{"exec"}, verdict: p.verdict}
	if why != "" {
		out.miss(kind + ": " + why)
	} else if hex, ok := digest(r.identifier()); ok {
		out.match.sha256 = []string{hex}
	} else {
		im.problem(r.file, r.line, 1, "write the sha256 of the file, 64 hexadecimal digits", "the identifier %s is no sha256", quote(r.identifier()))
		return
	}
	if p.missing != "" {
		out.miss(policy + ": " + p.missing)
	}
	if p.note != "" {
		im.findOnce(Note, r.place, "%s: %s", policy, p.note)
	}
	if m := r.fields["custom_msg"]; m != "" {
		if why := notMessage(m); why != "" {
			im.find(Note, r.place, "", "custom_msg is not kept: %s", why)
		} else {
			out.message = m
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		if r.fields[name] != "" && !slices.Contains([]string{"rule_type", "policy", "identifier", "sha256", "custom_msg"}, name) {
			im.findOnce(Note, r.place, "%s is not kept", bare(name))
		}
	}
	im.spend(len(out.message) + len(r.source))
	im.emit(out)
}
