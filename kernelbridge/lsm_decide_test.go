// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Rules that look at ids and numbers alone hold without a worker: there is none here.
func TestLSMDecidesInTheKernel(t *testing.T) {
	var mu sync.Mutex
	var told []abi.Failure
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait, OnFailure: func(f *abi.Failure) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, *f)
	}})
	tree := t.TempDir()
	for dir, mode := range map[string]os.FileMode{filepath.Dir(tree): 0o755, tree: 0o777} { // for another user
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	is := func(field abi.KernelField, v uint64) abi.KernelTest {
		return abi.KernelTest{Field: field, Mask: math.MaxUint64, Low: v, High: v}
	}
	p := asking(abi.EventMkdir, abi.EventRmdir, abi.EventUnlink)
	p.Rules[abi.EventMkdir] = []abi.KernelRule{
		{Rule: 0, Errno: uint16(unix.EXDEV), Tests: []abi.KernelTest{is(abi.KernelUID, 1000), is(abi.KernelGID, 0)}},
		{Rule: 1, Errno: uint16(unix.EROFS), Tests: []abi.KernelTest{{Field: abi.KernelArg, Mask: 0o1000, Low: 1, High: math.MaxUint64}}}, // sticky
		{Rule: -1},
	}
	p.Rules[abi.EventRmdir] = []abi.KernelRule{{Rule: 2, Errno: uint16(unix.EBUSY)}}
	p.Rules[abi.EventUnlink] = []abi.KernelRule{{Rule: 3, Errno: uint16(unix.EBUSY), Tests: []abi.KernelTest{is(abi.KernelEUID, 7)}}}
	p.OnFail[abi.EventUnlink] = abi.Verdict{Errno: uint16(unix.ENOTUNIQ)}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	c := startChild(t)
	for _, tc := range []struct{ verb, arg, want string }{
		{"mkdir", tree + "/a", "ok"}, // the default
		{"rmdir", tree + "/a", "EBUSY"},
		{"unlink", tree + "/a", "ENOTUNIQ"}, // no rule: asked about, and nobody is there
		{"mksticky", tree + "/b", "EROFS"},
		{"setuid", "1000", "ok"},
		{"mkdir", tree + "/c", "EXDEV"},
	} {
		if got := c.do(tc.verb, tc.arg); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.verb, tc.arg, got, tc.want)
		}
	}
	counts, err := b.Counts(abi.EventMkdir)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Asked != 3 || counts.Decided != 3 {
		t.Errorf("counts of mkdir %+v, want three asked, all decided in the kernel", counts)
	}
	await(t, "notice of each refusal", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 4 })
	mu.Lock()
	for i, want := range []struct {
		rule   int32
		reason abi.Reason
	}{{2, abi.ReasonNone}, {-1, told[1].Reason}, {1, abi.ReasonNone}, {0, abi.ReasonNone}} {
		if f := told[i]; f.Rule != want.rule || f.Reason != want.reason || f.Reason == abi.ReasonNone && f.Epoch == 0 {
			t.Errorf("notice %d: rule %d, reason %s, epoch %d, want rule %d, %s", i, f.Rule, f.Reason, f.Epoch, want.rule, want.reason)
		}
	}
	mu.Unlock()

	// Who watches allows is told of them: the kernel leaves them to the workers then.
	w := startWorker(t, b, nil)
	b.Watch(true)
	if got := c.do("mkdir", tree+"/c"); got != "EXDEV" {
		t.Errorf("a refusal while somebody watches: %s, want EXDEV", got)
	}
	two := startChild(t)
	if got := two.do("mkdir", tree+"/d"); got != "ok" || len(w.take()) != 1 {
		t.Errorf("an allow while somebody watches: %s, want ok, by the worker", got)
	}
	b.Watch(false)
	if got := two.do("mkdir", tree+"/e"); got != "ok" || len(w.take()) != 0 {
		t.Errorf("an allow when nobody watches: %s, want ok, without a worker", got)
	}
	// A policy without kernel rules asks again.
	p.Rules = [abi.EventCount][]abi.KernelRule{}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	if got := two.do("mkdir", tree+"/f"); got != "ok" || len(w.take()) != 1 {
		t.Errorf("without rules in the kernel: %s, want ok, by the worker", got)
	}
}

// Rules that look at paths allow without a worker: there is none here. What they refuse is asked
// about.
func TestLSMDecidesByPath(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	deep := "/" + strings.Repeat("l", abi.KernelPatternBytes-len(tree)-1)
	for _, dir := range []string{"/in", "/in/deeper", "/un", "/out"} {
		if err := os.Mkdir(tree+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"/in/file", "/in/deeper/file", "/un/file", "/out/file", "/out/refused", "/alone", "/alone2", deep, deep + "2"} {
		if err := os.WriteFile(tree+file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := asking(abi.EventOpen, abi.EventMkdir)
	// Nobody answers what is asked, so it is not waited for as long as openLSM has it.
	patient := p.Sleep
	p.Sleep = 100 * time.Millisecond
	waitNS := &b.queue.Header().WaitNS
	long := atomic.SwapUint64(waitNS, uint64(p.Sleep))
	p.OnFail[abi.EventOpen], p.OnFail[abi.EventMkdir] = abi.Verdict{Errno: uint16(unix.ENOTUNIQ)}, abi.Verdict{Errno: uint16(unix.ENOTUNIQ)}
	allow := func(kind abi.PatternKind, paths ...string) (r abi.KernelRule) {
		for _, path := range paths {
			r.Paths = append(r.Paths, abi.KernelPattern{Text: tree + path, Kind: kind})
		}
		return r
	}
	refuse := allow(abi.PatternWhole, "/out/refused")
	refuse.Errno = uint16(unix.EBUSY)
	p.Rules[abi.EventOpen] = []abi.KernelRule{refuse, allow(abi.PatternBelow, "/in/", "/un/"), allow(abi.PatternWhole, "/alone", deep), allow(abi.PatternWithin, "/out/")}
	p.Rules[abi.EventMkdir] = []abi.KernelRule{allow(abi.PatternWithin, "/in/")}
	configure := func() {
		t.Helper()
		if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
			t.Fatal(err)
		}
	}
	configure()
	b.Arm(true)
	c := startChild(t)
	type step struct{ verb, path, want string }
	do := func(steps ...step) {
		t.Helper()
		for _, s := range steps {
			if got := c.do(s.verb, tree+s.path); got != s.want {
				t.Errorf("%s %s: %s, want %s", s.verb, s.path, got, s.want)
			}
		}
	}
	do(step{"read", "/in/file", "ok"}, step{"write", "/in/deeper/file", "ok"}, step{"read", "/un/file", "ok"},
		step{"read", "/alone", "ok"}, step{"read", "/alone2", "ENOTUNIQ"}, step{"read", deep, "ok"}, step{"read", deep + "2", "ENOTUNIQ"},
		step{"read", "/out/file", "ok"}, step{"read", "/out/refused", "ENOTUNIQ"},
		step{"mkdir", "/in/new", "ok"}, step{"mkdir", "/in/deeper/new", "ENOTUNIQ"}, step{"mkdir", "/out/new", "ENOTUNIQ"})
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Decided+counts.Cached != 6 || counts.Asked != 9 {
		t.Errorf("counts of open %+v, want nine asked, six decided in the kernel", counts)
	}
	// The other half, and then this one again: what was there before does not count.
	p.Rules[abi.EventOpen] = []abi.KernelRule{allow(abi.PatternBelow, "/un/")}
	for range 2 {
		configure()
		do(step{"read", "/in/file", "ENOTUNIQ"}, step{"read", "/un/file", "ok"}, step{"read", "/alone", "ENOTUNIQ"}, step{"read", "/out/file", "ENOTUNIQ"})
	}
	// Who watches allows is told of them.
	atomic.StoreUint64(waitNS, long)
	p.Sleep = patient
	configure()
	w := startWorker(t, b, nil)
	b.Watch(true)
	do(step{"read", "/un/file", "ok"})
	if n := len(w.take()); n != 1 {
		t.Errorf("an allow while somebody watches: %d questions, want one", n)
	}
	b.Watch(false)
	do(step{"read", "/un/file", "ok"})
	if n := len(w.take()); n != 0 {
		t.Errorf("an allow when nobody watches: %d questions, want none", n)
	}
}
