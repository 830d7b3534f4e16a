// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// sleeper is a process of ours that waits to be killed; ended is closed when it has ended, by
// the signal it was sent.
func sleeper(t *testing.T) (pid int, ended chan os.Signal) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan os.Signal, 1)
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process.Pid, ended
}

func TestKill(t *testing.T) {
	a, k := start(t, 1, func(c *Config) {
		c.Rules = mustRules(t, "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n- {id: no-miners, events: [exec], object: {path: /t/miner}, verdict: kill}\n", 1)
	})
	sub := a.Subscribe(16, SubscribeOptions{})
	defer sub.Close()
	ask := func(pid int) {
		t.Helper()
		f := facts(abi.EventExec, 0)
		f.TGID = uint32(pid)
		if got := k.Ask(f, "/t/miner", "/bin/x"); got.Errno != uint16(unix.EPERM) || got.Reason != abi.ReasonNone {
			t.Errorf("errno %d, reason %s; want EPERM", got.Errno, got.Reason)
		}
	}
	verdict := func() string {
		t.Helper()
		select {
		case e := <-sub.C:
			return e.Verdict
		case <-time.After(5 * time.Second):
			t.Fatal("no event")
			return ""
		}
	}
	for _, how := range []string{"decided", "cached"} {
		pid, ended := sleeper(t)
		ask(pid)
		select {
		case s := <-ended:
			if s != unix.SIGKILL {
				t.Errorf("%s: it ended by %v, want SIGKILL", how, s)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: it lives", how)
		}
		if v := verdict(); v != "kill" {
			t.Errorf("%s: the event says %q", how, v)
		}
	}
	// Neither process 1, nor this one, nor one that is not there.
	for _, pid := range []int{1, os.Getpid(), 0, 1 << 22} {
		ask(pid)
		if v := verdict(); v != "deny" {
			t.Errorf("pid %d: the event says %q, want deny", pid, v)
		}
	}
	if s := settled(t, a); s.Killed != 2 || s.Spared != 4 || s.Denied != 6 {
		t.Errorf("%d killed, %d spared, %d denied; want 2, 4, 6", s.Killed, s.Spared, s.Denied)
	}
}

// A process whose answer came too late is not killed: its pid may be another's by then.
func TestKillTooLate(t *testing.T) {
	pid, ended := sleeper(t)
	fd := target(&abi.Request{TGID: uint32(pid)})
	if fd < 0 {
		t.Fatal("the process cannot be opened")
	}
	if kill(fd, false) {
		t.Error("it was killed")
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_GETFD, nil); err != unix.EBADF {
		t.Errorf("the pidfd is still open: %v", err)
	}
	select {
	case s := <-ended:
		t.Errorf("it ended by %v", s)
	default:
	}
}

// Of many who ask at once, one gets the decision of a rule with the lifespan once, whatever the
// caches know.
func TestOnceAmongWorkers(t *testing.T) {
	for _, entries := range []int{-1, 64} {
		a, k := start(t, 4, func(c *Config) {
			c.CacheEntries = entries
			c.Rules = mustRules(t, "version: 1\ndefault: deny\nscope: {paths: [/t]}\nrules:\n- {id: a, events: [open], object: {path: /t/a}, verdict: allow, lifespan: once}\n", 1)
		})
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 50 {
					if k.Ask(facts(abi.EventOpen, 0), "/t/a", "/bin/x").Errno == 0 {
						allowed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if n := allowed.Load(); n != 1 {
			t.Errorf("%d cache entries: %d were allowed, want 1", entries, n)
		}
		// The same rules installed anew count anew: it is another push.
		rs := mustRules(t, "version: 1\ndefault: deny\nscope: {paths: [/t]}\nrules:\n- {id: a, events: [open], verdict: allow, lifespan: once}\n", 2)
		if err := a.Install(t.Context(), rs, cache.RulesPushed); err != nil {
			t.Fatal(err)
		}
		if k.Ask(facts(abi.EventOpen, 0), "/t/b", "/bin/x").Errno != 0 || k.Ask(facts(abi.EventOpen, 0), "/t/b", "/bin/x").Errno == 0 {
			t.Error("the next set does not allow once")
		}
	}
}
