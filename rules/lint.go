// SPDX-License-Identifier: Apache-2.0

package rules

// Lint names what is well-formed in a rule set and cannot be meant, in the order of the
// file: rules that never decide, because an earlier one matches all that they do or their
// own not block does, parts of rules of which the same holds, and paths that no request has
// because symbolic links lead through them. resolve follows the links of a path, as
// filepath.EvalSymlinks does; nil leaves paths out.
//
// What it names is so; one rule that only several others together leave nothing to of a
// single event is not found. A path that it names matches nothing below the root that
// resolve looks at: in a container the same path can be another one.
func (rs *RuleSet) Lint(resolve func(path string) (string, error)) Problems {
	l := rs.linter()
	l.resolve = resolve
	for i := range rs.all {
		if message, hint := l.idle(int32(i)); message != "" {
			l.add(i, message, hint)
		} else {
			l.contradictions(int32(i))
			l.excluded(int32(i))
		}
		if resolve != nil {
			l.links(i)
		}
	}
	return l.found
}

// Idle returns the ids of the rules that Lint says never decide.
func (rs *RuleSet) Idle() (ids []string) {
	l := rs.linter()
	for i := range rs.all {
		if message, _ := l.idle(int32(i)); message != "" {
			ids = append(ids, rs.RuleID(int32(i)))
		}
	}
	return ids
}

type linter struct {
	rs      *RuleSet
	file    *File
	resolve func(string) (string, error)
	dirs    map[string]string // resolved so far, "" for those that are not there
	found   Problems
}

func (rs *RuleSet) linter() *linter {
	return &linter{rs: rs, file: rs.parsed(), dirs: map[string]string{}}
}

func (l *linter) add(i int, message, hint string) {
	r := &l.file.rules[i]
	l.found = append(l.found, Problem{File: l.file.name, Line: r.line, Column: r.column, Rule: r.id, Message: message, Hint: hint})
}

// idle says why rule i never decides, and what to do; "" when that is not found.
func (l *linter) idle(i int32) (message, hint string) {
	if l.never(i) {
		return "the rule never decides: its not block holds whenever the rest of it does", "narrow the not block, or take the rule out"
	}
	return l.shadow(i)
}
