// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/content"
)

// Whatever questions do in whatever order: while the daemon is there nobody is refused, while it
// is not one at most is let through at a time, and none before the rest is over, which is never
// longer than lastRest.
func TestGateIsTheModel(t *testing.T) {
	broken := errors.New("broken")
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		g := gate{now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
		var (
			down   bool
			failed time.Time // the last failure that began a rest
			before int       // questions on their way that are no try
			tries  int
		)
		end := func(t *rapid.T, of *int, how func(try bool)) {
			if *of == 0 {
				t.Skip("there is none")
			}
			*of--
			how(of == &tries)
		}
		succeed := func(try bool) {
			if err := g.leave(try, nil); err != nil {
				t.Fatalf("leave: %v", err)
			}
			down = false
		}
		fail := func(try bool) {
			if err := g.leave(try, broken); !errors.Is(err, broken) || !errors.Is(err, content.ErrUnavailable) {
				t.Fatalf("leave: %v", err)
			}
			if g.until.Equal(now.Add(g.rest)) {
				failed = now
			}
			down = true
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				try, err := g.enter()
				switch {
				case !down && (try || err != nil):
					t.Fatalf("while it is there: a try %t, %v", try, err)
				case !down:
					before++
				case try && err == nil:
					tries++
				case err == nil:
					t.Fatal("let through while it is not there")
				case !errors.Is(err, content.ErrUnavailable) || !errors.Is(err, broken):
					t.Fatalf("refused by %v", err)
				case tries == 0 && now.Sub(failed) >= lastRest:
					t.Fatalf("refused %v after it failed, with no try on its way", now.Sub(failed))
				}
				if down && err == nil && now.Sub(failed) < firstRest {
					t.Fatalf("let through %v after it failed", now.Sub(failed))
				}
			},
			"one of before succeeds": func(t *rapid.T) { end(t, &before, succeed) },
			"one of before fails":    func(t *rapid.T) { end(t, &before, fail) },
			"a try succeeds":         func(t *rapid.T) { end(t, &tries, succeed) },
			"a try fails":            func(t *rapid.T) { end(t, &tries, fail) },
			"a try is given up":      func(t *rapid.T) { end(t, &tries, g.abandon) },
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(lastRest)).Draw(t, "time")))
			},
			"": func(t *rapid.T) {
				if (g.problem() != "") != down {
					t.Fatalf("problem %q, down %t", g.problem(), down)
				}
				if down && (g.rest < firstRest || g.rest > lastRest || g.until.Sub(failed) > lastRest) {
					t.Fatalf("a rest of %v", g.rest)
				}
				if tries > 1 {
					t.Fatalf("%d tries at once", tries)
				}
			},
		})
	})
}
