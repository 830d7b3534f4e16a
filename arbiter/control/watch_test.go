// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// watcher is an open Watch stream.
type watcher struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[controlv1.WatchResponse]
	hello  *controlv1.Hello
}

// watch opens a stream; when it returns, the subscription stands.
func (f *fixture) watch(ctx context.Context, req *controlv1.WatchRequest) *watcher {
	f.t.Helper()
	stream, err := f.events.Watch(ctx, req)
	if err != nil {
		f.t.Fatalf("Watch: %v", err)
	}
	w := &watcher{t: f.t, stream: stream}
	if w.hello = w.next().GetHello(); w.hello == nil {
		f.t.Fatal("the first message is no Hello")
	}
	return w
}

func (w *watcher) next() *controlv1.WatchResponse {
	w.t.Helper()
	m, err := w.stream.Recv()
	if err != nil {
		w.t.Fatalf("reading the stream: %v", err)
	}
	return m
}

// seqs reads n messages, which all must hold an event and tell of no loss.
func (w *watcher) seqs(n int) []uint64 {
	w.t.Helper()
	var got []uint64
	for range n {
		m := w.next()
		if m.GetEvent() == nil || m.GetDropped() != 0 {
			w.t.Fatalf("got %v, want an event and no loss", m)
		}
		got = append(got, m.GetEvent().GetSeq())
	}
	return got
}

// trailer returns a number of the trailers of a stream that has ended.
func (w *watcher) trailer(name string) uint64 {
	w.t.Helper()
	n, err := strconv.ParseUint(strings.Join(w.stream.Trailer().Get(name), ","), 10, 64)
	if err != nil {
		w.t.Errorf("trailer %s: %v", name, err)
	}
	return n
}

// record makes n events of a kind and returns when all have their number.
func (f *fixture) record(n int, e arbiter.Event) {
	for range n {
		f.engine.Record(e)
	}
}

var (
	deniedExec  = arbiter.Event{Event: abi.EventExec, Access: abi.AccessExec, Verdict: "deny", Errno: 1, Rule: "a"}
	auditedOpen = arbiter.Event{Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "audit", Rule: "b"}
	allowedOpen = arbiter.Event{Event: abi.EventOpen, Access: abi.AccessWrite, Verdict: "allow", Rule: "default"}
	failedOpen  = arbiter.Event{Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "allow", Reason: abi.ReasonRingFull}
)

// recordFour makes one event of each kind.
func (f *fixture) recordFour() {
	for _, e := range []arbiter.Event{deniedExec, auditedOpen, allowedOpen, failedOpen} {
		f.record(1, e)
	}
}

// TestWatchHasNoGaps: who keeps up gets every event, in order.
func TestWatchHasNoGaps(t *testing.T) {
	const events = 2000
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.WatchBuffer = events }, nil)
	f.record(3, deniedExec)
	w := f.watch(f.ctx(), &controlv1.WatchRequest{IncludeAllowed: true})
	if w.hello.GetSeq() != 3 {
		t.Errorf("hello with sequence number %d, want 3", w.hello.GetSeq())
	}
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		for range events / 4 {
			f.recordFour()
		}
	}()
	for i, seq := range w.seqs(events) {
		if want := uint64(4 + i); seq != want {
			t.Fatalf("event %d has sequence number %d, want %d", i, seq, want)
		}
	}
	await(t, "the recorder", recorded)
	await(t, "the end of the server", f.startStop(testTimeout))
	wantStatus(t, drain(w.stream), codes.Unavailable, "watch again")
	if last, lost := w.trailer(TrailerSeq), w.trailer(TrailerDropped); last != events+3 || lost != 0 {
		t.Errorf("trailers: last %d, lost %d; want %d, 0", last, lost, events+3)
	}
}

// TestWatchSlowReader: a reader that sleeps loses events, nobody waits for it, and
// what it gets and what it is told it lost are together all there was.
func TestWatchSlowReader(t *testing.T) {
	const events = 3000
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.WatchBuffer = 16 }, nil)
	w := f.watch(f.ctx(), &controlv1.WatchRequest{})
	// With this path the buffer and what the socket holds are far fewer than all.
	e := deniedExec
	e.Path = "/" + strings.Repeat("x", abi.PathBytes-2)
	f.record(events, e)

	var got, lost, last, missing uint64
	for got+lost < events {
		m := w.next()
		lost += m.GetDropped()
		if m.GetEvent() == nil {
			continue
		}
		got++
		seq := m.GetEvent().GetSeq()
		if seq <= last {
			t.Fatalf("sequence number %d came after %d", seq, last)
		}
		missing += seq - last - 1
		last = seq
		if missing > lost {
			t.Fatalf("%d numbers are missing before event %d and %d were told to be lost", missing, last, lost)
		}
	}
	if got+lost != events || got == 0 || lost == 0 {
		t.Errorf("got %d and lost %d, want some of each and %d together", got, lost, events)
	}
	if n := metric(t, f.server.Collectors(), "arbiter_watch_dropped_total", nil); n != float64(lost) {
		t.Errorf("the metric counts %v lost, want %d", n, lost)
	}
	await(t, "the end of the server", f.startStop(testTimeout))
	wantStatus(t, drain(w.stream), codes.Unavailable)
	if l, d := w.trailer(TrailerSeq), w.trailer(TrailerDropped); l != last || d != lost {
		t.Errorf("trailers: last %d, lost %d; want %d, %d", l, d, last, lost)
	}
}

// TestWatchLossBeforeFilters: a watcher whose filters let nothing through is told
// all the same that it may have missed something.
func TestWatchLossBeforeFilters(t *testing.T) {
	f := newFixture(t, nil, nil)
	sub := f.engine.Subscribe(1, arbiter.SubscribeOptions{})
	defer sub.Close()
	f.record(3, deniedExec) // one fits
	stream := &fakeStream{}
	w := watch{req: &controlv1.WatchRequest{Rules: []string{"other"}}, stream: stream, sub: sub, total: &f.server.events.dropped}
	for range 2 { // the second time there is nothing to tell
		if err := w.send(&arbiter.Event{Rule: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]*controlv1.WatchResponse{{Dropped: 2}}, stream.sent, protocmp.Transform()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// TestWatchTellsTheLastLoss: the trailer counts also what was lost when no message
// followed any more.
func TestWatchTellsTheLastLoss(t *testing.T) {
	const events, buffer = 50, 4
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.WatchBuffer = buffer }, nil)
	stopped := make(chan struct{})
	close(stopped)
	s := &eventsService{cfg: f.server.events.cfg, stopping: stopped}
	for range 20 { // each time it is chance how many messages come before the end
		stream := &fakeStream{}
		stream.onHello = func() { f.record(events, deniedExec) }
		wantStatus(t, s.Watch(&controlv1.WatchRequest{}, stream), codes.Unavailable)
		if got := stream.trailer.Get(TrailerDropped); len(got) != 1 || got[0] != strconv.Itoa(events-buffer) {
			t.Fatalf("after %d messages: %q lost, want %d", len(stream.sent), got, events-buffer)
		}
	}
}

// fakeStream keeps what is sent.
type fakeStream struct {
	grpc.ServerStream
	onHello func()
	sent    []*controlv1.WatchResponse
	trailer metadata.MD
}

func (*fakeStream) Context() context.Context     { return context.Background() }
func (*fakeStream) SendHeader(metadata.MD) error { return nil }
func (s *fakeStream) SetTrailer(md metadata.MD)  { s.trailer = md }
func (s *fakeStream) Send(m *controlv1.WatchResponse) error {
	if m.GetHello() != nil {
		s.onHello()
	}
	s.sent = append(s.sent, m)
	return nil
}

// TestWatchAllowed: plain allowed requests are for those who ask for them; a
// failure verdict that allows is for all.
func TestWatchAllowed(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("bad"))
	some := f.watch(f.ctx(), &controlv1.WatchRequest{})
	if v := f.ask(abi.EventExec, "/t/good"); !v.Allowed() { // before anybody wants to know
		t.Fatalf("/t/good: got %v, want allowed", v)
	}
	f.wait("the worker has done its accounts", func() bool { s := f.engine.Stats(); return s.Latency.Count == s.Requests })
	all := f.watch(f.ctx(), &controlv1.WatchRequest{IncludeAllowed: true})
	f.ask(abi.EventExec, "/t/good")
	f.ask(abi.EventExec, "/t/bad")
	for _, tt := range []struct {
		name string
		w    *watcher
		want []string
	}{
		{"some", some, []string{"deny /t/bad", "allow ring_full"}},
		{"all", all, []string{"allow /t/good", "deny /t/bad", "allow ring_full"}},
	} {
		var got []string
		for i := range tt.want {
			if i == len(tt.want)-1 && tt.name == "some" {
				f.record(1, failedOpen) // by now the workers' events have their place
			}
			e := tt.w.next().GetEvent()
			got = append(got, e.GetVerdict()+" "+string(e.GetObject().GetPath())+e.GetReason())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestWatchEvent follows one request from the question to the stream.
func TestWatchEvent(t *testing.T) {
	f := newFixture(t, nil, nil)
	text := "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n" +
		"  - {id: keep, events: [open], object: {path: /t/a}, verdict: {deny: EACCES}, message: ask ops}\n"
	pushed := f.push(text)
	w := f.watch(f.ctx(), &controlv1.WatchRequest{})
	wantHello := &controlv1.Hello{Epoch: 1, Fingerprint: pushed.GetFingerprint(),
		DaemonStartedAt: timestamppb.New(time.Unix(1_800_000_000, 0))}
	if diff := cmp.Diff(wantHello, w.hello, protocmp.Transform()); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	before := time.Now()
	for i, cached := range []bool{false, true} {
		if v := f.ask(abi.EventOpen, "/t/a"); v.Allowed() {
			t.Fatal("/t/a is allowed, want denied")
		}
		want := &controlv1.Event{Seq: uint64(i + 1), Event: "open", Access: []string{"read"}, Verdict: "deny", Errno: 13,
			Rule: "keep", Line: 5, Message: "ask ops", Epoch: 1, Fingerprint: pushed.GetFingerprint(), Cached: cached,
			Subject: &controlv1.Subject{Tgid: 41, Tid: 42, Uid: 1000, Gid: 100, StartBoottimeNs: 43, Comm: []byte("asker"), Exe: []byte("/bin/asker")},
			Object:  &controlv1.Object{Path: []byte("/t/a"), Dev: 44, Ino: 45},
			Euid:    1000, Egid: 100, Cgroups: []uint64{46, 47}, Facts: abi.AllFields.Names()}
		got := w.next().GetEvent()
		if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "time", "latency")); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i+1, diff)
		}
		if l := got.GetLatency().AsDuration(); l <= 0 || l > testTimeout {
			t.Errorf("event %d: latency %v", i+1, l)
		}
		if at := got.GetTime().AsTime(); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("event %d: time %v, want about %v", i+1, at, before)
		}
	}
	// Bytes stay bytes, texts become text, and failures have their reason.
	f.engine.Record(arbiter.Event{Event: abi.EventOpen, Access: abi.AccessRead | abi.AccessWrite | abi.AccessTruncate, Verdict: "allow",
		Reason: abi.ReasonDeadline, Late: true, Comm: "\xff", Exe: "/\xfe", Path: "/\xfd\n", Message: "\xfc"})
	want := &controlv1.Event{Seq: 3, Event: "open", Access: []string{"read", "write", "truncate"}, Verdict: "allow", Message: "\ufffd",
		Reason: "deadline", Late: true, Worker: -1,
		Subject: &controlv1.Subject{Comm: []byte("\xff"), Exe: []byte("/\xfe")}, Object: &controlv1.Object{Path: []byte("/\xfd\n")}}
	if diff := cmp.Diff(want, w.next().GetEvent(), protocmp.Transform(), protocmp.IgnoreFields(want, "time", "latency")); diff != "" {
		t.Errorf("recorded event (-want +got):\n%s", diff)
	}
}

func TestWatchFilters(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  *controlv1.WatchRequest
		want []uint64 // 1 to 4 are before the watcher, 5 to 8 after
	}{
		{"no past", &controlv1.WatchRequest{}, []uint64{5, 6, 8}},
		{"recent", &controlv1.WatchRequest{Recent: 2}, []uint64{4, 5, 6, 8}},
		{"recent, and allowed", &controlv1.WatchRequest{Recent: 2, IncludeAllowed: true}, []uint64{3, 4, 5, 6, 7, 8}},
		{"more than there are", &controlv1.WatchRequest{Recent: 1 << 31}, []uint64{1, 2, 4, 5, 6, 8}},
		{"since", &controlv1.WatchRequest{Since: proto.Uint64(1)}, []uint64{2, 4, 5, 6, 8}},
		{"since the beginning", &controlv1.WatchRequest{Since: proto.Uint64(0)}, []uint64{1, 2, 4, 5, 6, 8}},
		{"since what is to come", &controlv1.WatchRequest{Since: proto.Uint64(5)}, []uint64{6, 8}},
		{"since wins over recent", &controlv1.WatchRequest{Since: proto.Uint64(4), Recent: 3}, []uint64{5, 6, 8}},
		{"by rule", &controlv1.WatchRequest{Rules: []string{"b", "none"}, Recent: 9}, []uint64{2, 6}},
		{"by event", &controlv1.WatchRequest{Events: []string{"exec"}, Recent: 9}, []uint64{1, 5}},
		{"by verdict", &controlv1.WatchRequest{Verdicts: []string{"deny", "audit"}, Recent: 9}, []uint64{1, 2, 5, 6}},
		{"all must fit", &controlv1.WatchRequest{Events: []string{"open"}, Verdicts: []string{"allow"}, Rules: []string{"default"},
			IncludeAllowed: true, Recent: 9}, []uint64{3, 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil, nil)
			f.recordFour()
			w := f.watch(f.ctx(), tt.req)
			f.recordFour()
			if diff := cmp.Diff(tt.want, w.seqs(len(tt.want))); diff != "" {
				t.Errorf("sequence numbers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookBack(t *testing.T) {
	for _, tt := range []struct {
		req  *controlv1.WatchRequest
		seq  uint64
		want int
	}{
		{&controlv1.WatchRequest{}, 9, 0},
		{&controlv1.WatchRequest{Recent: 7}, 9, 7},
		{&controlv1.WatchRequest{Recent: 1 << 31}, 9, maxRecent},
		{&controlv1.WatchRequest{Since: proto.Uint64(9)}, 9, 0},
		{&controlv1.WatchRequest{Since: proto.Uint64(1 << 63)}, 9, 0},
		{&controlv1.WatchRequest{Since: proto.Uint64(8)}, 9, 1 + maxRecent/64},
		{&controlv1.WatchRequest{Since: proto.Uint64(0)}, 1 << 63, maxRecent},
	} {
		if got := lookBack(tt.req, tt.seq); got != tt.want {
			t.Errorf("lookBack({%v}, %d): got %d, want %d", tt.req, tt.seq, got, tt.want)
		}
	}
}

func TestWatchRefusesFilters(t *testing.T) {
	f := newFixture(t, nil, nil)
	for _, tt := range []struct {
		req  *controlv1.WatchRequest
		part string
	}{
		{&controlv1.WatchRequest{Events: []string{"exec", "connekt"}}, `the event "connekt" is none: did you mean connect?`},
		{&controlv1.WatchRequest{Events: []string{"none"}}, `the event "none"`},
		{&controlv1.WatchRequest{Verdicts: []string{"denied"}}, `the verdict "denied" is none: give allow, deny, audit or kill`},
	} {
		stream, err := f.events.Watch(f.ctx(), tt.req)
		if err == nil {
			err = drain(stream)
		}
		wantStatus(t, err, codes.InvalidArgument, tt.part)
	}
}

// TestWatchEndsWithTheServer: also a stream whose reader sleeps, on which the
// server is stuck sending, ends when the server's patience does.
func TestWatchEndsWithTheServer(t *testing.T) {
	f := newFixture(t, nil, nil)
	awake := f.watch(f.ctx(), &controlv1.WatchRequest{Verdicts: []string{"audit"}})
	stuck := f.watch(f.ctx(), &controlv1.WatchRequest{})
	e := deniedExec
	e.Path = "/" + strings.Repeat("x", abi.PathBytes-2)
	f.record(1000, e) // 4 MB: more than a stream may have on its way
	await(t, "the end of the server", f.startStop(100*time.Millisecond))
	for _, w := range []*watcher{awake, stuck} {
		wantStatus(t, drain(w.stream), codes.Unavailable)
	}
	if n := f.server.events.watchers.Load(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// TestWatchEndsWithTheEngine: no events can come any more.
func TestWatchEndsWithTheEngine(t *testing.T) {
	f := newFixture(t, nil, nil)
	w := f.watch(f.ctx(), &controlv1.WatchRequest{})
	f.record(1, deniedExec)
	if err := f.engine.Close(); err != nil {
		t.Fatal(err)
	}
	w.seqs(1)
	wantStatus(t, drain(w.stream), codes.Unavailable, "stopping")
}

// TestWatchersAreBounded: one too many is refused, and let in when another left.
func TestWatchersAreBounded(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.Watchers, c.CallsPerSecond = 2, -1 }, nil)
	ctx, leave := context.WithCancel(f.ctx())
	first, second := f.watch(ctx, &controlv1.WatchRequest{}), f.watch(f.ctx(), &controlv1.WatchRequest{})
	refused := func() error {
		stream, err := f.events.Watch(f.ctx(), &controlv1.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	wantStatus(t, refused(), codes.ResourceExhausted, "2 watchers are served already: end one of them")
	if n := metric(t, f.server.Collectors(), "arbiter_watchers", nil); n != 2 {
		t.Errorf("the metric counts %v watchers, want 2", n)
	}
	leave()
	wantStatus(t, drain(first.stream), codes.Canceled)
	until(t, "another watcher is let in", func() bool { return refused() == nil })
	f.record(1, deniedExec)
	second.seqs(1)
}
