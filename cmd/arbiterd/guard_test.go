// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fakeGuard is a guard that ends when it is told to.
type fakeGuard struct {
	pid   int
	beats int
	done  chan struct{}
}

func (g *fakeGuard) Beat()                 { g.beats++ }
func (g *fakeGuard) PID() int              { return g.pid }
func (g *fakeGuard) Done() <-chan struct{} { return g.done }
func (g *fakeGuard) Close() error          { return nil }

func TestKeeperStartsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []*fakeGuard
		var exempt []int
		fails := 0 // of the starts to come
		k, err := newKeeper(func() (pulse, error) {
			if fails > 0 {
				fails--
				return nil, errors.New("no")
			}
			g := &fakeGuard{pid: 10 + len(made), done: make(chan struct{})}
			made = append(made, g)
			return g, nil
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		k.run(func(start func() error) error { return start() }, func(pid int) error { exempt = append(exempt, pid); return nil })

		<-time.After(guardSteady) // the bubble's clock
		fails = 2
		close(made[0].done)
		synctest.Wait()
		if len(k.problems()) != 1 {
			t.Error("without a guard: got no problem")
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if len(made) != 2 || len(exempt) != 1 || exempt[0] != made[1].pid || len(k.problems()) != 0 {
			t.Fatalf("got %d guards, exempt %v, problems %q, want 2, the second, none", len(made), exempt, k.problems())
		}
		k.beat()
		if made[0].beats != 0 || made[1].beats != 1 {
			t.Errorf("beats: got %d, %d, want 0, 1", made[0].beats, made[1].beats)
		}

		// They end at once, again and again: that has an end.
		for len(k.problems()) == 0 {
			close(made[len(made)-1].done)
			synctest.Wait()
			<-time.After(time.Minute)
			synctest.Wait()
		}
		if want := 2 + guardTries - 3; len(made) != want { // three of the tries were the second one's
			t.Errorf("got %d guards, want %d", len(made), want)
		}
		k.beat() // no crash
		for range 2 {
			if err := k.close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestGuardIsReplaced: who kills the guard does not leave the daemon without one.
func TestGuardIsReplaced(t *testing.T) {
	d := startDaemon(t, newTree(t), "--backend", "fanotify")
	first := guardOf(t, d.cmd.Process.Pid, 0)
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := guardOf(t, d.cmd.Process.Pid, first)
	t.Logf("guard %d was followed by %d", first, second)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(d.log.String(), "another guard watches"); unix.Poll(nil, 10) {
		if time.Now().After(end) {
			t.Fatalf("the log says nothing of another guard: %s", d.log.String())
		}
	}
	if ws := strings.Join(d.status().Warnings, "\n"); strings.Contains(ws, "no guard") {
		t.Errorf("warnings: got %s, want none about the guard", ws)
	}
}

// guardOf returns the guard that is a child of the daemon, not the one named.
func guardOf(t *testing.T, daemon, not int) int {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); unix.Poll(nil, 10) {
		lists, _ := filepath.Glob("/proc/" + strconv.Itoa(daemon) + "/task/*/children")
		if len(lists) == 0 {
			t.Skip("needs the lists of children in /proc (CONFIG_PROC_CHILDREN)")
		}
		for _, list := range lists {
			children, _ := os.ReadFile(list) // a thread may have ended
			for _, s := range strings.Fields(string(children)) {
				name, _ := os.ReadFile("/proc/" + s + "/cmdline")
				if pid, _ := strconv.Atoi(s); pid != not && bytes.HasPrefix(name, []byte("arbiter-guard")) {
					return pid
				}
			}
		}
	}
	t.Fatal("the daemon has no guard")
	return 0
}
