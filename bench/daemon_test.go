// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestWatchProcess(t *testing.T) {
	cmd := exec.Command(os.Args[0], "idle")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u, err := WatchProcess(t.Context(), cmd.Process.Pid, 200*time.Millisecond)
	in.Close()
	if werr := cmd.Wait(); werr != nil {
		t.Errorf("the child: %v", werr)
	}
	if err != nil {
		t.Fatal(err)
	}
	if u.RSSBytes < 1<<20 || u.PeakRSSBytes < u.RSSBytes || u.Window < 200*time.Millisecond {
		t.Errorf("got %+v, want resident memory, its peak, and a window of 200 ms", u)
	}
	if u.CPU < 0 || u.CPU > u.Window {
		t.Errorf("got %v of CPU in %v, want less of an idle process", u.CPU, u.Window)
	}
	if _, err := WatchProcess(t.Context(), cmd.Process.Pid, time.Millisecond); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that has ended: got %v, want ErrNotExist", err)
	}
}

func TestWatchProcessBusy(t *testing.T) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			if n%1000 == 0 {
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}()
	u, err := WatchProcess(t.Context(), os.Getpid(), 300*time.Millisecond)
	close(stop)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if p := u.CPUPercent(); p < 2 { // a busy machine gives little, but not nothing
		t.Errorf("got %.1f %% of a core for a busy loop, want more", p)
	}
}

func TestProcessStat(t *testing.T) {
	got, err := parseProcessStat(testdata(t, "process_stat"))
	if err != nil {
		t.Fatal(err)
	}
	if got.ticks != 123+45 || got.start != 98765 {
		t.Errorf("got %d ticks, start %d, want 168 and 98765", got.ticks, got.start)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", strings.Replace(string(testdata(t, "process_stat")), "123", "x", 1)} {
		if _, err := parseProcessStat([]byte(bad)); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
	}
}

func TestRSS(t *testing.T) {
	now, peak, err := parseRSS([]byte("Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n"))
	if err != nil || now != 10<<20 || peak != 20<<20 {
		t.Errorf("got %d %d %v, want 10 and 20 MiB", now, peak, err)
	}
	if _, _, err := parseRSS([]byte("Name:\tkthreadd\n")); err == nil {
		t.Error("a kernel thread: got no error, want one")
	}
}

func TestUsedCPU(t *testing.T) {
	f := func(name string, before, after cpuReading, want time.Duration, exact bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got, ok := usedCPU(before, after); got != want || ok != exact {
				t.Errorf("got %v %v, want %v %v", got, ok, want, exact)
			}
		})
	}
	type threads = map[string]uint64
	f("exact", cpuReading{threads: threads{"1": 100}}, cpuReading{threads: threads{"1": 150}, ticks: 9}, 50, true)
	f("a new thread", cpuReading{threads: threads{"1": 100}}, cpuReading{threads: threads{"1": 150, "2": 7}}, 57, true)
	f("a thread that ended", cpuReading{threads: threads{"1": 100, "2": 1}, ticks: 5}, cpuReading{threads: threads{"1": 150}, ticks: 8}, 30*time.Millisecond, false)
	f("ticks alone", cpuReading{ticks: 5}, cpuReading{ticks: 6}, 10*time.Millisecond, false)
}

func testDaemon(t *testing.T, word string) DaemonOptions {
	t.Setenv(childEnv, "1")
	return DaemonOptions{Path: os.Args[0], Args: []string{word}, Settle: -1, Window: 50 * time.Millisecond}
}

func TestMeasureDaemon(t *testing.T) {
	o := testDaemon(t, "daemon")
	asked := 0
	o.Ready = func(context.Context) error { asked++; return nil }
	r, err := MeasureDaemon(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if asked != 1 || r.Usage.RSSBytes == 0 || r.RSSBar != Met || r.IdleBar == "" || r.SchemaVersion != SchemaVersion {
		t.Errorf("got %+v after %d calls of Ready, want figures and bars after one", r, asked)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"≤ 64 MiB bar: met", "≤ 0.2 % bar: "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got %q, want %q in it", b.String(), want)
		}
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("got children %v left, want none", left)
	}
}

func TestMeasureDaemonFaults(t *testing.T) {
	f := func(name, word string, change func(*DaemonOptions), want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := testDaemon(t, word)
			change(&o)
			r, err := MeasureDaemon(t.Context(), o)
			if r != nil || err == nil {
				t.Fatalf("got %v, %v, want an error", r, err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want %q in it", err, w)
				}
			}
		})
	}
	f("no such program", "", func(o *DaemonOptions) { o.Path = "/nowhere/daemon" }, "starting the daemon", "no such file")
	f("ends before it is ready", "fails", func(o *DaemonOptions) {
		o.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	}, "waiting for the daemon", "exit status 7", "last words")
	f("ends in the window", "fails", func(o *DaemonOptions) { o.Window = 20 * time.Second }, "exit status 7", "last words")
	f("not ready", "daemon", func(o *DaemonOptions) {
		o.Ready = func(context.Context) error { return errors.New("it refuses the rules") }
	}, "waiting for the daemon: it refuses the rules")
}
