// SPDX-License-Identifier: Apache-2.0

package rulepush

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/asker"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asker.Word {
		if err := asker.Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// few is enough rules for a file, and a push that takes a moment.
const few = 50

func openFew(t *testing.T, verdicts bool) *session {
	t.Helper()
	cpus, err := bench.AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(few, verdicts, bench.Place{Requester: cpus[0], Responder: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("got %v, want the store's folder to be gone", err)
		}
	})
	return s
}

func TestRound(t *testing.T) {
	for name, verdicts := range map[string]bool{"pushes": false, "verdicts": true} {
		t.Run(name, func(t *testing.T) {
			s := openFew(t, verdicts)
			samples := make([]uint32, 4)
			var got bench.Outcome
			// On a busy machine the pushes of a round may be over before anybody has asked.
			for end := time.Now().Add(time.Minute); got.Samples == 0 && time.Now().Before(end); {
				var err error
				if got, err = s.Round(bench.RoundOptions{Budget: time.Minute}, samples); err != nil {
					t.Fatal(err)
				}
			}
			if got.Samples == 0 || !verdicts && got.Samples != len(samples) || got.Failed != 0 || got.Figures[bench.FigureStale] != 0 {
				t.Errorf("got %+v, want samples, none of which failed or is stale", got)
			}
			if want := map[bool]time.Duration{true: pace}[verdicts]; got.Pace != want {
				t.Errorf("got a pace of %v, want %v", got.Pace, want)
			}
			for i, ns := range samples[:got.Samples] {
				if ns == 0 {
					t.Errorf("sample %d: got 0 ns, want a duration", i)
				}
			}
			if rs := s.engine.Rules(); rs.Len() != few || rs.Epoch() != uint64(len(s.pushes)) {
				t.Errorf("got %d rules of epoch %d in force, want %d of epoch %d", rs.Len(), rs.Epoch(), few, len(s.pushes))
			}
		})
	}
}

// TestPick: a round with few samples has those of its end as well.
func TestPick(t *testing.T) {
	answers := make([]asker.Answer, 100)
	for i := range answers {
		answers[i] = asker.Answer{Took: uint32(i), Failed: i == 75}
	}
	f := func(wanted int, failed int, want ...uint32) {
		t.Helper()
		samples := make([]uint32, wanted)
		n, got := pick(answers, samples)
		if n != min(wanted, len(answers)) || got != failed || !slices.Equal(samples[:len(want)], want) {
			t.Errorf("%d wanted: got %d, %d failed, %v, want %d failed, %v", wanted, n, got, samples[:len(want)], failed, want)
		}
	}
	f(4, 1, 0, 25, 50, 75)
	f(2, 0, 0, 50)
	f(200, 1, 0, 1, 2)
	if n, failed := pick(nil, make([]uint32, 2)); n != 0 || failed != 0 {
		t.Errorf("got %d samples, %d failed, of no answers, want none", n, failed)
	}
}

// TestStale looks at the answers to questions from before, between and after two pushes.
func TestStale(t *testing.T) {
	returned := pushes{100, 200}
	f := func(name string, begin int64, errno uint16, want int) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := returned.stale([]asker.Answer{{Begin: begin, Errno: errno}}); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
			if got := returned.stale([]asker.Answer{{Begin: begin, Errno: errno, Failed: true}}); got != 0 {
				t.Errorf("got %d of a failure verdict, want none", got)
			}
		})
	}
	f("by the first", 150, errnos[0].number, 0)
	f("by the one under way", 150, errnos[1].number, 0)
	f("by one that is not there yet", 150, errnos[2].number, 1)
	f("by the first, after the second", 201, errnos[0].number, 1)
	f("by the second, when it returned", 200, errnos[1].number, 0)
	f("allowed", 150, 0, 1)
}

func TestFresh(t *testing.T) {
	f := func(name string, errno uint16, returned int, want bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := fresh(errno, returned); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	f("the first", errnos[0].number, 1, true)
	f("the one under way", errnos[1].number, 1, true)
	f("none yet", errnos[2].number, 1, false)
	f("the last of a turn", errnos[4].number, 5, true)
	f("the one under way begins again", errnos[0].number, 5, true)
	f("before the last", errnos[3].number, 5, false)
	f("long before", errnos[1].number, 5, false)
	f("allowed", 0, 5, false)
}
