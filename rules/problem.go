// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems bounds one report: a file of 8 MiB can hold a mistake per byte,
// and nobody reads more than this before repairing the first.
const maxProblems = 1000

// Problem is one thing that is wrong with a rule file.
type Problem struct {
	File string
	// Line and Column count from 1, the column in characters. Column is 1 where
	// only the line is known.
	Line, Column int
	Message      string
	// Hint says what to write instead; it may be empty.
	Hint string
	// Rule is the id of the rule concerned, empty outside of rules.
	Rule string
}

// Error returns "file:line:column: message; hint" on one line.
func (p Problem) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	if p.Rule != "" {
		s = fmt.Sprintf("%s:%d:%d: rule %s: %s", p.File, p.Line, p.Column, p.Rule, p.Message)
	}
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// Problems is everything that is wrong with a rule file, in the order of the
// file. It is the dynamic type of the errors of Parse, Compile and Load.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap makes every problem visible to errors.As.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// finish sorts the problems, shortens a report that is too long, and returns an
// error only when there are any: a nil Problems in an error is not nil.
func (ps Problems) finish() error {
	if len(ps) == 0 {
		return nil
	}
	return ps.sorted()
}

// sorted returns the problems in the order of the file, not too many.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(ps) - maxProblems; more > 0 {
		last := ps[maxProblems-1]
		ps = append(ps[:maxProblems:maxProblems], Problem{File: last.File, Line: last.Line, Column: last.Column,
			Message: fmt.Sprintf("%d more problems are not shown", more), Hint: "repair these first"})
	}
	return ps
}

// quote returns s for a message: one line, printable ASCII, not too long.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return strconv.QuoteToASCII(s)
}

// bare is quote for text that is usually harmless: the quotes are left out
// where nothing in it needs them.
func bare(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' {
			return quote(s)
		}
	}
	if s == "" || len(s) > 200 {
		return quote(s)
	}
	return s
}

// synonyms are words that people write for a field, learned from other tools.
var synonyms = map[string]string{
	"action": "verdict", "effect": "verdict", "decision": "verdict", "name": "id", "event": "events", "hook": "events",
	"user": "uid", "group": "gid", "description": "message", "timeout": "deadline",
	"except": "not", "unless": "not", "failure": "on_fail", "fail": "on_fail", "binary": "exe", "executable": "exe",
	"file": "path", "target": "object", "mode": "access", "regex": "glob", "exact": "literal",
	"arguments": "args", "arg": "args", "new_path": "detail", "xattr": "detail", "fstype": "detail",
	"kill": "signal", "execve": "exec", "openat": "open", "delete": "unlink", "remove": "unlink", "mmap": "mmap_exec", "mprotect": "mprotect_exec",
	"unmount": "umount", "unshare": "userns_create", "insmod": "module_load", "init_module": "module_load", "sendto": "sendmsg", "send": "sendmsg",
	"dport": "port", "sport": "port", "address_family": "family", "protocol_family": "family", "proto": "protocol", "address": "addr", "ip": "addr", "cidr": "addr", "network": "addr", "sig": "signal", "pid": "target_pid",
	"cap": "capability", "option": "options", "options": "option",
}

// suggest returns the known word that the writer most likely meant, "" when
// none is near.
func suggest(word string, known []string) string {
	lower := strings.ToLower(word)
	if s := synonyms[lower]; s != "" && slices.Contains(known, s) {
		return s
	}
	best, most := "", max(1, min(3, len(word)/2))
	for _, k := range known {
		if d := distance(lower, strings.ToLower(k), most); k != "" && d <= most {
			best, most = k, d-1
		}
	}
	return best
}

// distance is the number of letters to change, add or remove to come from a to
// b; any number above most when it is more than that.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
