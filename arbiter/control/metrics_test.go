// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// metric returns the value of the one series with a name and labels, of a scrape.
func metric(t *testing.T, collectors []prometheus.Collector, name string, labels map[string]string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			t.Fatalf("registering a collector: %v", err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatalf("gathering: %v", err)
	}
	var found []float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			fit := 0
			for _, pair := range m.GetLabel() {
				if v, ok := labels[pair.GetName()]; ok && v == pair.GetValue() {
					fit++
				}
			}
			if fit == len(labels) {
				// Of these four one is there.
				found = append(found, m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue()+float64(m.GetHistogram().GetSampleCount()))
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d series %s with %v, want 1", len(found), name, labels)
	}
	return found[0]
}

func TestMetricsOfCalls(t *testing.T) {
	f := newFixture(t, nil, nil)
	for range 3 {
		if err := f.getStatus(); err != nil {
			t.Fatal(err)
		}
	}
	f.push(ruleFile("a"))
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte("version: 2\n")})
	wantStatus(t, err, codes.InvalidArgument)
	of := func(service, method string) map[string]string {
		return map[string]string{"grpc_service": "arbiter.control.v1." + service, "grpc_method": method}
	}
	withCode := func(labels map[string]string, code string) map[string]string {
		labels["grpc_code"] = code
		return labels
	}
	for _, tt := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"grpc_server_started_total", of("StatusService", "Get"), 3},
		{"grpc_server_handled_total", withCode(of("StatusService", "Get"), "OK"), 3},
		{"grpc_server_handled_total", withCode(of("RulesService", "Push"), "OK"), 1},
		{"grpc_server_handled_total", withCode(of("RulesService", "Push"), "InvalidArgument"), 1},
		{"grpc_server_handled_total", withCode(of("RulesService", "Push"), "PermissionDenied"), 0},
		{"grpc_server_handled_total", withCode(of("EventsService", "Watch"), "OK"), 0}, // there before the first call
		{"grpc_server_handling_seconds", of("RulesService", "Push"), 2},
	} {
		if got := metric(t, f.server.Collectors(), tt.name, tt.labels); got != tt.want {
			t.Errorf("%s%v: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

// engineStub has the numbers of the test.
type engineStub struct {
	stats arbiter.Stats
	rules *rules.RuleSet
}

func (e engineStub) Stats() arbiter.Stats  { return e.stats }
func (e engineStub) Rules() *rules.RuleSet { return e.rules }
func (engineStub) Subscribe(int, arbiter.SubscribeOptions) *arbiter.Subscription {
	panic("BUG: nobody subscribes here")
}

// distinctStats has another number in every place.
func distinctStats() arbiter.Stats {
	s := arbiter.Stats{Requests: 1001, InFlight: 1002, Hits: 1003, Decided: 1004, Allowed: 1500, Denied: 1006, Audited: 400, Late: 1008,
		CacheSkipped: 1009, EventsRecorded: 1010, EventsDropped: 1011,
		Latency: arbiter.Latency{Count: 1012, P50: 1 * time.Second, P90: 2 * time.Second, P99: 3 * time.Second, P999: 4 * time.Second, Max: 5 * time.Second},
		Workers: []arbiter.WorkerStats{{CPU: 3, Requests: 1013, Epoch: 6}, {CPU: -1, Parked: true, Requests: 1014, Epoch: 7}}}
	for i := range s.Failed {
		s.Failed[i] = 2000 + uint64(i)
	}
	for i := range s.CacheFlushes {
		s.CacheFlushes[i] = 3000 + uint64(i)
	}
	return s
}

func TestMetricsOfTheEngine(t *testing.T) {
	type labels = map[string]string
	type series struct {
		name   string
		labels labels
		want   float64
	}
	all := []series{
		{"requests_total", nil, 1001},
		{"in_flight", nil, 1002},
		{"cache_hits_total", nil, 1003},
		{"decided_total", nil, 1004},
		{"verdicts_total", labels{"verdict": "allow"}, 1100}, // the audited left out
		{"verdicts_total", labels{"verdict": "deny"}, 1006},
		{"verdicts_total", labels{"verdict": "audit"}, 400},
		{"late_total", nil, 1008},
		{"cache_skipped_total", nil, 1009},
		{"events_recorded_total", nil, 1010},
		{"events_dropped_total", nil, 1011},
		{"latency_seconds", labels{"quantile": "0.5"}, 1},
		{"latency_seconds", labels{"quantile": "0.9"}, 2},
		{"latency_seconds", labels{"quantile": "0.99"}, 3},
		{"latency_seconds", labels{"quantile": "0.999"}, 4},
		{"latency_seconds", labels{"quantile": "1"}, 5},
		{"worker_requests_total", labels{"worker": "0"}, 1013},
		{"worker_requests_total", labels{"worker": "1"}, 1014},
		{"worker_parked", labels{"worker": "0"}, 0},
		{"worker_parked", labels{"worker": "1"}, 1},
		{"rules_epoch", nil, 9},
		{"rules", nil, 2},
	}
	for r := abi.ReasonNone + 1; r < abi.ReasonCount; r++ {
		all = append(all, series{"failed_total", labels{"reason": r.String()}, 2000 + float64(r)})
	}
	for r := range cache.ReasonCount {
		all = append(all, series{"cache_flushes_total", labels{"reason": r.String()}, 3000 + float64(r)})
	}
	collectors := []prometheus.Collector{Collector(engineStub{distinctStats(), ruleSet(t, ruleFile("a", "b"), 9)})}
	for _, tt := range all {
		if got := metric(t, collectors, "arbiter_"+tt.name, tt.labels); got != tt.want {
			t.Errorf("arbiter_%s%v: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

func TestMetricsOfTheKernelSide(t *testing.T) {
	info := func() Info {
		return Info{KernelCounters: map[string]uint64{"open.asked": 7, "open.failed.deadline": 2}}
	}
	for name, want := range info().KernelCounters {
		got := metric(t, []prometheus.Collector{kernelCollector{info}}, "arbiter_kernel_side", map[string]string{"counter": name})
		if got != float64(want) {
			t.Errorf("arbiter_kernel_side of %s: got %v, want %d", name, got, want)
		}
	}
}

// TestMetricsAreRegistered: those of the engine and the watchers are among what
// the daemon registers, from the start.
func TestMetricsAreRegistered(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.ask(abi.EventExec, "/t/a")
	until(t, "the request is counted", func() bool { return metric(t, f.server.Collectors(), "arbiter_requests_total", nil) == 1 })
	for _, name := range []string{"arbiter_watchers", "arbiter_watch_dropped_total", "arbiter_rules_epoch"} {
		if got := metric(t, f.server.Collectors(), name, nil); got != 0 {
			t.Errorf("%s: got %v, want 0", name, got)
		}
	}
}
