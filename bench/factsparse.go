// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const unknown = "unknown"

// cpuModel returns the first model name of a /proc/cpuinfo.
func cpuModel(cpuinfo []byte) string {
	for _, key := range []string{"model name", "Model", "cpu model"} {
		if v, ok := cpuinfoValue(cpuinfo, key); ok && v != "" {
			return v
		}
	}
	return unknown
}

// virtualised says whether the processor shows the hypervisor bit (cpuid leaf 1),
// which only x86 has.
func virtualised(cpuinfo []byte) string {
	flags, ok := cpuinfoValue(cpuinfo, "flags")
	if !ok {
		return unknown
	}
	if slices.Contains(strings.Fields(flags), "hypervisor") {
		return "yes"
	}
	return "no"
}

func cpuinfoValue(cpuinfo []byte, key string) (string, bool) {
	for line := range bytes.Lines(cpuinfo) {
		k, v, ok := strings.Cut(string(line), ":")
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// cpuCount returns the number of online CPUs in a /proc/stat, 0 when it cannot be told.
func cpuCount(stat []byte) int {
	n := 0
	for line := range bytes.Lines(stat) {
		if len(line) > 3 && bytes.HasPrefix(line, []byte("cpu")) && line[3] >= '0' && line[3] <= '9' {
			n++
		}
	}
	return n
}

// loadAverage returns the one-minute load average of a /proc/loadavg.
func loadAverage(b []byte) *float64 {
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return nil
	}
	return &v
}

// Places of times in a line of proc_stat(5), and the tick that they are counted in: USER_HZ is 100
// on every architecture that Go has Linux for.
const (
	idleTime  = 3 // user nice system idle iowait irq softirq steal
	waitTime  = 4
	stealTime = 7
	tick      = time.Second / 100
)

// stealPercent returns the stolen share of the time between two readings of
// /proc/stat, of some CPUs or of all for none, nil when it cannot be told.
func stealPercent(before, after []byte, cpus ...int) *float64 {
	times, total := timesBetween(before, after, cpus)
	if total <= 0 {
		return nil
	}
	v := max(100*times[stealTime]/total, 0)
	return &v
}

// othersPercent returns the share of the time between two readings of /proc/stat in which CPUs
// were busy, less own, the CPU time of those who are not others; of some CPUs, all of own taken for spent there, or of all
// for none. Nil when it cannot be told.
func othersPercent(before, after []byte, own time.Duration, cpus ...int) *float64 {
	times, total := timesBetween(before, after, cpus)
	if total <= 0 {
		return nil
	}
	busy := total - times[idleTime] - times[waitTime] - times[stealTime]
	v := max(100*(busy-float64(own)/float64(tick))/total, 0)
	return &v
}

// timesBetween returns what has passed of each time, and of all; 0 when it cannot be told.
func timesBetween(before, after []byte, cpus []int) (times [8]float64, total float64) {
	names := []string{"cpu"}
	if len(cpus) > 0 {
		names = nil
		for _, n := range cpus {
			names = append(names, "cpu"+strconv.Itoa(n))
		}
	}
	for _, name := range names {
		b, ok1 := cpuTimes(before, name)
		a, ok2 := cpuTimes(after, name)
		if !ok1 || !ok2 {
			return times, 0
		}
		for i := range a {
			times[i] += a[i] - b[i]
			total += a[i] - b[i]
		}
	}
	return times, total
}

// cpuTimes returns the first eight times of a line, "cpu" for the sum of all: guest time, behind them,
// is in user time already.
func cpuTimes(stat []byte, name string) (times [8]float64, ok bool) {
	for line := range bytes.Lines(stat) {
		f := strings.Fields(string(line))
		if len(f) < 1+len(times) || f[0] != name {
			continue
		}
		for i := range times {
			v, err := strconv.ParseFloat(f[1+i], 64)
			if err != nil {
				return times, false
			}
			times[i] = v
		}
		return times, true
	}
	return times, false
}

// preemptionFacts are where the preemption model can be read; empty when it cannot.
type preemptionFacts struct {
	debugfs string // /sys/kernel/debug/sched/preempt
	cmdline string // /proc/cmdline
	version string // uname -v
	config  string // the kernel's build configuration
}

var (
	chosenWord = regexp.MustCompile(`\((\w+)\)`)
	modelWord  = regexp.MustCompile(`^(none|voluntary|full|lazy)$`)
)

// preemption returns the preemption model in force and how it is known. A kernel
// with PREEMPT_DYNAMIC can change it at run time and shows it in debugfs only, so
// the other sources say what it was at boot.
func preemption(f preemptionFacts) string {
	if m := chosenWord.FindStringSubmatch(f.debugfs); m != nil {
		return m[1]
	}
	words := strings.FieldsFunc(f.version, func(r rune) bool { return r == ' ' || r == '_' })
	dynamic := strings.Contains(f.version, "PREEMPT_DYNAMIC")
	switch {
	case strings.Contains(f.version, "PREEMPT_RT"):
		return "rt"
	case !dynamic && strings.Contains(f.version, "PREEMPT_LAZY"):
		return "lazy"
	case !dynamic && slices.Contains(words, "PREEMPT"):
		return "full"
	}
	if dynamic {
		for _, w := range strings.Fields(f.cmdline) {
			if v, ok := strings.CutPrefix(w, "preempt="); ok && modelWord.MatchString(v) {
				return v + " (dynamic, from the kernel's command line)"
			}
		}
	}
	built := builtModel(f.config)
	switch {
	case built == "" && dynamic:
		return "unknown (dynamic; mount debugfs to see it)"
	case built == "":
		return "unknown (none or voluntary)"
	case dynamic:
		return built + " (dynamic, from the kernel's configuration)"
	}
	return built + " (from the kernel's configuration)"
}

func builtModel(config string) string {
	for _, m := range []struct{ option, model string }{
		{"CONFIG_PREEMPT_NONE=y", "none"}, {"CONFIG_PREEMPT_VOLUNTARY=y", "voluntary"},
		{"CONFIG_PREEMPT=y", "full"}, {"CONFIG_PREEMPT_LAZY=y", "lazy"},
	} {
		if slices.Contains(strings.Split(config, "\n"), m.option) {
			return m.model
		}
	}
	return ""
}
