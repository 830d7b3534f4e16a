// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// await waits for a condition with a bound that an emulated machine keeps.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("no %s within a minute", what)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: int64(time.Millisecond)}, nil)
	}
}

// waiting returns how many questions wait for an answer, and how many of their tasks
// sleep.
func waiting(b *LSM) (open, asleep int) {
	for i := range abi.Slots {
		word := abi.Word(atomic.LoadUint64(&b.queue.Slot(i).Word))
		if s := word.State(); s == abi.Posted || s == abi.Taken {
			open++
			if word&abi.Sleeping != 0 {
				asleep++
			}
		}
	}
	return open, asleep
}

func oneAsleep(b *LSM) func() bool {
	return func() bool { _, asleep := waiting(b); return asleep == 1 }
}

// begin starts a command in the subject; its outcome comes later.
func (c *child) begin(verb, path string) chan string {
	result := make(chan string, 1)
	go func() {
		if _, err := fmt.Fprintln(c.in, verb, path); err != nil {
			result <- err.Error()
			return
		}
		var line [1024]byte
		n, err := c.out.Read(line[:])
		if err != nil {
			result <- err.Error()
			return
		}
		result <- string(line[:max(n, 1)-1])
	}()
	return result
}

// flood opens a file from many threads at once and says how that ended.
func flood(arg string) string {
	count, path, _ := strings.Cut(arg, ":")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err.Error()
	}
	var wg sync.WaitGroup
	outcomes := make(chan string, n)
	for range n {
		wg.Go(func() { outcomes <- outcome(openClose(path, unix.O_RDONLY)) })
	}
	wg.Wait()
	close(outcomes)
	seen := map[string]int{}
	for o := range outcomes {
		seen[o]++
	}
	var out []string
	for _, o := range slices.Backward(slices.Sorted(maps.Keys(seen))) {
		out = append(out, fmt.Sprintf("%s=%d", o, seen[o]))
	}
	return strings.Join(out, ",")
}

// SIGKILL ends a sleep at once, by the failure verdict, and nothing stays behind.
func TestLSMSleeperKilled(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{})
	p.Sleep = 20 * time.Second
	b, tree := openSleeper(t, p)
	w := startWorker(t, b, nil)
	w.slow = map[string]time.Duration{"open " + tree + "/file": 5 * time.Second}
	c := startChild(t)
	c.do("cpu", "-")
	c.begin("read", tree+"/file")
	await(t, "sleeper", oneAsleep(b))
	start := time.Now()
	c.cmd.Process.Kill()
	c.cmd.Wait()
	took := time.Since(start)
	t.Attr("seen", "a killed sleeper was gone after "+took.Round(time.Millisecond).String())
	if took > time.Second { // 100 ms on a real machine
		t.Errorf("the killed task went after %v", took)
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Asked != 1 || counts.Failed[abi.ReasonInterrupted] != 1 || counts.Killed != 1 {
		t.Errorf("counts %+v, want one question, interrupted by a kill", counts)
	}
	await(t, "free slot", func() bool { open, _ := waiting(b); return open == 0 })
}

// A storm of signals neither ends a sleep nor turns a refusal into an allow.
func TestLSMSleeperSignals(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{})
	p.Sleep = 20 * time.Second
	b, tree := openSleeper(t, p)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	w.slow = map[string]time.Duration{"open " + tree + "/file": 2 * time.Second}
	c := startChild(t)
	result := c.begin("read", tree+"/file")
	await(t, "sleeper", oneAsleep(b))
	sent := 0
	for {
		select {
		case got := <-result:
			if got != "EXDEV" {
				t.Errorf("an open under %d signals: %s, want EXDEV", sent, got)
			}
			if sent < 50 {
				t.Errorf("%d signals were sent, want a storm", sent)
			}
			return
		default:
			unix.Kill(c.cmd.Process.Pid, unix.SIGURG)
			unix.Nanosleep(&unix.Timespec{Nsec: int64(time.Millisecond)}, nil)
			sent++
		}
	}
}

// When the helper of the gate is killed, who sleeps gets the failure verdict, and another
// gate is there for the next.
func TestLSMGateReopens(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{abi.EventOpen: {Errno: uint16(unix.EROFS)}})
	p.Sleep = 20 * time.Second
	b, tree := openSleeper(t, p)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	w.slow = map[string]time.Duration{"open " + tree + "/file": 2 * time.Second}
	c := startChild(t)
	result := c.begin("read", tree+"/file")
	await(t, "sleeper", oneAsleep(b))
	helper := atomic.LoadUint32(&b.queue.Header().GatePID)
	if err := unix.Kill(int(helper), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got != "EROFS" {
		t.Errorf("the sleeper of a gate that went: %s, want the failure verdict EROFS", got)
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Failed[abi.ReasonGateDead] != 1 {
		t.Errorf("counts %+v, want one gate_dead", counts)
	}
	await(t, "other gate", func() bool {
		pid := atomic.LoadUint32(&b.queue.Header().GatePID)
		return pid != 0 && pid != helper
	})
	if got := c.do("read", tree+"/file"); got != "EXDEV" {
		t.Errorf("an open at the next gate: %s, want EXDEV", got)
	}
}

// Two tasks on one CPU inside of one hook are both asked: no program is skipped because
// another run of it is under way.
func TestLSMTwoOnOneCPU(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{})
	p.Sleep = 20 * time.Second
	b, tree := openSleeper(t, p)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	w.slow = map[string]time.Duration{"open " + tree + "/file": time.Second}
	one, two := startChild(t), startChild(t) // subjects pin themselves to CPU 0
	first := one.begin("read", tree+"/file")
	second := two.begin("read", tree+"/file")
	await(t, "second sleeper", func() bool { _, asleep := waiting(b); return asleep == 2 })
	if a, b := <-first, <-second; a != "EXDEV" || b != "EXDEV" {
		t.Errorf("two opens on one CPU: %s and %s, want EXDEV for both", a, b)
	}
	if asked := w.take(); len(asked) != 2 {
		t.Errorf("asked %q, want both", asked)
	}
}

// More questions at once than there are slots: who finds none gets the failure verdict at
// once, all others their answer.
func TestLSMMoreThanSlots(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{abi.EventOpen: {Errno: uint16(unix.EROFS)}})
	p.Sleep = 60 * time.Second
	b, tree := openSleeper(t, p)
	const each, subjects = 2500, 4
	const tasks = each * subjects
	var results []chan string
	for range subjects {
		results = append(results, startChild(t).begin("flood", fmt.Sprintf("%d:%s/file", each, tree)))
	}
	await(t, "full ring", func() bool {
		counts, err := b.Counts(abi.EventOpen)
		if err != nil {
			t.Fatal(err)
		}
		return counts.Asked == tasks
	})
	startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	seen := map[string]int{}
	for _, r := range results {
		for _, part := range strings.Split(<-r, ",") {
			name, n, _ := strings.Cut(part, "=")
			count, err := strconv.Atoi(n)
			if err != nil {
				t.Fatalf("outcome %q: %v", part, err)
			}
			seen[name] += count
		}
	}
	if len(seen) != 2 || seen["EXDEV"] != abi.Slots || seen["EROFS"] != tasks-abi.Slots {
		t.Errorf("%d opens at once: %v, want %d answered with EXDEV, and EROFS, the failure verdict, for all others", tasks, seen, abi.Slots)
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Answered != abi.Slots || counts.Failed[abi.ReasonRingFull] != tasks-abi.Slots {
		t.Errorf("counts %+v, want %d answered and %d ring_full", counts, abi.Slots, tasks-abi.Slots)
	}
}
