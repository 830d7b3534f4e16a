// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// TestStatusOfWorkers wants no epoch in the table that the next verdict would not be
// given by.
func TestStatusOfWorkers(t *testing.T) {
	text := statusText(&controlv1.StatusServiceGetResponse{Epoch: 4,
		Counters: &controlv1.Counters{CacheFlushes: map[string]uint64{"rules_pushed": 2, "start": 0}},
		Workers: []*controlv1.WorkerState{
			{Index: 0, Cpu: 1, Parked: true, Epoch: 0},
			{Index: 1, Cpu: 2, Parked: true, Epoch: 4},
			{Index: 2, Cpu: -1, Epoch: 3}}})
	for _, want := range []string{
		`^0 +1 +parked +0 +4 \(when it wakes\)$`, `^1 +2 +parked +0 +4$`, `^2 +any +polling +0 +3$`,
		`^cache flushes +rules_pushed 2$`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("no line %s in\n%s", want, text)
		}
	}
	if text := statusText(&controlv1.StatusServiceGetResponse{}); !regexp.MustCompile(`(?m)^cache flushes +none$`).MatchString(text) {
		t.Errorf("no flushes are told as\n%s", text)
	}
}

// TestMutesText: each default mute with whether it holds, and why not.
func TestMutesText(t *testing.T) {
	s := &controlv1.StatusServiceGetResponse{Backend: "bpf-lsm", DefaultMutes: []*controlv1.DefaultMute{
		{Name: "init", What: "pid 1", InForce: true},
		{Name: "dbus", What: "the bus: /x", Why: "no cgroup /x\x1b"}}}
	text := mutesText(s) + statusText(s)
	for _, want := range []string{`^MUTE +HOLDS +WHAT$`, `^init +yes +pid 1$`, `^dbus +no +the bus: /x \(no cgroup /x\\x1b\)$`, `^the rules leave nothing else alone$`,
		`^default mutes +init; not dbus \(arbiterctl mutes says why\)$`} {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("no line %s in\n%s", want, text)
		}
	}
	s.DefaultMutes = s.DefaultMutes[1:]
	if text := statusText(s); !regexp.MustCompile(`(?m)^default mutes +none; not dbus`).MatchString(text) {
		t.Errorf("none in force is told as\n%s", text)
	}
}

func TestVersionNamesTheCommitOnce(t *testing.T) {
	const commit = "e2a8ab3f5554ebfa05af30dbcf68cdee8b073455"
	for _, tt := range []struct {
		name string
		b    build
		want int
	}{
		{"release", build{Version: "v0.1.0", Revision: commit}, 1},
		{"between releases", build{Version: "v0.0.0-20261125103532-e2a8ab3f5554", Revision: commit}, 1},
		{"changed since", build{Version: "v0.0.0-20261125103532-e2a8ab3f5554+dirty", Revision: commit + "-dirty"}, 1},
		{"no commit known", build{Version: "devel"}, 0},
	} {
		if got := strings.Count(tt.b.text(), commit[:12]); got != tt.want {
			t.Errorf("%s: %q names the commit %d times, want %d", tt.name, tt.b.text(), got, tt.want)
		}
	}
}
