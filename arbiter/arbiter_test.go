// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testRules = `
version: 1
default: allow
scope: {paths: [/t]}
rules:
  - id: no-secrets
    events: [open]
    object: {path: /t/secret}
    verdict: {deny: EACCES}
    message: ask ops
  - id: watch
    events: [open]
    object: {path: /t/watched/**}
    verdict: audit
  - id: no-bad
    events: [exec]
    object: {path: /t/bad}
    subject: {uid: 1000}
    verdict: deny
  - id: impatient
    events: [open]
    object: {path: /t/impatient}
    verdict: allow
    deadline: 1ms
    on_fail: {deny: EBUSY}
`

// closedRules fail closed.
var closedRules = strings.Replace(testRules, "default: allow", "default: allow\non_fail: {deny: EIO}", 1)

func mustRules(t testing.TB, text string, epoch uint64) *rules.RuleSet {
	t.Helper()
	rs, err := rules.Load("test.yaml", []byte(text), rules.Options{Epoch: epoch})
	if err != nil {
		t.Fatalf("loading rules: %v", err)
	}
	return rs
}

// start runs an arbiter over an in-process kernel side until the test ends.
func start(t testing.TB, workers int, change func(*Config)) (*Arbiter, *ringtest.Kernel) {
	t.Helper()
	k, err := ringtest.New(workers)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Rules: mustRules(t, testRules, 1)}
	for _, s := range k.Sources() {
		cfg.Workers = append(cfg.Workers, Worker{Source: s, CPU: -1})
	}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("closing the arbiter: %v", err)
		}
		if err := k.Close(); err != nil {
			t.Errorf("closing the kernel side: %v", err)
		}
	})
	return a, k
}

func facts(e abi.Event, uid uint32) ring.Facts { return ring.Facts{Event: uint32(e), UID: uid} }

func TestVerdicts(t *testing.T) {
	a, k := start(t, 2, nil)
	for _, tc := range []struct {
		name  string
		facts ring.Facts
		path  string
		want  unix.Errno
	}{
		{"denied by path", facts(abi.EventOpen, 0), "/t/secret", unix.EACCES},
		{"default", facts(abi.EventOpen, 0), "/t/other", 0},
		{"audited", facts(abi.EventOpen, 0), "/t/watched/x", 0},
		{"other event", facts(abi.EventExec, 0), "/t/secret", 0},
		{"denied by uid", facts(abi.EventExec, 1000), "/t/bad", unix.EPERM},
		{"other uid", facts(abi.EventExec, 1001), "/t/bad", 0},
		{"bytes that are not text", facts(abi.EventOpen, 0), "/t/watched/\xff\n", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, kind := range []string{"decided", "cached"} {
				if got := k.Ask(tc.facts, tc.path, "/bin/x"); got.Errno != uint16(tc.want) || got.Reason != abi.ReasonNone {
					t.Errorf("%s: errno %d, reason %s; want %d", kind, got.Errno, got.Reason, tc.want)
				}
			}
		})
	}
	s := settled(t, a)
	if s.Requests != 14 || s.Hits+s.Decided != 14 || s.Denied != 4 || s.Audited != 4 || s.Allowed != 10 {
		t.Errorf("stats %+v, want 14 requests, 4 denied, 4 audited, 10 allowed", s)
	}
}

// settled returns the stats when nothing is in flight any more: a requester has its
// verdict before the worker has done the accounting.
func settled(t testing.TB, a *Arbiter) Stats {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		s := a.Stats()
		if s.InFlight == 0 && s.Latency.Count == s.Requests {
			return s
		}
	}
	t.Fatalf("requests stay in flight: %+v", a.Stats())
	return Stats{}
}

func TestEvents(t *testing.T) {
	a, k := start(t, 1, nil)
	sub := a.Subscribe(16, SubscribeOptions{})
	defer sub.Close()
	f := facts(abi.EventOpen, 7)
	f.TGID, f.TID, f.Access = 41, 42, uint32(abi.AccessRead)
	copy(f.Comm[:], "comm")
	k.Ask(f, "/t/plain", "/bin/x") // allowed: no record
	k.Ask(f, "/t/secret", "/bin/\xffx")
	k.Ask(f, "/t/watched/y", "/bin/x")
	const had = abi.AllFields &^ (abi.FieldCgroup | abi.ContentFields | abi.FieldTree | abi.FieldCredentials) // this source says of none of these that it has looked
	for i, want := range []Event{
		{Seq: 1, Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "deny", Errno: uint16(unix.EACCES), Rule: "no-secrets", Line: 6,
			Message: "ask ops", Epoch: 1, TGID: 41, TID: 42, UID: 7, Comm: "comm", Exe: "/bin/\xffx", Path: "/t/secret", Facts: had},
		{Seq: 2, Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "audit", Rule: "watch", Line: 11, Epoch: 1,
			TGID: 41, TID: 42, UID: 7, Comm: "comm", Exe: "/bin/x", Path: "/t/watched/y", Facts: had},
	} {
		got := receive(t, sub)
		if d := time.Since(got.Time); d < 0 || d > time.Minute {
			t.Errorf("event %d: time %v", i, got.Time)
		}
		if got.Latency <= 0 || got.Fingerprint != a.Rules().Fingerprint() {
			t.Errorf("event %d: latency %v, fingerprint %x", i, got.Latency, got.Fingerprint)
		}
		got.Time, got.Latency, got.Fingerprint, got.postedNS = time.Time{}, 0, 0, 0
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("event %d:\n got %+v\nwant %+v", i, *got, want)
		}
	}

	// A late subscriber can look back; one that wants everything gets everything.
	late := a.Subscribe(16, SubscribeOptions{Recent: 10, Allowed: true})
	defer late.Close()
	for want := uint64(1); want <= 2; want++ {
		if got := receive(t, late); got.Seq != want {
			t.Errorf("recent event %d, want %d", got.Seq, want)
		}
	}
	k.Ask(f, "/t/plain", "/bin/x")
	if got := receive(t, late); got.Verdict != "allow" || got.Rule != "default" || got.Seq != 3 {
		t.Errorf("allowed event %+v", got)
	}

	// One that wants no plain allowed ones does not get them from the past either.
	recent := a.Subscribe(16, SubscribeOptions{Recent: 10})
	defer recent.Close()
	for want := uint64(1); want <= 2; want++ {
		if got := receive(t, recent); got.Seq != want {
			t.Errorf("recent event %d, want %d", got.Seq, want)
		}
	}

	// The kernel side's own failure verdicts join the sequence.
	a.Record(Event{Event: abi.EventOpen, Verdict: "allow", Reason: abi.ReasonDeadline})
	for _, s := range []*Subscription{sub, recent} {
		if got := receive(t, s); got.Seq != 4 || got.Worker != -1 {
			t.Errorf("recorded event %+v", got)
		}
	}
}

func receive(t testing.TB, s *Subscription) *Event {
	t.Helper()
	select {
	case e, ok := <-s.C:
		if !ok {
			t.Fatal("the subscription ended")
		}
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
	}
	return nil
}

// A subscriber that does not read loses events and is told how many; nobody waits.
func TestSlowSubscriber(t *testing.T) {
	a, k := start(t, 1, nil)
	slow, fast := a.Subscribe(1, SubscribeOptions{}), a.Subscribe(100, SubscribeOptions{})
	defer slow.Close()
	defer fast.Close()
	for range 10 {
		k.Ask(facts(abi.EventOpen, 0), "/t/secret", "")
	}
	for range 10 {
		receive(t, fast)
	}
	if got := slow.Dropped(); got != 9 {
		t.Errorf("dropped %d, want 9", got)
	}
	if e := receive(t, slow); e.Seq != 1 {
		t.Errorf("first event %d, want 1", e.Seq)
	}
}

func TestDeadlineOfARule(t *testing.T) {
	a, k := start(t, 1, nil)
	f := facts(abi.EventOpen, 0)
	f.PostedNS = uint64(ringtest.Now() - int64(time.Second)) // has waited already
	if got := k.Ask(f, "/t/impatient", ""); got.Errno != uint16(unix.EBUSY) {
		t.Errorf("errno %d, want EBUSY: the rule's failure verdict", got.Errno)
	}
	s := settled(t, a)
	if s.Failed[abi.ReasonDeadline] != 1 || s.Denied != 1 {
		t.Errorf("stats %+v, want one failed by deadline", s)
	}
}

// A request of an event that no rule can be about is a fault of the kernel side.
func TestUnknownEvent(t *testing.T) {
	a, k := start(t, 1, nil)
	f := ring.Facts{Event: uint32(abi.EventNone)}
	if got := k.Ask(f, "/t/x", ""); got.Errno != 0 {
		t.Errorf("errno %d, want the open failure verdict", got.Errno)
	}
	if s := settled(t, a); s.Failed[abi.ReasonWorkerError] != 1 {
		t.Errorf("stats %+v, want one worker_error", s)
	}
}

// panicky panics in the middle of a request, as a bug would.
type panicky struct {
	Source
	left atomic.Int32
}

func (p *panicky) Reply(r *abi.Request, v abi.Verdict) bool {
	if p.left.Add(-1) >= 0 {
		panic("a bug")
	}
	return p.Source.Reply(r, v)
}

func TestWorkerPanic(t *testing.T) {
	var log bytes.Buffer
	a, k := start(t, 1, func(c *Config) {
		p := &panicky{Source: c.Workers[0].Source}
		p.left.Store(1)
		c.Workers[0].Source = p
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Rules = mustRules(t, closedRules, 1)
	})
	if got := k.Ask(facts(abi.EventOpen, 0), "/t/x", ""); got.Errno != uint16(unix.EIO) {
		t.Errorf("errno %d, want the failure verdict", got.Errno)
	}
	if got := k.Ask(facts(abi.EventOpen, 0), "/t/secret", ""); got.Errno != uint16(unix.EACCES) {
		t.Errorf("after the panic: errno %d, want EACCES: the worker goes on", got.Errno)
	}
	if s := settled(t, a); s.Failed[abi.ReasonWorkerError] != 1 || s.Decided != 1 {
		t.Errorf("stats %+v, want one worker_error and one decided", s)
	}
	if !strings.Contains(log.String(), "a bug") || !strings.Contains(log.String(), "arbiter/worker.go") {
		t.Errorf("the log lacks the panic or its stack: %s", log.String())
	}
}

// No verdict of an older epoch is given after Install has returned, under load, with
// parked and polling workers.
func TestInstallIsInForce(t *testing.T) {
	for _, spin := range []time.Duration{-1, time.Hour} {
		t.Run(fmt.Sprintf("spin for %v", spin), func(t *testing.T) {
			a, k := start(t, 2, func(c *Config) { c.SpinFor = spin })
			// Each epoch refuses with its own errno.
			epochRules := func(epoch uint64) *rules.RuleSet {
				return mustRules(t, fmt.Sprintf("version: 1\ndefault: {deny: %d}\ndeadline: 1m\nscope: {paths: [/t]}\n", epoch%100+1), epoch)
			}
			var floor atomic.Uint64
			floor.Store(1)
			if err := a.Install(t.Context(), epochRules(1), cache.RulesPushed); err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for !stop.Load() {
						least := floor.Load()
						got := k.Ask(facts(abi.EventOpen, 0), "/t/x", "")
						if got.Reason != abi.ReasonNone {
							t.Errorf("failure verdict: %s", got.Reason)
							return
						}
						if uint64(got.Errno) < least%100+1 {
							t.Errorf("a verdict of epoch %d after epoch %d was in force", got.Errno-1, least)
							return
						}
					}
				})
			}
			for epoch := uint64(2); epoch < 90; epoch++ {
				if err := a.Install(t.Context(), epochRules(epoch), cache.RulesPushed); err != nil {
					t.Error(err)
					break
				}
				floor.Store(epoch)
				if got := k.Ask(facts(abi.EventOpen, 0), "/t/x", ""); uint64(got.Errno) != epoch+1 {
					t.Errorf("epoch %d is in force: got %+v, want its errno %d", epoch, got, epoch+1)
				}
			}
			stop.Store(true)
			wg.Wait()
			if s := settled(t, a); s.CacheFlushes[cache.Start] != 1 || s.CacheFlushes[cache.RulesPushed] == 0 {
				t.Errorf("flushes %v, want one start, and pushes", s.CacheFlushes)
			}
		})
	}
}

// Requests = Hits + Decided + Failed + InFlight at every moment a reader looks.
func TestCountersAddUp(t *testing.T) {
	const workers, askers, each = 2, 4, 3000
	a, k := start(t, workers, nil)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range askers {
		wg.Go(func() {
			for n := range each {
				k.Ask(facts(abi.EventOpen, uint32(i)), fmt.Sprintf("/t/%d", n%50), "")
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	for looks := 0; ; looks++ {
		s := a.Stats()
		sum := s.Hits + s.Decided + s.InFlight
		for _, n := range s.Failed {
			sum += n
		}
		if sum != s.Requests || s.InFlight > workers {
			t.Fatalf("look %d: %+v does not add up", looks, s)
		}
		if s.Latency.Count > s.Allowed+s.Denied {
			t.Fatalf("look %d: %+v lacks verdicts whose latency is there", looks, s)
		}
		select {
		case <-done:
			s := settled(t, a)
			if s.Requests != askers*each || s.Allowed+s.Denied != s.Requests {
				t.Errorf("at the end %+v, want %d requests", s, askers*each)
			}
			c := k.Counts(abi.EventOpen)
			if c.Asked.Load() != askers*each || c.Answered.Load() != askers*each {
				t.Errorf("kernel side asked %d, answered %d; want %d", c.Asked.Load(), c.Answered.Load(), askers*each)
			}
			return
		default:
		}
	}
}

// A requester that gives up gets its failure verdict, the answer is late, counted
// and not cached.
func TestLateAnswer(t *testing.T) {
	hold := make(chan struct{})
	a, k := start(t, 1, func(c *Config) { c.Workers[0].Source = &slow{Source: c.Workers[0].Source, hold: hold} })
	atomic.StoreUint64(&k.Header().WaitNS, uint64(500*time.Millisecond)) // a busy machine's worker takes it within that
	if got := k.Ask(facts(abi.EventOpen, 0), "/t/secret", ""); got.Reason != abi.ReasonDeadline || got.Errno != 0 {
		t.Errorf("answer %+v, want the open failure verdict by deadline", got)
	}
	close(hold)
	s := settled(t, a)
	if s.Late != 1 || s.Decided != 1 {
		t.Fatalf("stats %+v, want one late", s)
	}
	atomic.StoreUint64(&k.Header().WaitNS, uint64(time.Second))
	k.Ask(facts(abi.EventOpen, 0), "/t/secret", "")
	if s := settled(t, a); s.Hits != 0 || s.Decided != 2 {
		t.Errorf("stats %+v: a late decision was cached", s)
	}
}

// slow holds its first answer back.
type slow struct {
	Source
	hold <-chan struct{}
}

func (s *slow) Reply(r *abi.Request, v abi.Verdict) bool { <-s.hold; return s.Source.Reply(r, v) }

func TestConfigReportsEverything(t *testing.T) {
	_, err := New(Config{Workers: []Worker{{}}, CacheEntries: math.MaxInt})
	if err == nil {
		t.Fatal("an empty configuration was taken")
	}
	for _, want := range []string{"Rules is nil", "worker 0 has no source", "CacheEntries 9223372036854775807: give at most 1048576"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestPinningFails(t *testing.T) {
	k, err := ringtest.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: k.Sources()[0], CPU: 1023}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "CPU 1023") {
		t.Errorf("error %v, want EINVAL naming the CPU", err)
	}
	if err := a.Install(context.Background(), a.Rules(), cache.RulesPushed); !errors.Is(err, ErrClosed) {
		t.Errorf("Install after a failed start: %v, want ErrClosed", err)
	}
}

// What the sources tell while they are closed, after the workers, is still recorded.
func TestRecordAfterStop(t *testing.T) {
	a, _ := start(t, 1, nil)
	sub := a.Subscribe(1, SubscribeOptions{})
	a.Stop()
	a.Stop()
	a.Record(Event{Event: abi.EventOpen, Verdict: "allow", Reason: abi.ReasonNoWorker})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if e, ok := <-sub.C; !ok || e.Reason != abi.ReasonNoWorker {
		t.Errorf("after the stop: got %+v, %t; want the record", e, ok)
	}
	if _, ok := <-sub.C; ok {
		t.Error("the subscription goes on after Close")
	}
	if err := a.Install(t.Context(), a.Rules(), cache.RulesPushed); !errors.Is(err, ErrClosed) {
		t.Errorf("Install after Stop: %v, want ErrClosed", err)
	}
}

// The watchdog's question: a worker that is stuck in an answer is named.
func TestCheck(t *testing.T) {
	hold := make(chan struct{})
	a, k := start(t, 1, func(c *Config) { c.Workers[0].Source = &slow{Source: c.Workers[0].Source, hold: hold} })
	if err := a.Check(t.Context()); err != nil {
		t.Errorf("a polling worker: %v", err)
	}
	var asking sync.WaitGroup
	asking.Go(func() { k.Ask(facts(abi.EventOpen, 0), "/t/x", "") })
	for end := time.Now().Add(5 * time.Second); a.Stats().InFlight == 0; {
		if time.Now().After(end) {
			t.Fatal("the worker did not take the request in 5 s")
		}
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Check(ctx); !errors.Is(err, ErrStalled) {
		t.Errorf("a stuck worker: %v, want ErrStalled", err)
	}
	ctx2, cancel2 := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel2()
	if err := a.Install(ctx2, a.Rules(), cache.RulesPushed); !errors.Is(err, ErrStalled) {
		t.Errorf("Install with a stuck worker: %v, want ErrStalled", err)
	}
	close(hold)
	asking.Wait()
	if err := a.Check(t.Context()); err != nil {
		t.Errorf("after it came round: %v", err)
	}
}

// An idle arbiter parks and uses no measurable CPU.
func TestIdle(t *testing.T) {
	a, k := start(t, 2, nil)
	k.Ask(facts(abi.EventOpen, 0), "/t/x", "")
	parked := func() bool {
		for _, w := range a.Stats().Workers {
			if !w.Parked {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(5 * time.Second); !parked(); {
		if time.Now().After(end) {
			t.Fatal("workers do not park")
		}
	}
	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const watch = 2 * time.Second
	before := cpu()
	<-time.After(watch)
	if used := cpu() - before; used > watch/100 {
		t.Errorf("idle for %v it used %v of CPU", watch, used)
	}
	if got := k.Ask(facts(abi.EventOpen, 0), "/t/secret", ""); got.Errno != uint16(unix.EACCES) {
		t.Errorf("after the idle time: errno %d, want EACCES", got.Errno)
	}
}

func TestCloseEndsSubscriptions(t *testing.T) {
	a, _ := start(t, 1, nil)
	sub := a.Subscribe(1, SubscribeOptions{})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-sub.C; ok {
		t.Error("the subscription is still open")
	}
	sub.Close()
	if _, ok := <-a.Subscribe(1, SubscribeOptions{}).C; ok {
		t.Error("a subscription to a closed arbiter is open")
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
