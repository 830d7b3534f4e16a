// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/bench/asker"
)

// childEnv turns the test binary into the child of a scenario.
const childEnv = "ARBITER_BENCH_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func childMain(args []string) int {
	switch args[0] {
	case "idle": // a process that does nothing until its input ends
		bufio.NewReader(os.Stdin).ReadByte()
		return 0
	case "daemon": // does nothing, ends on SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		return 0
	case asker.Word:
		if err := asker.Main(args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case SleeperWord:
		if err := Sleeper(args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case CallerWord:
		if err := Caller(args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case TracerWord:
		if err := Tracer(args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "--config": // as arbiterd is started: one that is ready, and refuses nothing
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		if err != nil {
			return 1
		}
		fmt.Fprint(c, "READY=1\n")
		<-term
		return 0
	case "fails":
		fmt.Fprintln(os.Stderr, "the daemon's last words")
		return 7
	}
	s, ok := Find(slices.Concat(Bridge(), Load(), Boot(), Work(os.Getenv(daemonEnv)), Rungs(), fakes()), args[0])
	if !ok {
		return 9
	}
	var at Place
	fmt.Sscanf(args[1], "%d,%d", &at.Requester, &at.Responder)
	if err := Serve(s, at, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 8
	}
	return 0
}

// fake is a scenario of the tests.
type fake struct {
	id  string
	run func(o RoundOptions, samples []uint32) (Outcome, error)
	err error // of Open
}

func (f fake) Describe() Info                                          { return Info{ID: f.id, Mechanism: Baseline, Responder: "a test"} }
func (f fake) Open(Place) (Session, error)                             { return f, f.err }
func (f fake) Round(o RoundOptions, samples []uint32) (Outcome, error) { return f.run(o, samples) }
func (f fake) Close() error                                            { return nil }
func fill(samples []uint32, ns uint32, failed int) (Outcome, error) {
	for i := range samples {
		samples[i] = ns
	}
	return Outcome{Samples: len(samples), Failed: failed}, nil
}

// sometimes has no sample in its first round.
type sometimes struct {
	fake
	rounds int
}

func (s *sometimes) Open(Place) (Session, error) { return s, nil }

func (s *sometimes) Round(_ RoundOptions, samples []uint32) (Outcome, error) {
	if s.rounds++; s.rounds == 1 {
		return Outcome{}, nil
	}
	return fill(samples, 1500, 0)
}

func fakes() []Scenario {
	return []Scenario{
		fake{id: "steady", run: func(_ RoundOptions, s []uint32) (Outcome, error) { return fill(s, 1500, 1) }},
		fake{id: "unanswered", run: func(_ RoundOptions, s []uint32) (Outcome, error) { return fill(s, 50000, len(s)) }},
		fake{id: "empty", run: func(RoundOptions, []uint32) (Outcome, error) { return Outcome{}, nil }},
		&sometimes{fake: fake{id: "sometimes"}},
		fake{id: "faulty", run: func(RoundOptions, []uint32) (Outcome, error) { return Outcome{}, errors.New("a fault in the round") }},
		fake{id: "forbidden", err: &UnavailableError{"trying it", "run as somebody else", os.ErrPermission}},
		fake{id: "unopenable", err: errors.New("a fault in opening")},
		fake{id: "crashing", run: func(RoundOptions, []uint32) (Outcome, error) {
			fmt.Fprintln(os.Stderr, "last words of the child")
			os.Exit(3)
			return Outcome{}, nil
		}},
		fake{id: "stuck", run: func(RoundOptions, []uint32) (Outcome, error) {
			select {} // the reader of the commands keeps the process alive
		}},
	}
}

// testOptions runs scenarios in children that are this test binary.
func testOptions(t *testing.T, ids ...string) Options {
	t.Helper()
	o := Options{Self: []string{os.Args[0]}, Env: []string{childEnv + "=1", "GORACE=atexit_sleep_ms=0"}, Rounds: 2, Samples: 200}
	for _, id := range ids {
		s, ok := Find(slices.Concat(Bridge(), Load(), Boot(), Work(os.Getenv(daemonEnv)), Rungs(), fakes()), id)
		if !ok {
			t.Fatalf("no scenario %q", id)
		}
		o.Scenarios = append(o.Scenarios, s)
	}
	return o
}
