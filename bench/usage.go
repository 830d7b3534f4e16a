// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ProcessUsage is what a process used while it was watched.
type ProcessUsage struct {
	RSSBytes     uint64        `json:"rss_bytes"`      // resident at the end
	PeakRSSBytes uint64        `json:"peak_rss_bytes"` // most since its start
	CPU          time.Duration `json:"cpu_ns"`         // used in the window, all threads
	Window       time.Duration `json:"window_ns"`
	// Exact is true when CPU comes from the scheduler, in nanoseconds; else it
	// comes in clock ticks of 10 ms, so that 10 s resolve 0.1 % of a core.
	Exact bool `json:"cpu_exact"`
}

// CPUPercent returns the share of one core that was used, in per cent.
func (u ProcessUsage) CPUPercent() float64 {
	if u.Window <= 0 {
		return 0
	}
	return 100 * float64(u.CPU) / float64(u.Window)
}

// WatchProcess watches a process for the window. The error wraps fs.ErrNotExist
// when the process is not there or ends meanwhile, and is ctx's when that ends.
func WatchProcess(ctx context.Context, pid int, window time.Duration) (ProcessUsage, error) {
	before, err := readCPU(pid)
	if err != nil {
		return ProcessUsage{}, fmt.Errorf("watching process %d: %w", pid, err)
	}
	begin := time.Now()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ProcessUsage{}, fmt.Errorf("watching process %d: %w", pid, context.Cause(ctx))
	}
	after, err := readCPU(pid)
	took := time.Since(begin)
	if err != nil {
		return ProcessUsage{}, fmt.Errorf("watching process %d: %w", pid, err)
	}
	if after.start != before.start {
		return ProcessUsage{}, fmt.Errorf("watching process %d: another process has its number now: %w", pid, os.ErrNotExist)
	}
	u := ProcessUsage{Window: took}
	u.CPU, u.Exact = usedCPU(before, after)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ProcessUsage{}, fmt.Errorf("watching process %d: %w", pid, err)
	}
	if u.RSSBytes, u.PeakRSSBytes, err = parseRSS(status); err != nil {
		return ProcessUsage{}, fmt.Errorf("watching process %d: %w", pid, err)
	}
	return u, nil
}

// cpuReading is the CPU time of a process at one moment.
type cpuReading struct {
	start   uint64            // its start time: tells it from a later process with its number
	ticks   uint64            // utime + stime
	threads map[string]uint64 // by id: nanoseconds on a CPU; nil when the kernel does not say
}

func readCPU(pid int) (cpuReading, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return cpuReading{}, err
	}
	r, err := parseProcessStat(stat)
	if err != nil {
		return cpuReading{}, err
	}
	files, err := filepath.Glob(dir + "/task/*/schedstat")
	if err != nil || len(files) == 0 {
		return r, nil
	}
	r.threads = map[string]uint64{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended; usedCPU notices
		}
		first, _, _ := strings.Cut(string(b), " ")
		if ns, err := strconv.ParseUint(first, 10, 64); err == nil {
			r.threads[f] = ns
		}
	}
	return r, nil
}

// clockTick is 1/USER_HZ, the unit of proc_pid_stat(5), on every architecture that
// Go runs on.
const clockTick = 10 * time.Millisecond

// usedCPU returns the CPU time between two readings, from the scheduler if no thread
// ended meanwhile and took its account with it.
func usedCPU(before, after cpuReading) (time.Duration, bool) {
	exact := len(before.threads) > 0
	var ns uint64
	for id, n := range after.threads {
		ns += n - before.threads[id] // 0 before it was there
	}
	for id := range before.threads {
		if _, there := after.threads[id]; !there {
			exact = false
		}
	}
	if exact {
		return time.Duration(ns), true
	}
	return time.Duration(after.ticks-before.ticks) * clockTick, false
}

// parseProcessStat reads start time and CPU ticks from a /proc/PID/stat. The command's
// name in it, in parentheses, may hold anything.
func parseProcessStat(b []byte) (cpuReading, error) {
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const utime, stime, start = 11, 12, 19 // fields 14, 15 and 22, the first here is 3
	if len(f) <= start {
		return cpuReading{}, fmt.Errorf("reading the process's stat: %d fields, want more than %d", len(f), start)
	}
	var v [3]uint64
	for i, at := range []int{utime, stime, start} {
		n, err := strconv.ParseUint(f[at], 10, 64)
		if err != nil {
			return cpuReading{}, fmt.Errorf("reading the process's stat: field %d: %w", at+3, err)
		}
		v[i] = n
	}
	return cpuReading{ticks: v[0] + v[1], start: v[2]}, nil
}

// parseRSS reads resident memory from a /proc/PID/status.
func parseRSS(status []byte) (now, peak uint64, err error) {
	for _, want := range []struct {
		key string
		to  *uint64
	}{{"VmRSS", &now}, {"VmHWM", &peak}} {
		text, ok := cpuinfoValue(status, want.key)
		kib, err := strconv.ParseUint(strings.TrimSuffix(text, " kB"), 10, 64)
		if !ok || err != nil {
			return 0, 0, fmt.Errorf("reading the process's status: %s is %q, want a number of kB", want.key, text)
		}
		*want.to = kib << 10
	}
	return now, peak, nil
}
