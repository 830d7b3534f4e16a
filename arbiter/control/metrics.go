// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Collector returns the engine's metrics. It reads the counters when it is
// scraped; the workers know nothing of it.
func Collector(e Engine) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("arbiter_"+name, help, labels, nil)
	}
	return &engineCollector{
		engine:         e,
		requests:       desc("requests_total", "Requests taken from a source."),
		hits:           desc("cache_hits_total", "Requests answered from a verdict cache."),
		decided:        desc("decided_total", "Requests answered by walking the rules."),
		failed:         desc("failed_total", "Failure verdicts, by reason.", "reason"),
		verdicts:       desc("verdicts_total", "Answers, by verdict; audit is allowed and recorded.", "verdict"),
		late:           desc("late_total", "Answers that came when the requester had given up."),
		flushes:        desc("cache_flushes_total", "Flushes of the verdict cache, by reason.", "reason"),
		skipped:        desc("cache_skipped_total", "Decisions that were not cached because their key was too long."),
		recorded:       desc("events_recorded_total", "Events that got a sequence number."),
		dropped:        desc("events_dropped_total", "Events lost because a worker's journal was full."),
		inFlight:       desc("in_flight", "Requests taken and not yet answered."),
		held:           desc("held", "Requests that wait for a fact, among those in flight."),
		holds:          desc("holds_total", "Requests that had to wait for a fact."),
		asked:          desc("asked_total", "Requests whose rule asks somebody, by how they ended.", "outcome"),
		latency:        desc("latency_seconds", "From the question to the answer, since the start, by quantile; 1 is the maximum.", "quantile"),
		workerRequests: desc("worker_requests_total", "Requests taken, by worker.", "worker"),
		workerParked:   desc("worker_parked", "1 while the worker sleeps because nothing is to do.", "worker"),
		epoch:          desc("rules_epoch", "Epoch of the rule set in force."),
		rules:          desc("rules", "Rules in the rule set in force."),
	}
}

type engineCollector struct {
	engine                                                                                     Engine
	requests, hits, decided, failed, verdicts, late, flushes, skipped, recorded                *prometheus.Desc
	held, holds, asked, dropped, inFlight, latency, workerRequests, workerParked, epoch, rules *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *engineCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *engineCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.engine.Stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count(c.requests, s.Requests)
	count(c.hits, s.Hits)
	count(c.decided, s.Decided)
	for r := abi.ReasonNone + 1; r < abi.ReasonCount; r++ {
		count(c.failed, s.Failed[r], r.String())
	}
	count(c.verdicts, s.Allowed-min(s.Audited, s.Allowed), "allow")
	count(c.verdicts, s.Denied-min(s.Killed, s.Denied), "deny")
	count(c.verdicts, s.Killed, "kill")
	count(c.verdicts, s.Audited, "audit")
	count(c.late, s.Late)
	for r := range cache.ReasonCount {
		count(c.flushes, s.CacheFlushes[r], r.String())
	}
	count(c.skipped, s.CacheSkipped)
	count(c.recorded, s.EventsRecorded)
	count(c.dropped, s.EventsDropped)
	gauge(c.inFlight, float64(s.InFlight))
	gauge(c.held, float64(s.Held))
	count(c.holds, s.Holds)
	for o := arbiter.NotAsked + 1; o < arbiter.AskedCount; o++ {
		count(c.asked, s.Asked[o], o.String())
	}
	for _, q := range []struct {
		name string
		d    time.Duration
	}{{"0.5", s.Latency.P50}, {"0.9", s.Latency.P90}, {"0.99", s.Latency.P99}, {"0.999", s.Latency.P999}, {"1", s.Latency.Max}} {
		gauge(c.latency, q.d.Seconds(), q.name)
	}
	for i, w := range s.Workers {
		parked := 0.0
		if w.Parked {
			parked = 1
		}
		count(c.workerRequests, w.Requests, strconv.Itoa(i))
		gauge(c.workerParked, parked, strconv.Itoa(i))
	}
	if rs := c.engine.Rules(); rs != nil {
		gauge(c.epoch, float64(rs.Epoch()))
		gauge(c.rules, float64(rs.Len()))
	}
}

// watchCollector tells of the watchers.
type watchCollector struct{ events *eventsService }

// Describe implements prometheus.Collector.
func (c watchCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c watchCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_watchers", "Open Watch streams.", nil, nil),
		prometheus.GaugeValue, float64(c.events.watchers.Load()))
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_watch_dropped_total", "Events that watchers lost because they were slow.", nil, nil),
		prometheus.CounterValue, float64(c.events.dropped.Load()))
}

// kernelCollector tells what the backend's kernel side counted, by the backend's own
// names. Most only grow; those of marks are how many there are.
type kernelCollector struct{ info func() Info }

// Describe sends nothing: which counters there are is the backend's to know.
func (kernelCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c kernelCollector) Collect(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("arbiter_kernel_side", "What the kernel side of the backend counted, as status shows it.", []string{"counter"}, nil)
	for name, n := range c.info().KernelCounters {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.UntypedValue, float64(n), name)
	}
}
