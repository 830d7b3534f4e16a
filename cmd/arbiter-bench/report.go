// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/arbiterd/arbiter/bench/report"
)

// showReport writes the page, the plots and the tables of some reports.
func showReport(args []string, out, errw io.Writer) error {
	f := newFileFlags("report", "FILE.json... --out DIR")
	dir := f.String("out", "", "the `folder` to write to; it is made where it is missing")
	files, err := f.parse(args, errw)
	if err != nil {
		return err
	}
	if *dir == "" {
		return usageError{errors.New("report: say where to, with --out DIR")}
	}
	if len(files) == 0 {
		return usageError{errors.New("report: name the reports, files that --json has written")}
	}
	var runs []*report.Run
	for i, file := range files {
		saved, err := readReport(file)
		if err != nil {
			return err
		}
		run, err := report.New(runName(file, runs), saved)
		if err != nil {
			return fmt.Errorf("%s: %w", files[i], err)
		}
		runs = append(runs, run)
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of the report: %w", err)
	}
	write := func(name string, content func(io.Writer) error) error {
		path := filepath.Join(*dir, name)
		if err := writeFile(path, content); err != nil {
			return err
		}
		fmt.Fprintln(out, path)
		return nil
	}
	if err := write("index.html", func(w io.Writer) error { return report.HTML(w, runs) }); err != nil {
		return err
	}
	for _, r := range runs {
		if err := write(r.Name+".md", r.Markdown); err != nil {
			return err
		}
		for _, p := range r.Plots() {
			if err := errors.Join(write(p.Name+".svg", p.SVG), write(p.Name+".png", p.PNG)); err != nil {
				return err
			}
		}
	}
	return nil
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// runName makes a name for the files of a report from its own, one that no other has.
func runName(file string, others []*report.Run) string {
	base := strings.Trim(notInName.ReplaceAllString(strings.TrimSuffix(filepath.Base(file), ".json"), "-"), "-")
	if base == "" || base == "index" {
		base = "run"
	}
	name := base
	taken := func() bool {
		for _, o := range others {
			if strings.EqualFold(o.Name, name) {
				return true
			}
		}
		return false
	}
	for n := 2; taken(); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}
