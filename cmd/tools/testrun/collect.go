// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// event is one line of `go test -json`, see `go doc test2json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Key, Value                                string  // of a testing.T.Attr
	Elapsed                                   float64 // seconds, when a test ends
}

// seenKey is the attribute by which a test says what it saw happen, in a sentence.
const seenKey = "seen"

type testName struct{ pkg, test string }

// outcome is how one test, or a package that broke outside its tests, ended.
type outcome struct {
	Phase, Package, Test string
	Action               string // pass, fail, skip
	Seconds              float64
	Reason               string `json:",omitempty"` // of a skip
	Owed                 string `json:",omitempty"` // the phase that has to run what was skipped here
	Why                  string `json:",omitempty"` // why the skip is allowed
}

// collector turns the stream of events into outcomes, and prints on the way.
type collector struct {
	w       io.Writer
	verbose bool
	output  map[testName][]string
	failing map[string]bool // packages with a failed test, their own text was shown
	done    []outcome
}

func newCollector(w io.Writer, verbose bool) *collector {
	return &collector{w: w, verbose: verbose, output: map[testName][]string{}, failing: map[string]bool{}}
}

// read consumes the stream to its end. A line that is no event is printed: it
// is what go itself or a test's child wrote past the framing.
func (c *collector) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				c.handle(e)
			} else {
				fmt.Fprintf(c.w, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// summary matches the lines that go test prints once per package.
var summary = regexp.MustCompile(`^(ok|FAIL|\?)\s+\S+.*\n?$`)

func (c *collector) handle(e event) {
	name := testName{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(c.w, e.Output)
	case "output":
		if c.verbose || e.Test == "" && summary.MatchString(e.Output) {
			c.flushPackage(e)
			fmt.Fprint(c.w, e.Output)
			return
		}
		// The frame around the text says nothing that the report does not.
		if !strings.HasPrefix(e.Output, "=== ") && e.Output != "FAIL\n" && e.Output != "PASS\n" {
			c.output[name] = append(c.output[name], e.Output)
		}
	case "attr":
		if e.Key == seenKey {
			fmt.Fprintf(c.w, "SEEN    %s\n", e.Value)
		}
	case "pass":
		if e.Test != "" {
			c.done = append(c.done, outcome{Package: e.Package, Test: e.Test, Action: "pass", Seconds: e.Elapsed})
			delete(c.output, name)
		}
	case "fail":
		c.fail(name, e.Elapsed)
	case "skip":
		if e.Test != "" {
			c.done = append(c.done, outcome{Package: e.Package, Test: e.Test, Action: "skip", Reason: skipReason(c.output[name])})
			delete(c.output, name)
		}
	}
}

// fail shows everything that a failed test printed. A package that failed
// without a failed test (build, panic in TestMain, leak check, time-out) counts
// as one failure of its own.
func (c *collector) fail(name testName, seconds float64) {
	if name.test != "" {
		c.failing[name.pkg] = true
		c.done = append(c.done, outcome{Package: name.pkg, Test: name.test, Action: "fail", Seconds: seconds})
		fmt.Fprint(c.w, strings.Join(c.output[name], ""))
		delete(c.output, name)
		return
	}
	if !c.failing[name.pkg] {
		c.done = append(c.done, outcome{Package: name.pkg, Test: "", Action: "fail"})
	}
}

// flushPackage shows the package's own output ahead of its FAIL line, and that
// of tests which never ended, as after a panic or a time-out.
func (c *collector) flushPackage(e event) {
	if !strings.HasPrefix(e.Output, "FAIL") {
		return
	}
	for name, lines := range c.output {
		if name.pkg == e.Package && name.test != "" {
			fmt.Fprint(c.w, strings.Join(lines, ""))
			delete(c.output, name)
		}
	}
	own := testName{pkg: e.Package}
	fmt.Fprint(c.w, strings.Join(c.output[own], ""))
	delete(c.output, own)
}

// finish names the phase in each outcome and judges the skips. Of a test that was run more than once, as when vmrun
// boots again, the last outcome counts, but a failure always.
func (c *collector) finish(phase string, allowed []allowance, strict bool) []outcome {
	of := map[testName]int{}
	var once []outcome
	for _, o := range c.done {
		name := testName{o.Package, o.Test}
		i, again := of[name]
		switch {
		case !again:
			of[name] = len(once)
			once = append(once, o)
		case once[i].Action != "fail":
			once[i] = o
		}
	}
	c.done = once
	for i := range c.done {
		o := &c.done[i]
		o.Phase = phase
		if o.Action != "skip" {
			continue
		}
		if a, ok := match(allowed, *o); ok {
			o.Owed, o.Why = a.owed, a.why
		} else if strict {
			o.Action = "fail"
		}
	}
	return c.done
}

var position = regexp.MustCompile(`^\S+\.go:\d+: `)

// skipReason picks the message out of what a skipped test printed.
func skipReason(lines []string) string {
	var kept []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "--- SKIP") {
			continue
		}
		kept = append(kept, position.ReplaceAllString(l, ""))
	}
	if len(kept) == 0 {
		return "no reason given"
	}
	return strings.Join(kept, " / ")
}
