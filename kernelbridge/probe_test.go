// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	yes := func(name string) Feature { return Feature{Name: name, Outcome: Yes, Detail: name + " work"} }
	no := func(name string) Feature {
		return Feature{Name: name, Outcome: No, Detail: name + " fail", Hint: "do X"}
	}
	list := func(o Outcome) Feature {
		return Feature{Name: featureLSMList, Outcome: o, Detail: "lockdown", Hint: "add bpf"}
	}
	for _, tc := range []struct {
		name, want string
		found      []Feature
		backend    string
		says       string // in why or the error
	}{
		{"the best", "auto", []Feature{list(Yes), yes(FeatureLSM), yes(FeatureFanotify)}, BackendLSM, "BPF LSM works here"},
		{"the second", "auto", []Feature{list(Yes), no(FeatureLSM), yes(FeatureFanotify)}, BackendFanotify, "no BPF LSM here: BPF LSM programs fail"},
		{"bpf is not active", "auto", []Feature{list(No), yes(FeatureLSM), yes(FeatureFanotify)}, BackendFanotify, "not among the active LSMs"},
		{"one CPU", "auto", []Feature{no(FeatureCPUs), yes(FeatureLSM), yes(FeatureFanotify)}, BackendFanotify, "only one CPU"},
		{"list cannot be read", "auto", []Feature{list(CannotTell), yes(FeatureLSM), no(FeatureFanotify)}, BackendLSM, "BPF LSM works here"},
		{"none", "auto", []Feature{no(FeatureLSM), no(FeatureFanotify)}, "", "do X"},
		{"asked for, missing", "bpf-lsm", []Feature{no(FeatureLSM), yes(FeatureFanotify)}, "", "do X; or set backend: auto"},
		{"asked for, there", "fanotify", []Feature{yes(FeatureLSM), yes(FeatureFanotify)}, BackendFanotify, "asks for it"},
		{"unknown", "ptrace", nil, "", "write auto, bpf-lsm or fanotify"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			backend, why, err := Choose(tc.want, tc.found)
			if err != nil {
				why = err.Error()
			}
			if backend != tc.backend || !strings.Contains(why, tc.says) {
				t.Errorf("Choose(%q) = %q, %q; want %q and %q in it", tc.want, backend, why, tc.backend, tc.says)
			}
		})
	}
}

// Every No says what to do, and in the guest the probes must agree with what the
// kernel of that series is known to have.
func TestProbe(t *testing.T) {
	found := map[string]Feature{}
	for _, f := range Probe() {
		t.Logf("%-40s %-12s %s [%s]", f.Name, f.Outcome, f.Detail, f.Hint)
		if f.Outcome == No && f.Hint == "" {
			t.Errorf("%s: no, and no hint", f.Name)
		}
		found[f.Name] = f
	}
	series := os.Getenv("ARBITER_VM")
	if series == "" {
		return
	}
	wantSleep := Yes
	if strings.HasPrefix(series, "6.1.") || series == "6.1" {
		wantSleep = No
	}
	for name, want := range map[string]Outcome{FeatureLSM: Yes, featureLSMList: Yes, FeatureCPUs: Yes, FeatureFanotify: Yes,
		"BTF of the kernel": Yes, "privilege": Yes, "a task that waits sleeps": wantSleep} {
		if got := found[name].Outcome; got != want {
			t.Errorf("%s on %s: %s, want %s", name, series, got, want)
		}
	}
}
