// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/rules"
)

// failureWarnings says which deadlines and failure verdicts of a rule set will not
// hold as they are written: the kernel side gives up after bound, which the key of the
// configuration sets, and the only failure verdict that it knows is the file's. The
// deadline that holds when none is written is no promise of the file.
func failureWarnings(rs *rules.RuleSet, key string, bound time.Duration) (warnings []string) {
	var long, never, late []string
	if d, written := rs.WrittenDeadline(-1); written && d > bound {
		long = append(long, "of the file")
	}
	for i := range int32(rs.Len()) {
		name := "of rule " + rs.RuleID(i)
		d, written := rs.WrittenDeadline(i)
		if written && d > bound {
			long = append(long, name)
		}
		switch {
		case rs.OnFail(i) == rs.OnFail(-1):
		case d < bound:
			late = append(late, name)
		default:
			never = append(never, name)
		}
	}
	file := "the file's on_fail, " + rs.OnFail(-1).String()
	if len(long) > 0 {
		warnings = append(warnings, fmt.Sprintf("deadline %s: longer than %v (%s), after which the kernel side goes on by %s; write at most %v, or raise %s",
			some(long), bound, key, file, bound, key))
	}
	if len(never) > 0 {
		warnings = append(warnings, fmt.Sprintf("on_fail %s: without effect, because after %v (%s) the kernel side goes on by %s; set on_fail for the file, or a deadline below %v",
			some(never), bound, key, file, bound))
	}
	if len(late) > 0 {
		warnings = append(warnings, fmt.Sprintf("on_fail %s: holds only where a worker answers late, after the deadline and within %v (%s); where none answers, %s, holds; set on_fail for the file if it shall hold then too",
			some(late), bound, key, file))
	}
	return warnings
}

// some lists the first names.
func some(names []string) string {
	const most = 5 // fits into a line of a terminal, with short ids
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}
