// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// asking returns a policy that asks about the given events, with all facts.
func asking(events ...abi.Event) Policy {
	p := Policy{Want: wantAll(), Sleep: 20 * time.Second}
	for _, e := range events {
		p.Asked |= 1 << e
	}
	return p
}

// needUnwind skips on a kernel on which a system call cannot be unwound.
func needUnwind(t *testing.T) {
	t.Helper()
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if missing := capabilities(spec).unwind; missing != "" {
		t.Skipf("system calls cannot be unwound here: %s", missing)
	}
}

// A hook whose caller has locked a directory waits for seconds, and the directory stays
// in use: the system call is unwound and runs again.
func TestLSMUnwinds(t *testing.T) {
	needUnwind(t)
	b, tree := openSleeper(t, asking(abi.EventMkdir, abi.EventCreate, abi.EventUnlink))
	const hold = 5 * time.Second
	w := startWorker(t, b, map[string]unix.Errno{"mkdir " + tree + "/slow": unix.EXDEV, "unlink " + tree + "/file": unix.EROFS})
	w.slow = map[string]time.Duration{"mkdir " + tree + "/slow": hold}
	held, other := startChild(t), startChild(t)

	result := make(chan string, 1)
	start := time.Now()
	go func() { result <- held.do("mkdir", tree+"/slow") }()
	worst, uses := time.Duration(0), 0
	for {
		select {
		case got := <-result:
			if took := time.Since(start); got != "EXDEV" || took < hold {
				t.Errorf("a held mkdir: %s after %v, want EXDEV after %v", got, took, hold)
			}
		default:
			// A name that is looked up for the first time needs the directory's lock.
			before := time.Now()
			if got := other.do("read", fmt.Sprintf("%s/new%d", tree, uses)); got != "ENOENT" {
				t.Fatalf("looking a name up meanwhile: %s, want ENOENT", got)
			}
			worst, uses = max(worst, time.Since(before)), uses+1
			continue
		}
		break
	}
	t.Attr("seen", fmt.Sprintf("a mkdir held for %v: its directory was used %d times meanwhile, %v at the longest", hold, uses, worst.Round(time.Millisecond)))
	if uses < 10 || worst > time.Second {
		t.Errorf("the directory was used %d times meanwhile, %v at the longest; want many times and without waiting", uses, worst)
	}

	for _, tc := range []struct{ verb, path, want string }{
		{"mkdir", "/dir", "ok"},
		{"create", "/born", "ok"}, // O_EXCL, through a restart
		{"create", "/born", "EEXIST"},
		{"unlink", "/born", "ok"},
		{"unlink", "/file", "EROFS"},
		{"rmdir", "/dir", "ok"}, // not asked about
	} {
		if got := held.do(tc.verb, tree+tc.path); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.verb, tc.path, got, tc.want)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "slow")); !os.IsNotExist(err) {
		t.Errorf("the refused directory: %v, want that there is none", err)
	}
	var open int
	for i := range abi.Slots {
		if s := abi.Word(b.queue.Slot(i).Word).State(); s != abi.Free {
			open++
		}
	}
	if open != 0 {
		t.Errorf("%d slots are in use, want none", open)
	}
	for e, want := range map[abi.Event]uint64{abi.EventMkdir: 2, abi.EventCreate: 1, abi.EventUnlink: 2} {
		c, err := b.Counts(e)
		if err != nil {
			t.Fatal(err)
		}
		if c.Asked != want || c.Answered != want {
			t.Errorf("%s: asked %d times and answered %d, want %d: a restart is not a question", e, c.Asked, c.Answered, want)
		}
	}
	// The held one claimed a slot twice and slept; the others may have been answered before.
	if claims, slept := b.Claims(), b.Sources()[0].Slept(); claims < 6 || claims > 10 || slept < 1 || slept > claims-5 {
		t.Errorf("%d slots claimed for 5 questions, %d slept; want one more for each that was unwound, and the held one among them", claims, slept)
	}
	for _, asked := range w.take() {
		t.Log(asked)
	}
}

// A task polls as long as it is told to before it waits in another way.
func TestLSMSpins(t *testing.T) {
	needUnwind(t)
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait, Spin: 20 * time.Second})
	tree := t.TempDir()
	w := startWorker(t, b, nil)
	const tries = 10
	w.slow = map[string]time.Duration{}
	for i := range tries {
		w.slow[fmt.Sprintf("mkdir %s/%d", tree, i)] = 20 * time.Millisecond // a thousand times the default
	}
	w.polls.Store(true)
	b.Sources()[0].Wake()
	if err := b.Configure(Scope{Trees: []string{tree}}, asking(abi.EventMkdir)); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	c := startChild(t)
	for i := range tries { // on the worker's own CPU nobody polls for it
		claims, slept := b.Claims(), b.Sources()[0].Slept()
		if got := c.do("mkdir", fmt.Sprintf("%s/%d", tree, i)); got != "ok" {
			t.Errorf("mkdir: %s, want ok", got)
		}
		if b.Claims() == claims+1 && b.Sources()[0].Slept() == slept {
			return
		}
	}
	t.Errorf("in %d tries nobody polled until the verdict", tries)
}
