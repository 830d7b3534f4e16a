// SPDX-License-Identifier: Apache-2.0

package asker

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		if err := Main(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// answer refuses with EACCES whatever is asked, until the test ends. It says when it has done so
// for the third time.
func answer(t *testing.T, k *ringtest.Kernel) (thrice <-chan struct{}) {
	t.Helper()
	said := make(chan struct{})
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		var r abi.Request
		n := 0
		for s := k.Sources()[0]; !stop.Load(); {
			if s.Next(&r) {
				s.Reply(&r, abi.Verdict{Errno: 13})
				if n++; n == 3 {
					close(said)
				}
			} else {
				s.Park(time.Millisecond)
			}
		}
	}()
	t.Cleanup(func() { stop.Store(true); <-done })
	return said
}

func start(t *testing.T) (*Asker, *ringtest.Kernel) {
	t.Helper()
	k, err := ringtest.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := Start(k, 0, "/srv/probe/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, k
}

func TestAsker(t *testing.T) {
	a, k := start(t)
	answer(t, k)
	for turn := range 2 {
		before := ringtest.Now()
		if err := a.Begin(Order{Samples: 100, Budget: time.Minute}); err != nil {
			t.Fatal(err)
		}
		got, err := a.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 100 {
			t.Fatalf("turn %d: got %d answers, want 100", turn, len(got))
		}
		for i, one := range got {
			if one.Errno != 13 || one.Failed || one.Took == 0 || one.Begin < before {
				t.Fatalf("turn %d, answer %d: got %+v, want EACCES after %d", turn, i, one, before)
			}
			before = one.Begin
		}
	}
}

// TestEnd ends an order that has more samples than there is time.
func TestEnd(t *testing.T) {
	a, k := start(t)
	thrice := answer(t, k)
	if err := a.Begin(Order{Samples: 1_000_000, Pace: time.Millisecond, Budget: time.Minute}); err != nil {
		t.Fatal(err)
	}
	<-thrice
	if got, err := a.End(); err != nil || len(got) < 3 || len(got) == 1_000_000 {
		t.Fatalf("got %d answers (%v), want three or some more", len(got), err)
	}
}

// TestNobodyAnswers has the asker sleep up to the wait's bound.
func TestNobodyAnswers(t *testing.T) {
	a, k := start(t)
	atomic.StoreUint64(&k.Header().WaitNS, uint64(30*time.Millisecond))
	if err := a.Begin(Order{Samples: 2, Budget: time.Minute}); err != nil {
		t.Fatal(err)
	}
	got, err := a.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range got {
		if !one.Failed || one.Took < uint32(30*time.Millisecond) {
			t.Errorf("got %+v, want a failure verdict after 30 ms", one)
		}
	}
	if len(got) != 2 {
		t.Errorf("got %d answers, want 2", len(got))
	}
}
