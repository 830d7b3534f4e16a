// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/audit"
)

// recordings are files of records that are read one after another, and what is wrong with them.
type recordings struct {
	app        *app
	files      int
	unreadable uint64 // lines

	runs    int    // of the daemon: sequence numbers begin anew with each
	last    uint64 // sequence number
	missing uint64 // sequence numbers
}

// shownLines is how many unreadable lines are named; the others are counted.
const shownLines = 3

// read calls each with the records of a file, - for stdin.
func (r *recordings) read(cmd *cobra.Command, arg string, each func(*arbiter.Event)) error {
	in := r.app.stdin
	if arg != "-" {
		f, err := os.Open(arg)
		if err != nil {
			return unreadable(cmd, "records", "recording", arg, err)
		}
		defer f.Close()
		in = f
	}
	r.files++
	records := audit.NewReader(in)
	for {
		if err := cmd.Context().Err(); err != nil {
			return fail(exitFailure, "", errors.New("interrupted"))
		}
		e, err := records.Next()
		var bad *audit.LineError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &bad):
			r.unreadable++
			if r.unreadable <= shownLines {
				fmt.Fprintln(r.app.stderr, safe(fmt.Sprintf("%s:%d:%d: %s; %s", audit.Quote(arg), records.Line(), bad.Column, bad.Message, bad.Hint)))
			}
			continue
		case err != nil:
			return unreadable(cmd, "records", "recording", arg, err)
		}
		r.sequence(e.Seq)
		each(e)
	}
}

// sequence counts the numbers that are missing. What is lost at the end leaves no trace.
func (r *recordings) sequence(seq uint64) {
	if r.runs == 0 || seq <= r.last {
		r.runs++
	} else {
		r.missing += seq - r.last - 1
	}
	r.last = seq
}
