// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// fakeDaemon notes what it is asked for.
type fakeDaemon struct {
	calls chan string
	fail  string // this call fails
}

func (d *fakeDaemon) did(call string) error {
	d.calls <- call
	if d.fail == call {
		return errors.New("the disk is full")
	}
	return nil
}
func (d *fakeDaemon) Greet(pid int) error { return d.did(fmt.Sprintf("greet %t", pid == os.Getpid())) }
func (d *fakeDaemon) Freeze(context.Context) (uint64, error) {
	return 7, d.did("freeze")
}
func (d *fakeDaemon) Release() error { return d.did("release") }
func (d *fakeDaemon) End(int)        { d.did("end") }
func (d *fakeDaemon) Resume()        { d.did("resume") }

func (d *fakeDaemon) await(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case c := <-d.calls:
			got = append(got, c)
		case <-time.After(testTimeout):
			t.Fatalf("the daemon was asked for %q, want %q", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the daemon was asked for %q, want %q", got, want)
	}
}

type replaceClient = grpc.BidiStreamingClient[controlv1.ReplaceRequest, controlv1.ReplaceResponse]

func newReplaced(t *testing.T, d *fakeDaemon) (*fixture, func() replaceClient) {
	t.Helper()
	d.calls = make(chan string, 16)
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.Lifecycle = d }, nil)
	return f, func() replaceClient {
		s, err := controlv1.NewLifecycleServiceClient(dialSocket(t, f.socket)).Replace(f.ctx())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func ask(s replaceClient, step controlv1.ReplaceStep) (*controlv1.ReplaceResponse, error) {
	_ = s.Send(&controlv1.ReplaceRequest{Step: step}) // Recv has the reason
	return s.Recv()
}

func TestReplace(t *testing.T) {
	d := &fakeDaemon{}
	_, open := newReplaced(t, d)
	s := open()
	for _, step := range steps {
		r, err := ask(s, step)
		if err != nil || r.GetStep() != step || r.GetPid() != uint32(os.Getpid()) {
			t.Fatalf("%v: %v, %v; want it confirmed by pid %d", step, r, err, os.Getpid())
		}
		if step == controlv1.ReplaceStep_REPLACE_STEP_FREEZE && r.GetEpoch() != 7 {
			t.Errorf("epoch %d in force, want 7", r.GetEpoch())
		}
	}
	d.await(t, "greet true", "freeze", "release", "end")
}

// Whatever ends the exchange before its last step, the daemon is as before.
func TestReplaceThatFails(t *testing.T) {
	hello, freeze, release := controlv1.ReplaceStep_REPLACE_STEP_HELLO, controlv1.ReplaceStep_REPLACE_STEP_FREEZE, controlv1.ReplaceStep_REPLACE_STEP_RELEASE
	for _, tc := range []struct {
		name  string
		fail  string
		steps []controlv1.ReplaceStep
		code  codes.Code // of the last; OK: the caller goes away
		want  []string
	}{
		{"gone after hello", "", []controlv1.ReplaceStep{hello}, codes.OK, []string{"greet true", "resume"}},
		{"gone after freeze", "", []controlv1.ReplaceStep{hello, freeze}, codes.OK, []string{"greet true", "freeze", "resume"}},
		{"gone after release", "", []controlv1.ReplaceStep{hello, freeze, release}, codes.OK, []string{"greet true", "freeze", "release", "resume"}},
		{"out of order", "", []controlv1.ReplaceStep{hello, release}, codes.FailedPrecondition, []string{"greet true", "resume"}},
		{"not the first", "", []controlv1.ReplaceStep{freeze}, codes.FailedPrecondition, nil},
		{"release fails", "release", []controlv1.ReplaceStep{hello, freeze, release}, codes.Aborted, []string{"greet true", "freeze", "release", "resume"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &fakeDaemon{fail: tc.fail}
			_, open := newReplaced(t, d)
			s := open()
			var err error
			for _, step := range tc.steps {
				_, err = ask(s, step)
			}
			if status.Code(err) != tc.code {
				t.Errorf("the last step: %v, want %v", err, tc.code)
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			d.await(t, tc.want...)
			if tc.want == nil {
				return
			}
			// The next one may try: the place is free soon.
			for range 1000 {
				if _, err = ask(open(), hello); status.Code(err) != codes.Unavailable {
					break
				}
			}
			if err != nil {
				t.Errorf("the next daemon: %v", err)
			}
		})
	}
}

func TestReplaceOneAtATime(t *testing.T) {
	_, open := newReplaced(t, &fakeDaemon{})
	if _, err := ask(open(), controlv1.ReplaceStep_REPLACE_STEP_HELLO); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(open(), controlv1.ReplaceStep_REPLACE_STEP_HELLO); status.Code(err) != codes.Unavailable {
		t.Errorf("a second daemon: %v, want UNAVAILABLE", err)
	}
}

// A stop does not wait for a daemon that is about to take over.
func TestStopDuringReplace(t *testing.T) {
	d := &fakeDaemon{}
	f, open := newReplaced(t, d)
	s := open()
	if _, err := ask(s, controlv1.ReplaceStep_REPLACE_STEP_HELLO); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.startStop(testTimeout):
	case <-time.After(testTimeout):
		t.Fatal("the server does not stop")
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want UNAVAILABLE", err)
	}
}

// While another daemon takes over no push comes in between, and afterwards it does.
func TestPushWhileFrozen(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	epoch, err := f.direct.Freeze(f.ctx())
	if err != nil || epoch != 1 {
		t.Fatalf("freezing: epoch %d, %v; want 1", epoch, err)
	}
	if _, err := f.direct.Push(f.ctx(), Push{Source: []byte(ruleFile("b")), Name: "b"}); !errors.Is(err, ErrFrozen) {
		t.Errorf("a push: %v, want ErrFrozen", err)
	}
	f.direct.Thaw()
	if got := f.push(ruleFile("b")).GetEpoch(); got != 2 {
		t.Errorf("epoch %d after the thaw, want 2", got)
	}
}
