// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine are the facts that a figure is worth nothing without. A pointer is nil
// when the fact is unknown.
type Machine struct {
	CPUModel    string `json:"cpu_model"`
	CPUs        int    `json:"cpus"`        // online
	Virtualised string `json:"virtualised"` // yes, no, unknown
	Kernel      string `json:"kernel"`      // release
	Preemption  string `json:"preemption"`  // the model and how it is known, or unknown
	Arch        string `json:"arch"`
	GOMAXPROCS  int    `json:"gomaxprocs"`
	GoVersion   string `json:"go_version"`

	LoadBefore *float64 `json:"load_before"` // one-minute load average
	LoadAfter  *float64 `json:"load_after"`
	// Counted says that a nanosecond is an instruction of this machine, which is emulated, one CPU at a time.
	Counted bool `json:"counts_instructions,omitempty"`
	// StealPercent is the share of all CPUs' time over the run that the
	// hypervisor gave to others.
	StealPercent *float64 `json:"steal_percent"`
	// OthersPercent is the share of it that went to other processes and to the kernel's own
	// threads; unknown where what is measured is other processes.
	OthersPercent *float64 `json:"others_percent"`
	// The same of the run's own CPUs, on a machine with others, of whose time a hundredth may be all of these. What the
	// run's processes did elsewhere is taken for done here, so the share of others is that at the least.
	RunStealPercent  *float64 `json:"run_steal_percent,omitempty"`
	RunOthersPercent *float64 `json:"run_others_percent,omitempty"`
	ClockReadNS      int64    `json:"clock_read_ns"` // median cost of one read of the requester's clock
}

// Watch collects the facts before and after a run.
type Watch struct {
	started time.Time
	machine Machine
	stat    []byte
	own     time.Duration // CPU time
	cpus    []int         // of the run, nil where the machine has no others
}

// StartWatch reads the facts at the start of a run on these CPUs, none for any. What cannot be read is unknown.
func StartWatch(cpus ...int) *Watch {
	var uts unix.Utsname
	unix.Uname(&uts) // cannot fail with a valid pointer
	version := unix.ByteSliceToString(uts.Version[:])
	cpuinfo := read("/proc/cpuinfo")
	w := &Watch{started: time.Now(), stat: read("/proc/stat"), own: ownTime()}
	w.machine = Machine{
		CPUModel:    cpuModel(cpuinfo),
		CPUs:        cpuCount(w.stat),
		Virtualised: virtualised(cpuinfo),
		Kernel:      unix.ByteSliceToString(uts.Release[:]),
		Preemption: preemption(preemptionFacts{
			debugfs: string(read("/sys/kernel/debug/sched/preempt")),
			cmdline: string(read("/proc/cmdline")),
			version: version,
			config:  string(kernelConfig()),
		}),
		Arch:        runtime.GOARCH,
		GOMAXPROCS:  runtime.GOMAXPROCS(0),
		GoVersion:   runtime.Version(),
		LoadBefore:  loadAverage(read("/proc/loadavg")),
		ClockReadNS: clockRead(),
	}
	if w.machine.CPUs == 0 {
		w.machine.CPUs = runtime.NumCPU()
	}
	if len(cpus) < w.machine.CPUs {
		w.cpus = cpus
	}
	w.machine.Counted = w.machine.Emulated() && countsInstructions()
	return w
}

// CountedEnv is set by vmrun in a machine that counts its time in instructions.
const CountedEnv = "ARBITER_VM_COUNTS"

// countsInstructions reports whether one CPU runs at a time, by its instructions.
func countsInstructions() bool { return os.Getenv(CountedEnv) != "" }

// Stop reads the facts at the end of the run and returns all. Children that have not ended, and
// been waited for, count as others.
func (w *Watch) Stop() Machine {
	stat := read("/proc/stat")
	w.machine.LoadAfter = loadAverage(read("/proc/loadavg"))
	w.machine.StealPercent = stealPercent(w.stat, stat)
	own := ownTime() - w.own
	w.machine.OthersPercent = othersPercent(w.stat, stat, own)
	if len(w.cpus) > 0 {
		w.machine.RunStealPercent = stealPercent(w.stat, stat, w.cpus...)
		w.machine.RunOthersPercent = othersPercent(w.stat, stat, own, w.cpus...)
	}
	return w.machine
}

// ownTime returns the CPU time of this process and of its children that have ended.
func ownTime() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		unix.Getrusage(who, &r) // cannot fail with these
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum
}

// read returns a file's bytes, nil when it cannot be read: the fact is unknown then.
func read(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

// kernelConfig returns the configuration that the running kernel was built with.
func kernelConfig() []byte {
	var uts unix.Utsname
	unix.Uname(&uts)
	if z, err := gzip.NewReader(bytes.NewReader(read("/proc/config.gz"))); err == nil {
		if b, err := io.ReadAll(io.LimitReader(z, 4<<20)); err == nil {
			return b
		}
	}
	return read("/boot/config-" + unix.ByteSliceToString(uts.Release[:]))
}

// clockRead returns the median cost of the clock read that durations are made of.
func clockRead() int64 {
	h := newHistogram()
	base := time.Now()
	for range 1000 {
		begin := time.Since(base)
		for range 10 {
			_ = time.Since(base)
		}
		h.RecordValue(max(int64(time.Since(base)-begin)/11, 1)) // in range by construction
	}
	return h.ValueAtPercentile(50)
}

// write prints the facts for a terminal.
func (m *Machine) write(b *strings.Builder) {
	num := func(format string, v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprintf(format, *v)
	}
	fmt.Fprintf(b, "machine    %d CPUs, %s, %s, virtualised: %s\n", m.CPUs, m.CPUModel, m.Arch, m.Virtualised)
	if m.Emulated() {
		fmt.Fprintf(b, "emulated   %s\n", m.Times())
	}
	fmt.Fprintf(b, "kernel     %s, preemption: %s\n", m.Kernel, m.Preemption)
	if m.RunStealPercent != nil || m.RunOthersPercent != nil {
		fmt.Fprintf(b, "its CPUs   stolen %s, others %s at least\n", num("%.1f %%", m.RunStealPercent), num("%.1f %%", m.RunOthersPercent))
	}
	fmt.Fprintf(b, "load       %s before, %s after; stolen %s, others %s; GOMAXPROCS %d, %s, clock read %d ns\n",
		num("%.2f", m.LoadBefore), num("%.2f", m.LoadAfter), num("%.1f %%", m.StealPercent), num("%.1f %%", m.OthersPercent), m.GOMAXPROCS, m.GoVersion, m.ClockReadNS)
}

// Times is what is said of the times of a run on such a machine.
func (m *Machine) Times() string {
	if m.Counted {
		return "times are instructions of one CPU at a time; what can be said is how figures of this run compare with each other"
	}
	return "times mean nothing here; what can be said is how figures of this run compare with each other"
}

// Emulated reports whether the processor is made of software, so that it has no time of its own.
func (m *Machine) Emulated() bool { return strings.Contains(m.CPUModel, "QEMU TCG") }
