// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/arbiterd/arbiter/bench"
)

// scenario is the child's side: its arguments come from the parent.
func scenario(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return usageError{errors.New("scenario is started by a comparison itself")}
	}
	s, ok := bench.Find(allScenarios(), args[0])
	if !ok {
		return usageError{fmt.Errorf("no scenario %q", args[0])}
	}
	at, err := bench.ParsePlace(args[1])
	if err != nil {
		return usageError{err}
	}
	return bench.Serve(s, at, in, out)
}

// allScenarios are those of all commands.
func allScenarios() []bench.Scenario {
	all := append(ruleScenarios(), bench.Systems("")...)
	for _, c := range comparisons() {
		all = append(all, c.list()...)
	}
	return all
}
