// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
)

// knownRules allow what has the digest of goodSum, and refuse the rest with EACCES.
const knownRules = `
version: 1
default: {deny: EACCES}
deadline: 10s
on_fail: {deny: EIO}
scope: {paths: [/t]}
rules:
  - id: known
    events: [exec]
    object: {sha256: "0101010101010101010101010101010101010101010101010101010101010101"}
    not: {object: {path: /t/never}}
    verdict: allow
  - id: others
    events: [open]
    verdict: allow
    deadline: 60s
`

var (
	goodSum  = [32]byte(slices.Repeat([]byte{1}, 32))
	otherSum = [32]byte{}
)

// hasher is a Fetcher that hands what it is asked for to the test.
type hasher struct{ asked chan Held }

func newHasher() *hasher { return &hasher{make(chan Held, 4*abi.MaxHeld)} }

func (h *hasher) Fetch(held Held, _ *abi.Request, _ abi.Fields, _ time.Duration) bool {
	h.asked <- held
	return true
}

// next returns what the worker asked for.
func (h *hasher) next(t testing.TB) Held {
	t.Helper()
	select {
	case held := <-h.asked:
		return held
	case <-time.After(10 * time.Second):
		t.Fatal("no digest is asked for")
	}
	panic("unreachable")
}

// fetcherFunc is a Fetcher.
type fetcherFunc func(Held, *abi.Request) bool

func (f fetcherFunc) Fetch(h Held, r *abi.Request, _ abi.Fields, _ time.Duration) bool {
	return f(h, r)
}

// digest is a content of which that is known, or nothing.
func digest(sum [32]byte, known bool) abi.Content {
	if !known {
		return abi.Content{Digest: sum}
	}
	return abi.Content{Known: abi.FieldDigest, Digest: sum}
}

// startHolding is start with the rules that need digests, and patient requesters.
func startHolding(t testing.TB, d Fetcher, change func(*Config)) (*Arbiter, *ringtest.Kernel) {
	t.Helper()
	return start(t, 1, func(c *Config) {
		c.Rules, c.Contents = mustRules(t, knownRules, 1), d
		if change != nil {
			change(c)
		}
	})
}

// asking is a request under way.
type asking struct {
	t    testing.TB
	done chan ringtest.Answer
}

func askFor(t testing.TB, k *ringtest.Kernel, e abi.Event, path string) *asking {
	return askWith(t, k, facts(e, 0), path)
}

func askWith(t testing.TB, k *ringtest.Kernel, f ring.Facts, path string) *asking {
	a := &asking{t, make(chan ringtest.Answer, 1)}
	atomic.StoreUint64(&k.Header().WaitNS, uint64(30*time.Second))
	go func() { a.done <- k.Ask(f, path, "/bin/sh") }()
	return a
}

func (a *asking) want(errno unix.Errno) {
	a.t.Helper()
	select {
	case got := <-a.done:
		if got.Errno != uint16(errno) || got.Reason != abi.ReasonNone {
			a.t.Errorf("errno %d, reason %s; want %d by a worker", got.Errno, got.Reason, errno)
		}
	case <-time.After(10 * time.Second):
		a.t.Fatal("no verdict")
	}
}

// A request that is held comes back, and others are answered meanwhile.
func TestHeldRequest(t *testing.T) {
	for _, spin := range []time.Duration{-1, time.Hour} {
		for _, tc := range []struct {
			name  string
			sum   [32]byte
			known bool
			want  unix.Errno
			stats func(Stats) uint64
		}{
			{"allowed", goodSum, true, 0, func(s Stats) uint64 { return s.Decided - 1 }},
			{"refused", otherSum, true, unix.EACCES, func(s Stats) uint64 { return s.Decided - 1 }},
			{"unknown", goodSum, false, unix.EIO, func(s Stats) uint64 { return s.Failed[abi.ReasonNoDigest] }},
		} {
			t.Run(fmt.Sprintf("%s, spin for %v", tc.name, spin), func(t *testing.T) {
				h := newHasher()
				a, k := startHolding(t, h, func(c *Config) { c.SpinFor = spin })
				exec := askFor(t, k, abi.EventExec, "/t/x")
				held := h.next(t)
				askFor(t, k, abi.EventOpen, "/t/y").want(0)
				waitFor(t, func() bool { s := a.Stats(); return s.Held == 1 && s.InFlight == 1 && s.Holds == 1 })
				held.Content(digest(tc.sum, tc.known))
				exec.want(tc.want)
				s := settled(t, a)
				if tc.stats(s) != 1 || s.Held != 0 {
					t.Errorf("stats %+v, want one outcome of that kind and none held", s)
				}
				// What nobody waits for any more changes nothing.
				held.Content(digest(goodSum, true))
				exec = askFor(t, k, abi.EventExec, "/t/x")
				again := h.next(t)
				held.Content(digest(goodSum, true))
				again.Content(digest(otherSum, true))
				again.Content(digest(goodSum, true))
				exec.want(unix.EACCES)
			})
		}
	}
}

// The record of a refusal by content says which content it was.
func TestEventHasDigest(t *testing.T) {
	a, k := startHolding(t, fetcherFunc(func(h Held, r *abi.Request) bool { h.Content(digest(otherSum, r.PathBuf[3] == 'x')); return true }), nil)
	sub := a.Subscribe(8, SubscribeOptions{})
	defer sub.Close()
	for path, want := range map[string]string{"/t/x": strings.Repeat("00", 32), "/t/y": ""} {
		k.Ask(facts(abi.EventExec, 0), path, "/bin/sh")
		if e := receive(t, sub); e.SHA256 != want || e.Path != path || e.Exe != "/bin/sh" {
			t.Errorf("%s: path %q, exe %q, digest %q; want %q", path, e.Path, e.Exe, e.SHA256, want)
		}
	}
}

// waitFor ends the test if what does not become true.
func waitFor(t testing.TB, what func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !what(); {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
		<-time.After(time.Millisecond)
	}
}

// Where a digest cannot change anything, none is asked for.
func TestNoDigestNeeded(t *testing.T) {
	a, k := startHolding(t, fetcherFunc(func(Held, *abi.Request) bool { panic("a digest is asked for") }), nil)
	askFor(t, k, abi.EventExec, "/t/never").want(unix.EACCES)
	askFor(t, k, abi.EventExec, "/t/never").want(unix.EACCES)
	f := facts(abi.EventExec, 0)
	f.Mode = unix.S_IFDIR
	if got := k.Ask(f, "/t/x", ""); got.Errno != uint16(unix.EACCES) {
		t.Errorf("a directory: errno %d, want EACCES", got.Errno)
	}
	if s := settled(t, a); s.Holds != 0 || s.Hits != 1 || s.Decided != 2 {
		t.Errorf("stats %+v, want none held, one hit", s)
	}
}

// What cannot be held gets the failure verdict, each time for its own reason.
func TestCannotHold(t *testing.T) {
	for _, tc := range []struct {
		name   string
		d      Fetcher
		source func(Source) Source
		reason abi.Reason
	}{
		{"no fetcher", nil, nil, abi.ReasonNoDigest},
		{"a fetcher without room", fetcherFunc(func(Held, *abi.Request) bool { return false }), nil, abi.ReasonRingFull},
		{"a fetcher that panics", fetcherFunc(func(Held, *abi.Request) bool { panic("a bug") }), nil, abi.ReasonWorkerError},
		{"one that calls and panics", fetcherFunc(func(h Held, _ *abi.Request) bool { h.Content(digest(goodSum, true)); panic("a bug") }), nil, abi.ReasonWorkerError},
		{"a source without room", newHasher(), func(s Source) Source { return keepsNone{s} }, abi.ReasonRingFull},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, k := startHolding(t, tc.d, func(c *Config) {
				if tc.source != nil {
					c.Workers[0].Source = tc.source(c.Workers[0].Source)
				}
			})
			for range 3 {
				askFor(t, k, abi.EventExec, "/t/x").want(unix.EIO)
			}
			if s := settled(t, a); s.Failed[tc.reason] != 3 || s.Holds != 0 {
				t.Errorf("stats %+v, want three %s and none held", s, tc.reason)
			}
		})
	}
}

type keepsNone struct{ Source }

func (keepsNone) Hold(*abi.Request) bool { return false }

// A fetcher is told for how long its request is held: what is left of the deadline.
func TestFetcherIsToldHowLong(t *testing.T) {
	w := one(t, mustRules(t, strings.ReplaceAll(knownRules, "exec", "open"), 1), -1, &canned{paths: []string{"/t/x"}, exe: "/bin/sh"})
	f := &told{}
	w.arbiter.cfg.Contents = f
	for _, patience := range []time.Duration{0, time.Minute} {
		w.taken, w.missing = true, 0
		w.source.Next(w.req)
		w.patience = patience
		w.req.PostedNS = detached.Now() - int64(4*time.Second)
		w.answer()
		most := max(10*time.Second, patience) - 4*time.Second
		if f.wait > most || f.wait < most-time.Second {
			t.Errorf("held for a rule of %v before: told to wait %v, want %v", patience, f.wait, most)
		}
	}
}

// told is a Fetcher that has no room, and remembers for how long it would have been waited for.
type told struct{ wait time.Duration }

func (f *told) Fetch(_ Held, _ *abi.Request, _ abi.Fields, wait time.Duration) bool {
	f.wait = wait
	return false
}

// A fetcher may call before it returns.
func TestDigestAtOnce(t *testing.T) {
	_, k := startHolding(t, fetcherFunc(func(h Held, _ *abi.Request) bool { h.Content(digest(goodSum, true)); return true }), nil)
	for range 3 {
		askFor(t, k, abi.EventExec, "/t/x").want(0)
	}
}

// A request that nothing comes for gets the failure verdict at its deadline, whether the
// worker sleeps or is busy.
func TestHeldUntilDeadline(t *testing.T) {
	short := strings.Replace(knownRules, "deadline: 10s", "deadline: 30ms", 1)
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy: %t", busy), func(t *testing.T) {
			h := newHasher()
			a, k := startHolding(t, h, func(c *Config) { c.Rules, c.SpinFor = mustRules(t, short, 1), -1 })
			stop, load := make(chan struct{}), sync.WaitGroup{}
			if busy {
				load.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							k.Ask(facts(abi.EventOpen, 0), "/t/y", "")
						}
					}
				})
			}
			begin := time.Now()
			one, two := askFor(t, k, abi.EventExec, "/t/x"), askFor(t, k, abi.EventExec, "/t/x")
			one.want(unix.EIO)
			two.want(unix.EIO)
			if took := time.Since(begin); took < 30*time.Millisecond || took > 5*time.Second {
				t.Errorf("held for %v, want about 30 ms", took)
			}
			close(stop)
			load.Wait()
			h.next(t).Content(digest(goodSum, true)) // too late
			if s := settled(t, a); s.Failed[abi.ReasonDeadline] != 2 || s.Held != 0 {
				t.Errorf("stats %+v, want two by deadline", s)
			}
		})
	}
}

// A push does not wait for what is held, and what comes back is decided by the new rules.
func TestPushWhileHeld(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rules string
		sum   [32]byte
		known bool
		want  unix.Errno
	}{
		{"no digest needed any more", "version: 1\ndefault: {deny: EROFS}\nscope: {paths: [/t]}\n", goodSum, true, unix.EROFS},
		{"nor if it is unknown", "version: 1\ndefault: {deny: EROFS}\nscope: {paths: [/t]}\n", goodSum, false, unix.EROFS},
		{"another is the good one", strings.Replace(knownRules, strings.Repeat("01", 32), strings.Repeat("00", 32), 1), otherSum, true, 0},
		{"the failure verdict is another", strings.Replace(knownRules, "EIO", "EROFS", 1), goodSum, false, unix.EROFS},
		{"a deadline that has passed", "version: 1\ndefault: {deny: EROFS}\ndeadline: 1ms\non_fail: allow\nscope: {paths: [/t]}\n", goodSum, true, unix.EROFS},
		{"a fact that was not fetched", knownRules + "  - {id: c, events: [exec], subject: {exe: /bin/y}, verdict: allow}\n", goodSum, true, unix.EIO},
		{"an owner that nobody has looked at", knownRules + "  - {id: c, events: [exec], object: {owner: 0}, verdict: allow}\n", goodSum, true, unix.EIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHasher()
			a, k := startHolding(t, h, nil)
			exec := askFor(t, k, abi.EventExec, "/t/x")
			held := h.next(t)
			if err := a.Install(t.Context(), mustRules(t, tc.rules, 2), cache.RulesPushed); err != nil {
				t.Fatal(err)
			}
			held.Content(digest(tc.sum, tc.known))
			exec.want(tc.want)
		})
	}
}

// All that is held gets its failure verdict when the arbiter stops, and what comes then is
// not held any more.
func TestStopWhileHeld(t *testing.T) {
	h := newHasher()
	a, k := startHolding(t, h, nil)
	var all []*asking
	for range 10 {
		all = append(all, askFor(t, k, abi.EventExec, "/t/x"))
		h.next(t)
	}
	a.Stop()
	for _, r := range all {
		r.want(unix.EIO)
	}
	s := a.Stats()
	if s.Failed[abi.ReasonNoWorker] != 10 || s.InFlight != 0 || s.Held != 0 {
		t.Errorf("stats %+v, want ten no_worker", s)
	}
}

// A stop that comes between two looks leaves nobody held.
func TestStopBetweenTwoLooks(t *testing.T) {
	src := &ending{canned: canned{paths: []string{"/t/x"}, exe: "/bin/sh"}, n: 3}
	w := one(t, mustRules(t, strings.ReplaceAll(knownRules, "exec", "open"), 1), -1, src)
	w.arbiter.cfg.Contents = fetcherFunc(func(Held, *abi.Request) bool { return true })
	src.arbiter = w.arbiter
	if !w.loop() {
		t.Fatal("the worker did not stop")
	}
	if s := w.arbiter.Stats(); s.Holds != 3 || s.Held != 0 || s.InFlight != 0 || s.Failed[abi.ReasonNoWorker] != 3 {
		t.Errorf("stats %+v, want three held, and let go", s)
	}
}

// More than there is room for is not held, and the room is had again.
func TestHoldsAreBounded(t *testing.T) {
	h := newHasher()
	a, k := startHolding(t, h, nil)
	for range 2 {
		var all []*asking
		var held []Held
		for range abi.MaxHeld {
			all = append(all, askFor(t, k, abi.EventExec, "/t/x"))
			held = append(held, h.next(t))
		}
		before := a.Stats().Failed[abi.ReasonRingFull]
		askFor(t, k, abi.EventExec, "/t/x").want(unix.EIO)
		waitFor(t, func() bool { return a.Stats().Failed[abi.ReasonRingFull] == before+1 })
		for _, h := range held {
			h.Content(digest(goodSum, true))
		}
		for _, r := range all {
			r.want(0)
		}
	}
	if s := settled(t, a); s.Holds != 2*abi.MaxHeld {
		t.Errorf("%d held, want %d", s.Holds, 2*abi.MaxHeld)
	}
}

// Digests that come from everywhere, pushes, deadlines and a stop: each request gets one
// verdict, and the counters add up at every moment.
func TestHoldsUnderLoad(t *testing.T) {
	const askers, each = 6, 200
	short := strings.Replace(knownRules, "deadline: 10s", "deadline: 20ms", 1)
	var hashing sync.WaitGroup
	d := fetcherFunc(func(h Held, r *abi.Request) bool {
		n := r.PathBuf[r.PathLen-1]
		hashing.Go(func() {
			switch n % 4 {
			case 0:
				h.Content(digest(goodSum, true))
			case 1:
				h.Content(digest(otherSum, true))
				h.Content(digest(goodSum, true))
			case 2:
				h.Content(digest(goodSum, false))
			} // else never
		})
		return true
	})
	a, k := start(t, 2, func(c *Config) { c.Rules, c.Contents, c.SpinFor = mustRules(t, short, 1), d, 10*time.Microsecond })
	atomic.StoreUint64(&k.Header().WaitNS, uint64(30*time.Second))
	want := [4]uint16{0, uint16(unix.EACCES), uint16(unix.EIO), uint16(unix.EIO)}
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			for n := range each {
				c := (n + i) % 4
				if c == 3 && n%20 != 3 {
					c = 0
				}
				if got := k.Ask(facts(abi.EventExec, uint32(i)), fmt.Sprintf("/t/%d", c), "/bin/sh"); got.Errno != want[c] && got.Errno != uint16(unix.EIO) || got.Reason != abi.ReasonNone {
					t.Errorf("kind %d: errno %d, reason %s; want %d", c, got.Errno, got.Reason, want[c])
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for epoch := uint64(2); ; epoch++ {
		if err := a.Install(context.Background(), mustRules(t, short, epoch), cache.RulesPushed); err != nil {
			t.Fatal(err)
		}
		s := a.Stats()
		sum := s.Hits + s.Decided + s.InFlight
		for _, n := range s.Failed {
			sum += n
		}
		if sum != s.Requests || s.InFlight > 2*askers+2 { // workers are looked at one after another
			t.Errorf("%+v does not add up", s)
			<-done
		}
		select {
		case <-done:
			hashing.Wait()
			if s := settled(t, a); s.Requests != askers*each || s.Allowed+s.Denied != s.Requests || s.Held != 0 || s.Late != 0 {
				t.Errorf("stats %+v, want %d requests, none held, none late", s, askers*each)
			}
			return
		default:
		}
	}
}

// What is not held costs no allocation where rules look at digests, and what is held only
// what its fetcher allocates.
func TestHoldAllocations(t *testing.T) {
	src := &canned{paths: []string{"/t/x"}, exe: "/bin/sh"}
	w := one(t, mustRules(t, strings.ReplaceAll(knownRules, "exec", "open"), 1), 64, src)
	var held []Held
	w.arbiter.cfg.Contents = fetcherFunc(func(h Held, _ *abi.Request) bool { held = append(held[:0], h); return true })
	round := func() {
		w.step()
		held[0].Content(digest(goodSum, true))
		if !w.tend() {
			t.Fatal("the request does not come back")
		}
	}
	round()
	if n := testing.AllocsPerRun(500, round); n != 1 { // the note
		t.Errorf("%v allocations for a request that is held, want 1", n)
	}
	if s := w.arbiter.Stats(); s.Hits != s.Requests-1 || s.InFlight != 0 {
		t.Errorf("stats %+v, want hits but for the first", s)
	}
	src.paths = []string{"/t/never"}
	w.adopt(&installed{rules: mustRules(t, knownRules, 2), number: 2, reason: cache.RulesPushed})
	if n := testing.AllocsPerRun(500, w.step); n != 0 {
		t.Errorf("%v allocations for one that is not, want 0", n)
	}
}

// BenchmarkHold is what it costs the worker that a request is held and comes back.
func BenchmarkHold(b *testing.B) {
	w := one(b, mustRules(b, strings.ReplaceAll(knownRules, "exec", "open"), 1), 64, &canned{paths: []string{"/t/x"}, exe: "/bin/sh"})
	w.arbiter.cfg.Contents = fetcherFunc(func(h Held, _ *abi.Request) bool { h.Content(digest(goodSum, true)); return true })
	b.ReportAllocs()
	for b.Loop() {
		w.step()
		w.tend()
	}
}

// That a rule which decides once waits for a fact is nothing to keep: when it has decided, the next
// one does not wait for it.
func TestOnceWithDigest(t *testing.T) {
	const text = `version: 1
default: deny
scope: {paths: [/t]}
rules:
- {id: first, events: [open], object: {sha256: "0101010101010101010101010101010101010101010101010101010101010101"}, verdict: {deny: EBUSY}, lifespan: once}
- {id: rest, events: [open], verdict: allow}
`
	h := newHasher()
	a, k := startHolding(t, h, func(c *Config) { c.Rules = mustRules(t, text, 1) })
	for _, tc := range []struct {
		sum  [32]byte
		want unix.Errno
	}{{otherSum, 0}, {goodSum, unix.EBUSY}} {
		asked := askFor(t, k, abi.EventOpen, "/t/x")
		h.next(t).Content(digest(tc.sum, true))
		asked.want(tc.want)
	}
	askFor(t, k, abi.EventOpen, "/t/x").want(0) // nobody asks for a digest
	if s := settled(t, a); s.Holds != 2 {
		t.Errorf("%d requests were held, want 2", s.Holds)
	}
}
