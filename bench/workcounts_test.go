// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"strings"
	"testing"
)

func TestReadCounts(t *testing.T) {
	f := func(name, text string, want workCounts, fault string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got, err := readCounts(strings.NewReader(text))
			if fault == "" && (err != nil || got != want) || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
				t.Errorf("got %+v, %v, want %+v %q", got, err, want, fault)
			}
		})
	}
	const workers = `# HELP arbiter_failed_total failure verdicts
arbiter_failed_total{reason="deadline"} 2
arbiter_failed_total{reason="no_digest"} 1
arbiter_requests_total 999
`
	f("of BPF LSM", workers+`arbiter_kernel_side{counter="open.answered"} 30
arbiter_kernel_side{counter="exec.answered"} 1e+01
arbiter_kernel_side{counter="open.asked"} 75
arbiter_kernel_side{counter="open.cached"} 20
arbiter_kernel_side{counter="exec.decided"} 5
arbiter_kernel_side{counter="open.failed.no_worker"} 4
arbiter_kernel_side{counter="gate.refused"} 8
`, workCounts{answered: 37, kept: 25, failed: 7, execs: 15}, "")
	f("of fanotify", workers+`arbiter_kernel_side{counter="answered"} 30
arbiter_kernel_side{counter="events"} 60
arbiter_kernel_side{counter="failed.deadline"} 4
arbiter_kernel_side{counter="marks.mounts"} 3
`, workCounts{answered: 27, failed: 7}, "")
	f("of another version", workers, workCounts{}, "this version")
	f("no number", `arbiter_kernel_side{counter="answered"} 1e+e`, workCounts{}, "invalid syntax")
}

func TestWorkCounts(t *testing.T) {
	got := workCounts{30, 20, 4, 16}.less(workCounts{10, 0, 2, 8}).over(2)
	if want := (workCounts{10, 10, 1, 4}); got != want || got.asked() != 21 {
		t.Errorf("got %+v, %v asked, want %+v, 21 asked", got, got.asked(), want)
	}
}
