// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules/learn"
)

// recorded learns from recordings: lines of the verdict log, or of arbiterctl events.
type recorded struct {
	*learning
	recordings
	cmd *cobra.Command
}

func (r *recorded) learn(into *learn.Observed) (l loss, code int, err error) {
	learned := 0
	for _, file := range r.from {
		err := r.read(r.cmd, file, func(e *arbiter.Event) {
			switch {
			case !slices.Contains(r.events, e.Event) || !r.inScope(e):
			case e.Reason != abi.ReasonNone && e.Reason != abi.ReasonInterrupted:
				l.failed++
			case e.Verdict == "deny" || e.Verdict == "kill":
				l.refused++
			case e.Reason == abi.ReasonNone && !e.Late:
				into.Add(factOf(e))
				learned++
			}
		})
		if err != nil {
			return l, 0, err
		}
	}
	if learned == 0 {
		l.because("the recording has no allowed request of these events in the scope")
	}
	if r.missing > 0 {
		l.because(fmt.Sprintf("%s of the recording are missing: plain allowed requests are recorded by arbiterctl events --all alone", plural(r.missing, "sequence number")))
	}
	if r.unreadable > 0 {
		l.because(fmt.Sprintf("%s of the recording could not be read", plural(r.unreadable, "line")))
	}
	return l, 0, nil
}

// inScope reports whether a record is about the scope: its object, or the program that acts
// where that is no file.
func (r *recorded) inScope(e *arbiter.Event) bool {
	path := e.Path
	if !strings.HasPrefix(path, "/") {
		path = e.Exe
	}
	return slices.ContainsFunc(r.scope, func(dir string) bool {
		return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
	})
}
