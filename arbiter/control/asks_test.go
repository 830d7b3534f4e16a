// SPDX-License-Identifier: Apache-2.0

package control

import (
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const askFile = "version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules:\n" +
	"- {id: ask, events: [exec], verdict: {ask: {default: {deny: EACCES}, within: 50s}}, message: 'is this yours?'}\n"

// asking serves an engine whose rules ask, with a client.
func asking(t *testing.T, adjust func(*Config)) (*fixture, controlv1.AsksServiceClient) {
	t.Helper()
	f := newFixture(t, func(c *Config, _ *RulesConfig) {
		c.Asks = c.Engine.(*arbiter.Arbiter)
		if adjust != nil {
			adjust(c)
		}
	}, nil)
	conn, err := dial(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f.push(askFile)
	return f, controlv1.NewAsksServiceClient(conn)
}

// nextAsks receives until so many questions are open.
func nextAsks(t *testing.T, w grpc.ServerStreamingClient[controlv1.AsksServiceWatchResponse], n int) []*controlv1.Ask {
	t.Helper()
	for {
		m, err := w.Recv()
		if err != nil {
			t.Fatalf("watching questions: %v", err)
		}
		if len(m.Asks) == n {
			return m.Asks
		}
	}
}

func TestAsksService(t *testing.T) {
	f, asks := asking(t, nil)
	if v := f.ask(abi.EventExec, "/srv/x"); v.Errno != 13 {
		t.Errorf("nobody watches: errno %d, want EACCES, the default", v.Errno)
	}
	w, err := asks.Watch(f.ctx(), &controlv1.AsksServiceWatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	nextAsks(t, w, 0) // from here on somebody watches
	for _, tc := range []struct {
		verdict string
		errno   uint16
	}{{"allow", 0}, {"deny", 13}} {
		verdict := make(chan abi.Verdict, 1)
		go func() { verdict <- f.ask(abi.EventExec, "/srv/\xff") }()
		q := nextAsks(t, w, 1)[0]
		e := q.GetEvent()
		if string(e.GetObject().GetPath()) != "/srv/\xff" || e.GetRule() != "ask" || e.GetVerdict() != "deny" || e.GetErrno() != 13 || e.GetMessage() != "is this yours?" ||
			e.GetSubject().GetUid() != 1000 || q.GetWaiting() != 1 || time.Until(q.GetUntil().AsTime()) < time.Second {
			t.Errorf("the question is %v", q)
		}
		list, err := asks.Watch(f.ctx(), &controlv1.AsksServiceWatchRequest{NoFollow: true})
		if err != nil {
			t.Fatal(err)
		}
		nextAsks(t, list, 1)
		if _, err := list.Recv(); err != io.EOF {
			t.Errorf("after the list: %v, want its end", err)
		}
		a, err := asks.Answer(f.ctx(), &controlv1.AnswerRequest{Id: q.Id, Verdict: tc.verdict})
		if err != nil || a.GetWaited() != 1 || a.GetForgotten() {
			t.Errorf("answering: %v, %v", a, err)
		}
		if v := await(t, "the verdict", verdict); v.Errno != tc.errno || v.Keep {
			t.Errorf("%s: errno %d, kept: %t; want %d", tc.verdict, v.Errno, v.Keep, tc.errno)
		}
		nextAsks(t, w, 0)
	}
	for name, tc := range map[string]struct {
		req  *controlv1.AnswerRequest
		want codes.Code
	}{
		"answered":     {&controlv1.AnswerRequest{Id: 1, Verdict: "allow"}, codes.NotFound},
		"never asked":  {&controlv1.AnswerRequest{Id: 99, Verdict: "deny"}, codes.NotFound},
		"no verdict":   {&controlv1.AnswerRequest{Id: 1, Verdict: "audit"}, codes.InvalidArgument},
		"bad duration": {&controlv1.AnswerRequest{Id: 1, Verdict: "deny", Remember: &durationpb.Duration{Seconds: 1, Nanos: -1}}, codes.InvalidArgument},
	} {
		if _, err := asks.Answer(f.ctx(), tc.req); status.Code(err) != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	// A daemon that stops ends the stream.
	go f.server.Stop(f.ctx())
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("at the stop: %v, want %v", err, codes.Unavailable)
	}
}

// The answer that is remembered needs nobody, and the record says whose it was.
func TestAsksRemembered(t *testing.T) {
	f, asks := asking(t, nil)
	w, err := asks.Watch(f.ctx(), &controlv1.AsksServiceWatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	nextAsks(t, w, 0)
	events := f.watch(f.ctx(), &controlv1.WatchRequest{})
	verdict := make(chan abi.Verdict, 1)
	go func() { verdict <- f.ask(abi.EventExec, "/srv/x") }()
	q := nextAsks(t, w, 1)[0]
	if _, err := asks.Answer(f.ctx(), &controlv1.AnswerRequest{Id: q.Id, Verdict: "allow", Remember: durationpb.New(-1)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the verdict", verdict)
	if v := f.ask(abi.EventExec, "/srv/x"); !v.Allowed() {
		t.Errorf("remembered: errno %d, want none", v.Errno)
	}
	for _, want := range []string{"answered", "remembered"} {
		if e := events.next().GetEvent(); e.GetAsked() != want || e.GetAnsweredBy() != uint32(os.Getuid()) || e.GetVerdict() != "allow" {
			t.Errorf("the event is %v, want %s", e, want)
		}
	}
}

func TestAsksWatchersAreBounded(t *testing.T) {
	f, asks := asking(t, func(c *Config) { c.Watchers = 1 })
	for i, want := range []codes.Code{codes.OK, codes.ResourceExhausted} {
		w, err := asks.Watch(f.ctx(), &controlv1.AsksServiceWatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Recv(); status.Code(err) != want {
			t.Errorf("watcher %d: %v, want %v", i, err, want)
		}
	}
}

// Questions are for admins alone, to see and to answer.
func TestAsksNeedAdmin(t *testing.T) {
	for _, m := range []string{controlv1.AsksService_Watch_FullMethodName, controlv1.AsksService_Answer_FullMethodName} {
		if isReadOnly(m) {
			t.Errorf("%s is open to read_only", m)
		}
	}
}
