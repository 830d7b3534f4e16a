// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/rulepush"
)

// opaProgram is what make opa puts beside this program.
const opaProgram = "arbiter-bench-opa"

func rules(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("rules")
	opa := f.Bool("opa", false, "compare with Open Policy Agent as well, by the program "+opaProgram+" beside this one: run make opa first")
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) {
		if !*opa {
			return ruleScenarios(), nil
		}
		program, err := besideUs(opaProgram)
		return append(ruleScenarios(), bench.OPARows(program)...), err
	})
	if err != nil {
		return err
	}
	report, err := bench.RunRules(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

// ruleScenarios are the rows of rules that this program has.
func ruleScenarios() []bench.Scenario { return append(bench.Rules(), rulepush.Scenarios()...) }

// besideUs returns the path of a program in the folder of this one.
func besideUs(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("looking for %s: %w; run make opa, which needs the network the first time", name, err)
	}
	return path, nil
}
