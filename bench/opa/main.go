// SPDX-License-Identifier: Apache-2.0

// Command opa is the rows of arbiter-bench rules that Open Policy Agent's Go API has:
// the same rules and requests, decided by a prepared query. It is a module of its own,
// so that nothing of it is in the go.mod of the arbiter, and is started by
// arbiter-bench rules --opa as the child of each row.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/arbiterd/arbiter/bench"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "arbiter-bench-opa: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("it is started by arbiter-bench rules --opa")
	}
	info, ok := bench.Find(bench.OPARows(""), args[0])
	if !ok {
		return fmt.Errorf("no scenario %q", args[0])
	}
	at, err := bench.ParsePlace(args[1])
	if err != nil {
		return err
	}
	return bench.Serve(scenario{info.Describe()}, at, os.Stdin, os.Stdout)
}
