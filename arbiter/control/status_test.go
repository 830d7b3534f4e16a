// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

func TestStatus(t *testing.T) {
	f := newFixture(t, nil, nil)
	pushed := f.push(ruleFile("a", "b"))
	for _, path := range []string{"/t/a", "/t/a", "/t/c"} {
		f.ask(abi.EventExec, path)
	}
	until(t, "the engine has counted", func() bool {
		s := f.engine.Stats()
		return s.InFlight == 0 && s.Latency.Count == 3 && s.EventsRecorded == 2
	})
	got, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &controlv1.StatusServiceGetResponse{
		Version: "v1", Backend: "fanotify", BackendReason: "no BPF LSM", StartedAt: timestamppb.New(time.Unix(1_800_000_000, 0)),
		Epoch: 1, Fingerprint: pushed.GetFingerprint(), RuleCount: 2, Scope: &controlv1.Scope{Paths: [][]byte{[]byte("/t")}},
		Counters: &controlv1.Counters{Requests: 3, Hits: 1, Decided: 2, Allowed: 1, Denied: 2, EventsRecorded: 2,
			Failed: map[string]uint64{}, CacheFlushes: map[string]uint64{}},
		KernelCounters: map[string]uint64{"posted": 7}, Warnings: []string{"careful"}, Pid: uint32(os.Getpid()),
		Workers: []*controlv1.WorkerState{{Cpu: -1, Requests: 3, Epoch: 1}},
		Store:   &controlv1.StoreState{Directory: f.store.Dir(), Kept: 1},
	}
	// Every reason is there, also those that did not happen.
	for r := abi.ReasonNone + 1; r < abi.ReasonCount; r++ {
		want.Counters.Failed[r.String()] = 0
	}
	for r := range cache.ReasonCount {
		want.Counters.CacheFlushes[r.String()] = f.engine.Stats().CacheFlushes[r]
	}
	if n := want.Counters.CacheFlushes["rules_pushed"]; n != 1 {
		t.Errorf("%d flushes because of a push, want 1", n)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "uptime", "resident_memory", "latency"),
		protocmp.IgnoreFields(&controlv1.WorkerState{}, "parked")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	// The fixed start may be in the future, then the uptime is below 0.
	if d := time.Since(got.GetStartedAt().AsTime()) - got.GetUptime().AsDuration(); d < 0 || d > testTimeout {
		t.Errorf("uptime %v, started at %v", got.GetUptime().AsDuration(), got.GetStartedAt().AsTime())
	}
	if m := got.GetResidentMemory(); m < 1<<20 || m > 1<<40 {
		t.Errorf("resident memory of %d bytes", m)
	}
	l := got.GetLatency()
	last := time.Duration(1)
	for _, d := range []time.Duration{l.GetP50().AsDuration(), l.GetP90().AsDuration(), l.GetP99().AsDuration(),
		l.GetP999().AsDuration(), l.GetMax().AsDuration()} {
		if d < last {
			t.Errorf("latency %v: the figures do not rise from above 0", l)
		}
		last = d
	}
	if l.GetCount() != 3 {
		t.Errorf("latency of %d requests, want 3", l.GetCount())
	}
}

// TestCounters wants every number in its place.
func TestCounters(t *testing.T) {
	s := distinctStats()
	want := &controlv1.Counters{Requests: 1001, InFlight: 1002, Hits: 1003, Decided: 1004, Allowed: 1500, Denied: 1006, Audited: 400,
		Late: 1008, EventsRecorded: 1010, EventsDropped: 1011, Failed: map[string]uint64{}, CacheFlushes: map[string]uint64{}}
	for r := abi.ReasonNone + 1; r < abi.ReasonCount; r++ {
		want.Failed[r.String()] = 2000 + uint64(r)
	}
	for r := range cache.ReasonCount {
		want.CacheFlushes[r.String()] = 3000 + uint64(r)
	}
	if diff := cmp.Diff(want, countersMessage(&s), protocmp.Transform()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	wantLatency := &controlv1.Latency{Count: 1012, P50: durationpb.New(time.Second), P90: durationpb.New(2 * time.Second),
		P99: durationpb.New(3 * time.Second), P999: durationpb.New(4 * time.Second), Max: durationpb.New(5 * time.Second)}
	if diff := cmp.Diff(wantLatency, latencyMessage(s.Latency), protocmp.Transform()); diff != "" {
		t.Errorf("latency (-want +got):\n%s", diff)
	}
}

// TestStatusWithoutRules: the daemon was given none, and what others wrote is
// made fit for the wire.
func TestStatusWithoutRules(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *RulesConfig) {
		c.Info = func() Info { return Info{Backend: "bpf-lsm", BackendReason: "\xff", Warnings: []string{"bad \xfe"}} }
	}, nil)
	got, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetEpoch() != 0 || got.GetStore().GetKept() != 0 || got.GetBackend() != "bpf-lsm" {
		t.Errorf("epoch %d, %d kept, backend %s; want 0, 0, bpf-lsm", got.GetEpoch(), got.GetStore().GetKept(), got.GetBackend())
	}
	if got.GetBackendReason() != "\ufffd" || got.GetWarnings()[0] != "bad \ufffd" {
		t.Errorf("reason %q, warnings %q; want replacement characters", got.GetBackendReason(), got.GetWarnings())
	}
}

// TestStatusTellsOfDamage: what the store found broken is a warning.
func TestStatusTellsOfDamage(t *testing.T) {
	f := newFixture(t, func(_ *Config, rc *RulesConfig) {
		dir := rc.Store.Dir()
		if err := rc.Store.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/00000000000000000004.rules", []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		rc.Store = openStore(t, dir)
	}, nil)
	got, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	incidents := got.GetStore().GetIncidents()
	if len(incidents) != 1 || incidents[0].GetMovedTo() == "" || incidents[0].GetProblem() == "" {
		t.Fatalf("incidents %v, want one that says what and where to", incidents)
	}
	warning := "rule store: " + incidents[0].GetFile() + ": " + incidents[0].GetProblem()
	if w := got.GetWarnings(); len(w) != 2 || w[1] != warning {
		t.Errorf("warnings %q, want %q last", w, warning)
	}
}
