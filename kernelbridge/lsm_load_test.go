// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// loadFor is how long the load goes on.
const loadFor = 8 * time.Second

// underLoad is what a subject does: opens and mkdirs that are allowed and refused, as fast
// as it can. It says which outcomes it saw, and how often.
func underLoad(tree string) string {
	seen := map[string]int{}
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	mine := fmt.Sprintf("%s/dir-%d", tree, os.Getpid())
	for end := time.Now().Add(loadFor); time.Now().Before(end); {
		switch rng.IntN(4) {
		case 0:
			seen["allowed open: "+outcome(openClose(tree+"/file", unix.O_RDONLY))]++
		case 1:
			seen["refused open: "+outcome(openClose(tree+"/denied", unix.O_RDONLY))]++
		case 2:
			seen["refused mkdir: "+outcome(unix.Mkdir(tree+"/denied-dir", 0o755))]++
		case 3:
			err := unix.Mkdir(mine, 0o755)
			seen["allowed mkdir: "+outcome(err)]++
			if err == nil {
				unix.Rmdir(mine)
			}
		}
	}
	var out []string
	for what, n := range seen {
		out = append(out, fmt.Sprintf("%s=%d", strings.ReplaceAll(what, " ", "_"), n))
	}
	return strings.Join(out, ",")
}

// canary does the same outside of the scope, and says how long one step took at most,
// microseconds, and how many it did.
func canary(dir string) string {
	var worst time.Duration
	n := 0
	for end := time.Now().Add(loadFor); time.Now().Before(end); n++ {
		start := time.Now()
		name := fmt.Sprintf("%s/canary-%d", dir, n)
		if err := unix.Mkdir(name, 0o755); err != nil {
			return "mkdir: " + outcome(err)
		}
		if err := unix.Rmdir(name); err != nil {
			return "rmdir: " + outcome(err)
		}
		if err := openClose(dir, unix.O_RDONLY); err != nil {
			return "open: " + outcome(err)
		}
		worst = max(worst, time.Since(start))
	}
	return fmt.Sprintf("%d,%d", worst.Microseconds(), n)
}

// Under load, with slow answers, killed tasks and a worker that pauses: every outcome is
// the verdict or the failure verdict, the counters add up whenever they are read, and who
// is outside of the scope never waits.
func TestLSMUnderLoad(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{"file", "denied"} {
		mustWrite(t, filepath.Join(tree, name), []byte("x"), 0o644)
	}
	p := asking(abi.EventOpen, abi.EventMkdir)
	p.Sleep = 5 * time.Second
	for e := range p.OnFail {
		p.OnFail[e] = abi.Verdict{Errno: uint16(unix.EROFS)}
	}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/denied": unix.EXDEV, "mkdir " + tree + "/denied-dir": unix.EXDEV})
	w.keep, w.quiet = true, true
	w.slow = map[string]time.Duration{"mkdir " + tree + "/denied-dir": 2 * time.Millisecond}

	bird := startChild(t).begin("canary", outside)
	var subjects []chan string
	for range 3 {
		subjects = append(subjects, startChild(t).begin("load", tree))
	}
	// A fourth one is killed again and again, wherever it is.
	begin, kills := time.Now(), 0
	for time.Since(begin) < loadFor-2*time.Second {
		c := startChild(t)
		c.begin("load", tree)
		unix.Nanosleep(&unix.Timespec{Nsec: int64(200 * time.Millisecond)}, nil)
		c.cmd.Process.Kill()
		c.cmd.Wait()
		kills++
		for _, e := range []abi.Event{abi.EventOpen, abi.EventMkdir} {
			sum, err := b.Counts(e)
			if err != nil {
				t.Fatal(err)
			}
			ended := sum.Cached + sum.Answered
			for _, n := range sum.Failed {
				ended += n
			}
			if open := int64(sum.Asked - ended); open < -int64(abi.Slots) || open > abi.Slots {
				t.Errorf("%s: %d asked, %d ended", e, sum.Asked, ended)
			}
		}
	}
	total := 0
	for _, s := range subjects {
		for _, part := range strings.Split(<-s, ",") {
			what, n, _ := strings.Cut(part, "=")
			count, err := strconv.Atoi(n)
			if err != nil {
				t.Fatalf("outcome %q: %v", part, err)
			}
			total += count
			switch what {
			case "allowed_open:_ok", "allowed_mkdir:_ok", "refused_open:_EXDEV", "refused_mkdir:_EXDEV":
			case "allowed_open:_EROFS", "allowed_mkdir:_EROFS", "refused_open:_EROFS", "refused_mkdir:_EROFS":
				t.Logf("failure verdicts: %s", part)
			default:
				t.Errorf("outcome %s, want the verdict or the failure verdict", part)
			}
		}
	}
	worstText, stepsText, _ := strings.Cut(<-bird, ",")
	worst, err := strconv.Atoi(worstText)
	if err != nil {
		t.Fatalf("the canary: %s %s", worstText, stepsText)
	}
	t.Attr("seen", fmt.Sprintf("%d questions under load, %d tasks killed; outside of the scope %s steps, %v at the longest", total, kills, stepsText, time.Duration(worst)*time.Microsecond))
	if worst > 1_000_000 { // emulated CPUs are away for long
		t.Errorf("a step outside of the scope took %v", time.Duration(worst)*time.Microsecond)
	}
	await(t, "free slots", func() bool {
		for i := range abi.Slots {
			if abi.Word(b.queue.Slot(i).Word).State() != abi.Free {
				return false
			}
		}
		return true
	})
	for _, e := range []abi.Event{abi.EventOpen, abi.EventMkdir} {
		sum, err := b.Counts(e)
		if err != nil {
			t.Fatal(err)
		}
		ended := sum.Cached + sum.Answered
		for _, n := range sum.Failed {
			ended += n
		}
		if sum.Asked != ended || sum.Asked == 0 {
			t.Errorf("%s: %+v: %d asked and %d ended, want the same when nobody waits", e, sum, sum.Asked, ended)
		}
	}
}
