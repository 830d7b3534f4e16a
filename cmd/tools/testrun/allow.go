// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// allowance is one line of the allowed skips.
type allowance struct {
	phase, test, reason *regexp.Regexp
	owed                string // phase prefix that has to run the test, "" for none
	why                 string
}

// readAllowed reads lines of `phase | test | reason | owed | why`. The first
// three are regular expressions, anchored at both ends for phase and test,
// found anywhere for the reason. The test is written `package.Test/sub`, the
// package without the module path. owed is the phase whose runs must have
// passed the test, or `-`. No name means no allowance.
func readAllowed(name string) ([]allowance, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out []allowance
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a, err := parseAllowance(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAllowance(line string) (allowance, error) {
	// The separator has spaces around it, so that a|b stays an alternative.
	f := strings.Split(line, " | ")
	if len(f) != 5 {
		return allowance{}, fmt.Errorf("got %d fields, want 5: phase | test | reason | owed | why", len(f))
	}
	for i := range f {
		if f[i] = strings.TrimSpace(f[i]); f[i] == "" {
			return allowance{}, fmt.Errorf("field %d is empty", i+1)
		}
	}
	var a allowance
	var err error
	if a.phase, err = regexp.Compile("^(?:" + f[0] + ")$"); err != nil {
		return a, err
	}
	if a.test, err = regexp.Compile("^(?:" + f[1] + ")$"); err != nil {
		return a, err
	}
	if a.reason, err = regexp.Compile(f[2]); err != nil {
		return a, err
	}
	if f[3] != "-" {
		a.owed = f[3]
	}
	a.why = f[4]
	return a, nil
}

func match(allowed []allowance, o outcome) (allowance, bool) {
	for _, a := range allowed {
		if a.phase.MatchString(o.Phase) && a.test.MatchString(short(o)) && a.reason.MatchString(o.Reason) {
			return a, true
		}
	}
	return allowance{}, false
}

// short is the test's name as the list writes it: kernelbridge.TestX/sub.
func short(o outcome) string {
	p := strings.TrimPrefix(o.Package, "github.com/arbiterd/arbiter")
	p = strings.TrimPrefix(p, "/")
	switch {
	case o.Test == "":
		return p
	case p == "":
		return o.Test // of the root package
	}
	return p + "." + o.Test
}
