// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// metric returns the value of the one series with a name and labels, of a scrape.
func metric(t *testing.T, f *fixture, name string, labels map[string]string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range f.server.Collectors() {
		if err := r.Register(c); err != nil {
			t.Fatalf("registering a collector: %v", err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatalf("gathering: %v", err)
	}
	series, value := 0, 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			matching := 0
			for _, pair := range m.GetLabel() {
				if v, ok := labels[pair.GetName()]; ok && v == pair.GetValue() {
					matching++
				}
			}
			if matching == len(labels) {
				series++
				// Of these three one is there.
				value = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	if series != 1 {
		t.Fatalf("%d series %s with %v, want 1", series, name, labels)
	}
	return value
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
		if got := metric(t, f, tt.name, tt.labels); got != tt.want {
			t.Errorf("%s%v: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

func TestMetricsOfTheEngine(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a", "b"))
	f.ask(abi.EventExec, "/t/a")
	f.ask(abi.EventExec, "/t/a")
	f.ask(abi.EventExec, "/t/c")
	until(t, "the engine has counted", func() bool {
		s := f.engine.Stats()
		return s.Hits+s.Decided == 3 && s.Latency.Count == 3 && s.EventsRecorded == 2
	})
	for _, tt := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"arbiter_requests_total", nil, 3},
		{"arbiter_cache_hits_total", nil, 1},
		{"arbiter_decided_total", nil, 2},
		{"arbiter_failed_total", map[string]string{"reason": "deadline"}, 0},
		{"arbiter_failed_total", map[string]string{"reason": "ring_full"}, 0},
		{"arbiter_verdicts_total", map[string]string{"verdict": "deny"}, 2},
		{"arbiter_verdicts_total", map[string]string{"verdict": "allow"}, 1},
		{"arbiter_verdicts_total", map[string]string{"verdict": "audit"}, 0},
		{"arbiter_cache_flushes_total", map[string]string{"reason": "rules_pushed"}, 1},
		{"arbiter_events_recorded_total", nil, 2},
		{"arbiter_events_dropped_total", nil, 0},
		{"arbiter_in_flight", nil, 0},
		{"arbiter_worker_requests_total", map[string]string{"worker": "0"}, 3},
		{"arbiter_rules_epoch", nil, 1},
		{"arbiter_rules", nil, 2},
		{"arbiter_watchers", nil, 0},
		{"arbiter_watch_dropped_total", nil, 0},
	} {
		if got := metric(t, f, tt.name, tt.labels); got != tt.want {
			t.Errorf("%s%v: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	median, most := metric(t, f, "arbiter_latency_seconds", map[string]string{"quantile": "0.5"}),
		metric(t, f, "arbiter_latency_seconds", map[string]string{"quantile": "1"})
	if median <= 0 || most < median {
		t.Errorf("latency: median %v, maximum %v; want 0 < median <= maximum", median, most)
	}
}
