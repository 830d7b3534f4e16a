// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

const (
	// answer is the errno of a refusal: none that a kernel would come up with here.
	answer = unix.EDOM
	// failed is that of the failure verdict.
	failed = unix.EUSERS
	// held is how long a slow verdict takes.
	held = 300 * time.Millisecond
)

// eventCase is one way to come by an event. In the texts $D is the folder where it
// happens, in the tree or outside of it, and $T always the tree.
type eventCase struct {
	name  string // what is special, behind the event's name
	event abi.Event
	do    string // verb and arguments
	// before and after are done by the test, which is never asked, around each time.
	before, after func(t *testing.T, dir string)

	refused string // outcome of a refusal, "": the errno that was answered
	allowed string // outcome, "": ok; one of several, by |
	path    string // "": it has no object
	detail  string
	args    map[string]uint64
	access  abi.Access
	times   int // questions for one time, 0: one
	// bySubject: the scope looks at the subject, though there may be a path.
	bySubject bool
	// nowhere: no folder is out of the scope, or in another way than by the folder.
	nowhere bool
	brief   bool // only that it is refused and allowed
	// restarts: the caller hands a restart on, so that a slow verdict is waited for.
	restarts bool
	check    func(t *testing.T, dir string) // after it was allowed
}

// asked is a question as the worker saw it.
type asked struct {
	abi.Request
	path, detail, exe string
}

// answerer answers every question alike and keeps them. It polls: what is under test is
// the question.
type answerer struct {
	mu    sync.Mutex
	got   []asked
	errno atomic.Uint32
	delay atomic.Int64
}

func startAnswerer(t *testing.T, b *LSM) *answerer {
	t.Helper()
	w := &answerer{}
	src := b.Sources()[0]
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Errorf("pinning the worker: %v", err)
			return
		}
		var q abi.Request
		for !stop.Load() {
			if !src.Next(&q) {
				continue
			}
			w.mu.Lock()
			w.got = append(w.got, asked{q, string(q.Path()), string(q.Detail()), string(q.Exe())})
			w.mu.Unlock()
			for end := time.Now().Add(time.Duration(w.delay.Load())); time.Now().Before(end); {
			}
			src.Reply(&q, abi.Verdict{Errno: uint16(w.errno.Load())})
		}
	}()
	t.Cleanup(func() { stop.Store(true); <-done })
	return w
}

func (w *answerer) take() []asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// stage is a backend with a subject in its scope and another one outside of it.
type stage struct {
	*LSM
	w               *answerer
	tree, away      string // folders
	inside, outside *child
	exe             string // of inside
	unwinds, sleeps bool   // what the kernel can do
	has             func(fn string) bool
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{LSM: openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})}
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	can := capabilities(spec)
	s.unwinds, s.sleeps = can.unwind == "", s.NoGate() == nil
	s.has = func(fn string) bool { return hasFunc(spec, fn) }
	dir := t.TempDir()
	s.tree, s.away = dir+"/tree", dir+"/away"
	mustMkdir(t, s.tree, s.away)
	s.exe = s.tree + "/subject"
	copySelf(t, s.exe)
	copySelf(t, s.away+"/subject")
	s.inside, s.outside = startVerbs(t, s.exe), startVerbs(t, s.away+"/subject")
	s.w = startAnswerer(t, s.LSM)
	return s
}

// about puts a policy in force that asks about one event, within the tree.
func (s *stage) about(t *testing.T, e abi.Event) {
	t.Helper()
	p := asking(e)
	p.OnFail[e].Errno = uint16(failed)
	if err := s.Configure(Scope{Trees: []string{s.tree}}, p); err != nil {
		t.Fatal(err)
	}
	s.Arm(true)
}

func (s *stage) expand(text, dir string) string {
	return strings.NewReplacer("$D", dir, "$T", s.tree).Replace(text)
}

// once does the case one time and returns the outcome, what was asked, and for which
// reasons there were failure verdicts.
func (s *stage) once(t *testing.T, tc *eventCase, by *child, dir string) (string, []asked, []abi.Reason) {
	t.Helper()
	if tc.before != nil {
		tc.before(t, dir)
	}
	if tc.after != nil {
		defer tc.after(t, dir)
	}
	before := s.counts(t, tc.event)
	s.w.take()
	start := monotonic()
	verb, args, _ := strings.Cut(s.expand(tc.do, dir), " ")
	got := by.do(verb, args)
	if tc.check != nil && got == cmpOr(tc.allowed, "ok") {
		tc.check(t, dir)
	}
	var reasons []abi.Reason
	after := s.counts(t, tc.event)
	for r := range after.Failed {
		for range after.Failed[r] - before.Failed[r] {
			reasons = append(reasons, abi.Reason(r))
		}
	}
	// A worker that was late for the time before may have noted that one just now.
	late := func(q asked) bool { return q.PostedNS < start }
	return got, slices.DeleteFunc(s.w.take(), late), reasons
}

func (s *stage) counts(t *testing.T, e abi.Event) Counts {
	t.Helper()
	c, err := s.Counts(e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// prompt is once with a worker that answers at once. Where the task cannot wait for more
// than 10 ms an emulated machine may be late: then it is done again.
func (s *stage) prompt(t *testing.T, tc *eventCase, by *child, dir string) (string, []asked) {
	t.Helper()
	var late []abi.Reason
	for range 50 {
		got, asked, reasons := s.once(t, tc, by, dir)
		if len(reasons) == 0 {
			return got, asked
		}
		late = append(late, reasons...)
	}
	t.Fatalf("no verdict in time, each time: %v", late)
	return "", nil
}

// run puts every case to the test.
func (s *stage) run(t *testing.T, cases []eventCase) {
	for _, tc := range cases {
		t.Run(strings.TrimSuffix(tc.event.String()+" "+tc.name, " "), func(t *testing.T) {
			if why := s.Unavailable(1 << tc.event)[tc.event]; why != nil {
				// The only one that not all of the kernels have, which 6.15 brought.
				if tc.event != abi.EventURingAllowed || s.has("bpf_lsm_uring_allowed") || !strings.Contains(why.Error(), "this kernel has no LSM hook") {
					t.Fatal(why)
				}
				t.Skipf("not to be asked about: %v", why)
			}
			s.about(t, tc.event)
			s.verdicts(t, &tc)
			if tc.brief {
				return
			}
			s.scope(t, &tc)
			s.slow(t, &tc)
			s.slotsFree(t)
		})
	}
}

// verdicts refuses and allows.
func (s *stage) verdicts(t *testing.T, tc *eventCase) {
	t.Helper()
	for _, errno := range []unix.Errno{answer, 0} {
		s.w.errno.Store(uint32(errno))
		want := cmpOr(tc.refused, unix.ErrnoName(answer))
		if errno == 0 {
			want = cmpOr(tc.allowed, "ok")
		}
		got, asked := s.prompt(t, tc, s.inside, s.tree)
		if !slices.Contains(strings.Split(want, "|"), got) {
			t.Errorf("%s, answered with errno %d: %s, want %s", tc.do, errno, got, want)
		}
		if times := max(tc.times, 1); len(asked) != times {
			t.Errorf("%s, answered with errno %d: asked %d times, want %d: %s", tc.do, errno, len(asked), times, describe(asked))
			continue
		}
		s.facts(t, tc, &asked[len(asked)-1])
	}
}

func describe(all []asked) string {
	var b strings.Builder
	for _, q := range all {
		fmt.Fprintf(&b, "\n  %s path=%q detail=%q exe=%q flags=%d args=%v tgid=%d", q.Event, q.path, q.detail, q.exe, q.Flags, q.Arg, q.TGID)
	}
	return b.String()
}

// facts compares a question with what the case says.
func (s *stage) facts(t *testing.T, tc *eventCase, q *asked) {
	t.Helper()
	info := catalogue.Of(tc.event)
	var flags uint32
	if tc.path == "" {
		flags = abi.FlagNoObject
	}
	path, detail := s.expand(tc.path, s.tree), s.expand(tc.detail, s.tree)
	if q.Event != tc.event || q.path != path || q.detail != detail || q.exe != s.exe || q.Flags != flags || q.Access != tc.access {
		t.Errorf("asked %s\nwant path=%q detail=%q exe=%q flags=%d", describe([]asked{*q}), path, detail, s.exe, flags)
	}
	for i, a := range info.Args {
		want, known := tc.args[a.Name]
		if !known {
			t.Errorf("the case does not say what %s is; it is %d", a.Name, q.Arg[i])
		} else if q.Arg[i] != want && want != anyNumber {
			t.Errorf("%s is %#x, want %#x", a.Name, q.Arg[i], want)
		}
	}
	for i := len(info.Args); i < len(q.Arg); i++ {
		if q.Arg[i] != 0 {
			t.Errorf("number %d has no name and is %#x", i, q.Arg[i])
		}
	}
}

// anyNumber stands for an argument that the case cannot know.
const anyNumber = 1<<64 - 1

// scope does it outside of the scope, where nothing is asked.
func (s *stage) scope(t *testing.T, tc *eventCase) {
	t.Helper()
	if tc.nowhere {
		return
	}
	s.w.errno.Store(uint32(answer))
	by, dir := s.inside, s.away
	if tc.bySubject {
		by, dir = s.outside, s.tree
	}
	got, asked, _ := s.once(t, tc, by, dir)
	if want := cmpOr(tc.allowed, "ok"); !slices.Contains(strings.Split(want, "|"), got) || len(asked) != 0 {
		t.Errorf("%s outside of the scope: %s, want %s; asked %s", tc.do, got, want, describe(asked))
	}
}

// slow gives a verdict that takes long.
func (s *stage) slow(t *testing.T, tc *eventCase) {
	t.Helper()
	s.w.delay.Store(int64(held))
	defer s.w.delay.Store(0)
	free := catalogue.Of(tc.event).Class == catalogue.Free && !strings.HasPrefix(tc.name, "from memory")
	waits := free && s.sleeps || tc.restarts && s.unwinds
	for _, errno := range []unix.Errno{answer, 0} {
		s.w.errno.Store(uint32(errno))
		if free && !waits || !waits && errno == 0 {
			continue // it polls, for as long as the options say; its failure verdict was seen
		}
		start := time.Now()
		got, asked, reasons := s.once(t, tc, s.inside, s.tree)
		took := time.Since(start)
		if strings.Contains(got, "513") {
			t.Errorf("%s, held: %s, an errno that is the kernel's own", tc.do, got)
		}
		if !waits {
			// The failure verdict, whatever the worker says later. A caller that makes
			// something else of an errno does so of this one.
			want, reason := strings.ReplaceAll(cmpOr(tc.refused, unix.ErrnoName(failed)), unix.ErrnoName(answer), unix.ErrnoName(failed)), abi.ReasonDeadline
			if s.unwinds {
				reason = abi.ReasonUnsupportedCaller
			}
			// A thread of io_uring's runs where it likes, also on the worker's CPU.
			if len(reasons) == 1 && reasons[0] == abi.ReasonNoWorker && strings.HasPrefix(tc.do, "ring-") {
				reason = abi.ReasonNoWorker
			}
			if got != want || len(reasons) != 1 || reasons[0] != reason {
				t.Errorf("%s, held where nothing can wait: %s after %v for %v, want %s for %s", tc.do, got, took, reasons, want, reason)
			}
			continue
		}
		want := cmpOr(tc.refused, unix.ErrnoName(answer))
		if errno == 0 {
			want = cmpOr(tc.allowed, "ok")
		}
		if !slices.Contains(strings.Split(want, "|"), got) || took < held || len(reasons) != 0 {
			t.Errorf("%s, held and then answered with errno %d: %s after %v, failure verdicts %v; want %s after %v", tc.do, errno, got, took, reasons, want, held)
		}
		if times := max(tc.times, 1); len(asked) != times {
			t.Errorf("%s, held: asked %d times, want %d: a restart is not a question: %s", tc.do, len(asked), times, describe(asked))
		}
	}
}

// slotsFree: nobody waits, so no slot is in use. A worker that is late frees none, it
// only sees that its answer is not wanted.
func (s *stage) slotsFree(t *testing.T) {
	t.Helper()
	if n := s.slotsInUse(); n != 0 {
		t.Errorf("%d slots are in use afterwards, want none", n)
	}
}

func (s *stage) slotsInUse() (n int) {
	for i := range abi.Slots {
		if abi.Word(atomic.LoadUint64(&s.queue.Slot(i).Word)).State() != abi.Free {
			n++
		}
	}
	return n
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// withNew returns what makes files, and what takes them away.
func withNew(names ...string) (before, after func(*testing.T, string)) {
	before = func(t *testing.T, dir string) {
		for _, n := range names {
			mustWrite(t, filepath.Join(dir, n), []byte("x"), 0o644)
		}
	}
	return before, func(t *testing.T, dir string) {
		for _, n := range names {
			os.RemoveAll(filepath.Join(dir, n))
		}
	}
}
