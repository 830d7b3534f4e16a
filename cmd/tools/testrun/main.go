// SPDX-License-Identifier: Apache-2.0

// Command testrun runs `go test`, prints its summary lines and the whole output
// of what failed, and ends with every skipped test and what it missed. A skip
// that the list of allowed skips does not name is a failure with -strict: a test
// that silently did not run is worth as much as no test.
//
//	testrun -phase unit [-allow FILE] [-record FILE] [-dir DIR] [-strict] [-v] -- go-test-arguments...
//	testrun -settle RECORD...
//
// The second form reads what earlier runs recorded, checks that each skip which
// another phase owes was really run there, and prints the sum of all.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	var o options
	flag.StringVar(&o.phase, "phase", "unit", "name of this run, in the list of skips and in the record")
	flag.StringVar(&o.allow, "allow", "", "file with the allowed skips")
	flag.StringVar(&o.record, "record", "", "file to write this run's outcomes to, for -settle")
	flag.StringVar(&o.dir, "dir", "", "folder to run go test in, the working directory if empty")
	flag.BoolVar(&o.strict, "strict", false, "a skip that is not allowed is a failure")
	flag.BoolVar(&o.verbose, "v", false, "print all output as it comes")
	settle := flag.Bool("settle", false, "read records, do not run tests")
	flag.Parse()

	var ok bool
	var err error
	if *settle {
		ok, err = settleFiles(os.Stdout, flag.Args())
	} else {
		ok, err = run(os.Stdout, o, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

type options struct {
	phase, allow, record, dir string
	strict, verbose           bool
}

// run executes go test with args and reports on w. It returns false when
// anything failed; an error is trouble with the run itself.
func run(w io.Writer, o options, args []string) (bool, error) {
	allowed, err := readAllowed(o.allow)
	if err != nil {
		return false, fmt.Errorf("reading the allowed skips: %w", err)
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = o.dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("starting go test: %w", err)
	}
	c := newCollector(w, o.verbose)
	readErr := c.read(stdout)
	waitErr := cmd.Wait()
	if readErr != nil {
		return false, fmt.Errorf("reading the output of go test: %w", readErr)
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) {
		return false, fmt.Errorf("running go test: %w", waitErr)
	}
	outcomes := c.finish(o.phase, allowed, o.strict)
	report(w, o.phase, outcomes)
	if o.record != "" {
		if err := writeRecord(o.record, outcomes); err != nil {
			return false, fmt.Errorf("writing the record: %w", err)
		}
	}
	return waitErr == nil && count(outcomes).failed == 0, nil
}

func writeRecord(name string, outcomes []outcome) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	enc := json.NewEncoder(b)
	for _, o := range outcomes {
		if err := enc.Encode(o); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(b.Flush(), f.Close())
}
