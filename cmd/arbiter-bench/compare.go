// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/arbiterd/arbiter/bench/compare"
)

// compareRuns says what has changed from one report to another one.
func compareRuns(args []string, out, errw io.Writer) error {
	f := newFileFlags("compare", "OLD.json NEW.json")
	threshold := f.Float64("threshold", 100*compare.DefaultThreshold, "from how many `per cent` on a significant slow-down is exit status 4")
	only := f.String("only", "", "scenario `ids`, comma-separated (default: all)")
	files, err := f.parse(args, errw)
	if err != nil {
		return err
	}
	if len(files) != 2 {
		return usageError{fmt.Errorf("compare: got %d reports, name two: the old one, then the new one", len(files))}
	}
	if *threshold < 0 {
		return usageError{errors.New("compare: give a --threshold of 0 or more")}
	}
	old, err := readReport(files[0])
	if err != nil {
		return err
	}
	after, err := readReport(files[1])
	if err != nil {
		return err
	}
	var ids []string
	if *only != "" {
		ids = strings.Split(*only, ",")
	}
	result, err := compare.Compare(old, after, ids)
	if err != nil {
		return fmt.Errorf("comparing %s with %s: %w", files[0], files[1], err)
	}
	if err := result.Write(out, *threshold/100); err != nil {
		return err
	}
	switch {
	case !result.Told():
		return errNoVerdict
	case len(result.Slower(*threshold/100)) > 0:
		return errSlower
	}
	return nil
}
