// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// The words between parent and child, a JSON value each: the child says hello once,
// then answers one result per command. End of input ends the child.
type (
	hello struct {
		Unavailable string `json:"unavailable,omitempty"`
		Error       string `json:"error,omitempty"`
	}
	command struct {
		RoundOptions
		Samples int `json:"samples"`
	}
	result struct {
		Outcome
		Histogram string `json:"histogram,omitempty"`
		Error     string `json:"error,omitempty"`
	}
)

// ParsePlace reads what a child is given behind the scenario's ID.
func ParsePlace(s string) (at Place, err error) {
	if n, err := fmt.Sscanf(s, "%d,%d", &at.Requester, &at.Responder); n != 2 || err != nil {
		return Place{}, fmt.Errorf("CPUs %q: want two numbers", s)
	}
	return at, nil
}

// Serve is the child's side of a scenario: it opens it, then does a round for each
// command on in and writes the result to out. It returns when in ends, also in the
// middle of a round: the process must exit then, which ends whatever the round
// was about. Faults of the scenario are told to the parent; the error is about in
// and out.
func Serve(s Scenario, at Place, in io.Reader, out io.Writer) error {
	if s.Describe().Lean {
		debug.SetGCPercent(-1)
	}
	enc := json.NewEncoder(out)
	session, err := s.Open(at)
	if err != nil {
		if unavailable(err) {
			return enc.Encode(hello{Unavailable: err.Error()})
		}
		return enc.Encode(hello{Error: err.Error()})
	}
	stopProfile, err := startProfile(s.Describe().ID)
	if err != nil {
		return errors.Join(enc.Encode(hello{Error: err.Error()}), session.Close())
	}
	if err := enc.Encode(hello{}); err != nil {
		return errors.Join(err, stopProfile(), session.Close())
	}

	commands, end := make(chan command), make(chan error, 1)
	go func() {
		dec := json.NewDecoder(in)
		for {
			var c command
			if err := dec.Decode(&c); err != nil {
				end <- err
				return
			}
			commands <- c
		}
	}()
	results := make(chan result)
	for {
		select {
		case c := <-commands:
			go func() { results <- serveRound(session, c) }()
		case r := <-results:
			if err := enc.Encode(r); err != nil {
				return fmt.Errorf("reporting a round: %w", err)
			}
		case err := <-end:
			if err == io.EOF {
				return errors.Join(stopProfile(), session.Close())
			}
			return fmt.Errorf("reading a command: %w", err)
		}
	}
}

func serveRound(s Session, c command) result {
	samples := make([]uint32, c.Samples)
	clear(samples) // touch the pages now, not while the clock runs
	runtime.GC()   // nothing is in a system call: it can stop the world
	o, err := s.Round(c.RoundOptions, samples)
	if err != nil {
		return result{Error: err.Error()}
	}
	h := newHistogram()
	if err := record(h, samples[:o.Samples], o.Unit, o.Pace); err != nil {
		return result{Error: err.Error()}
	}
	text, err := encode(h)
	if err != nil {
		return result{Error: err.Error()}
	}
	return result{Outcome: o, Histogram: text}
}
