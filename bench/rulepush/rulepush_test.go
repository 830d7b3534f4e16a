// SPDX-License-Identifier: Apache-2.0

package rulepush

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
			got, err := s.Round(bench.RoundOptions{Budget: time.Minute}, samples)
			if err != nil {
				t.Fatal(err)
			}
			if got.Samples == 0 || !verdicts && got.Samples != len(samples) || got.Failed != 0 || got.Figures[bench.FigureStale] != 0 {
				t.Errorf("got %+v, want samples, none of which failed or is stale", got)
			}
			for i, ns := range samples[:got.Samples] {
				if ns == 0 {
					t.Errorf("sample %d: got 0 ns, want a duration", i)
				}
			}
			if rs := s.engine.Rules(); rs.Len() != few || rs.Epoch() != s.pushed.Load() {
				t.Errorf("got %d rules of epoch %d in force, want %d of epoch %d", rs.Len(), rs.Epoch(), few, s.pushed.Load())
			}
		})
	}
}

// TestStale has the asker believe in pushes that there were not: its answers are stale.
func TestStale(t *testing.T) {
	s := openFew(t, true)
	for ahead, want := range []int{0, 1, 1, 1} {
		if a := s.askOnce(0, nil); a.stale != want {
			t.Errorf("%d pushes ahead: got %d stale verdicts, want %d", ahead, a.stale, want)
		}
		s.pushed.Add(1)
	}
}

func TestFresh(t *testing.T) {
	f := func(name string, errno uint16, pushed uint64, want bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := fresh(errno, pushed); got != want {
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
