// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCPUInfo(t *testing.T) {
	f := func(file, model, virtual string) {
		t.Run(file, func(t *testing.T) {
			t.Helper()
			b := testdata(t, file)
			if got := cpuModel(b); got != model {
				t.Errorf("model: got %q, want %q", got, model)
			}
			if got := virtualised(b); got != virtual {
				t.Errorf("virtualised: got %q, want %q", got, virtual)
			}
		})
	}
	f("cpuinfo_guest", "Example Server CPU @ 2.40GHz", "yes")
	f("cpuinfo_metal", "Example Desktop CPU", "no")
	f("cpuinfo_arm64", unknown, unknown)
	f("empty", unknown, unknown)
}

func TestStat(t *testing.T) {
	before, after := testdata(t, "stat_before"), testdata(t, "stat_after")
	if got := cpuCount(before); got != 2 {
		t.Errorf("CPUs: got %d, want 2", got)
	}
	got := stealPercent(before, after)
	if got == nil || *got != 2.5 {
		t.Errorf("stolen: got %v, want 2.5", got)
	}
	for name, b := range map[string][]byte{"none": nil, "no steal column": []byte("cpu 1 2 3 4 5 6 7\n"), "not a number": []byte("cpu 1 2 3 4 5 6 7 x\n")} {
		if got := stealPercent(before, b); got != nil {
			t.Errorf("%s: got %v, want unknown", name, *got)
		}
	}
	if got := othersPercent(before, after, 250*time.Millisecond); got == nil || *got != 37.5 {
		t.Errorf("others: got %v, want 37.5", got)
	}
	if got := othersPercent(before, after, time.Hour); got == nil || *got != 0 {
		t.Errorf("others, of less than nothing: got %v, want 0", got)
	}
	if got := othersPercent(before, before, 0); got != nil {
		t.Errorf("others, in no time: got %v, want unknown", *got)
	}
	// Of one CPU: 200 ticks, 10 stolen, 100 idle.
	one := []byte("cpu  1 1 1 1 1 1 1 1\ncpu7 500 0 250 4000 5 0 10 50 0 0\n")
	later := []byte("cpu  9 9 9 9 9 9 9 9\ncpu7 560 0 280 4100 5 0 10 60 0 0\n")
	if got := stealPercent(one, later, 7); got == nil || *got != 5 {
		t.Errorf("stolen of a CPU: got %v, want 5", got)
	}
	if got := othersPercent(one, later, 500*time.Millisecond, 7); got == nil || *got != 20 {
		t.Errorf("others on a CPU: got %v, want 20", got)
	}
	if got := stealPercent(one, later, 7, 8); got != nil {
		t.Errorf("stolen of a CPU that is not there: got %v, want unknown", *got)
	}
	if got := stealPercent(before, before); got != nil {
		t.Errorf("no time passed: got %v, want unknown", *got)
	}
}

func TestLoadAverage(t *testing.T) {
	if got := loadAverage([]byte("1.25 0.70 0.57 2/345 6789\n")); got == nil || *got != 1.25 {
		t.Errorf("got %v, want 1.25", got)
	}
	if got := loadAverage(nil); got != nil {
		t.Errorf("got %v, want unknown", *got)
	}
}

// On a machine with more CPUs than the run has, those of the run are watched by themselves.
func TestWatchCPUs(t *testing.T) {
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	w := StartWatch(cpus[0])
	if n := w.machine.CPUs; n == 1 && w.cpus != nil || n > 1 && len(w.cpus) != 1 {
		t.Errorf("got CPUs %v of %d watched, want the run's where there are others", w.cpus, n)
	}
	w.cpus = cpus[:1]
	w.stat = []byte(fmt.Sprintf("cpu  0 0 0 0 0 0 0 0\ncpu%d 0 0 0 0 0 0 0 0\n", cpus[0]))
	m := w.Stop()
	if m.RunStealPercent == nil || m.RunOthersPercent == nil {
		t.Errorf("got %v and %v of the run's CPUs, want both", m.RunStealPercent, m.RunOthersPercent)
	}
	var b strings.Builder
	m.write(&b)
	if !strings.Contains(b.String(), "\nits CPUs   stolen ") {
		t.Errorf("got\n%s\nwant a line about the run's CPUs", b.String())
	}
}

// TestCounted: whoever says that an emulated machine counts instructions is believed, of a processor nobody is.
func TestCounted(t *testing.T) {
	t.Setenv(CountedEnv, "1")
	m := StartWatch().Stop()
	if m.Counted != m.Emulated() {
		t.Errorf("got %t on a machine that is emulated: %t, want the same", m.Counted, m.Emulated())
	}
	m.CPUModel, m.Counted, m.LoadBefore = "QEMU TCG CPU version 2.5+", true, ptr(9.0)
	var b strings.Builder
	m.write(&b)
	if want := "\nemulated   times are instructions"; !strings.Contains(b.String(), want) || len(noisy(m)) != 0 {
		t.Errorf("got\n%s%q, want %q in it and no noise", b.String(), noisy(m), want)
	}
	m.Counted = false
	if want := "the host that emulates"; !strings.Contains(strings.Join(noisy(m), "\n"), want) {
		t.Errorf("got %q, want a word of %s", noisy(m), want)
	}
}

func TestPreemption(t *testing.T) {
	f := func(name string, facts preemptionFacts, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := preemption(facts); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	const dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1 (2030-01-01)"
	f("debugfs", preemptionFacts{debugfs: "none voluntary (full) lazy \n", version: dynamic, cmdline: "preempt=none"}, "full")
	f("command line", preemptionFacts{version: dynamic, cmdline: "quiet preempt=voluntary ro\n", config: "CONFIG_PREEMPT=y\n"}, "voluntary (dynamic, from the kernel's command line)")
	f("command line with nonsense", preemptionFacts{version: dynamic, cmdline: "preempt=often"}, "unknown (dynamic; mount debugfs to see it)")
	f("configuration", preemptionFacts{version: dynamic, config: "CONFIG_PREEMPT_COUNT=y\n# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_NONE=y\n"}, "none (dynamic, from the kernel's configuration)")
	f("nothing but dynamic", preemptionFacts{version: dynamic}, "unknown (dynamic; mount debugfs to see it)")
	f("realtime", preemptionFacts{version: "#1 SMP PREEMPT_RT Debian"}, "rt")
	f("full", preemptionFacts{version: "#1 SMP PREEMPT Debian"}, "full")
	f("static voluntary", preemptionFacts{version: "#1 SMP Debian", config: "CONFIG_PREEMPT_VOLUNTARY=y\n"}, "voluntary (from the kernel's configuration)")
	f("static, no configuration", preemptionFacts{version: "#1 SMP Debian"}, "unknown (none or voluntary)")
	f("nothing", preemptionFacts{}, "unknown (none or voluntary)")
}

func TestWatch(t *testing.T) {
	m := StartWatch().Stop()
	if m.Kernel == "" || m.CPUs < 1 || m.GOMAXPROCS < 1 || m.ClockReadNS < 1 || m.Preemption == "" {
		t.Errorf("got %+v, want this machine's facts", m)
	}
	if m.LoadBefore == nil || m.LoadAfter == nil {
		t.Errorf("got load %v and %v, want both", m.LoadBefore, m.LoadAfter)
	}
}
