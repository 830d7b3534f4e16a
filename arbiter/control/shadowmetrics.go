// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/arbiterd/arbiter/arbiter/trial"
)

// shadowCollector tells of the candidate that runs, or ran last: each begins with 0.
type shadowCollector struct{ rules *Rules }

// Describe implements prometheus.Collector.
func (c shadowCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c shadowCollector) Collect(ch chan<- prometheus.Metric) {
	var running float64
	var decided, unknown, lost uint64
	var changes [trial.KindCount]uint64
	if s := c.rules.shadow.Load(); s != nil {
		s.mu.Lock()
		s.countLoss()
		if s.ended == "" {
			running = 1
		}
		decided, unknown, lost, changes = s.tally.Decided, s.tally.Unknown(), s.lost, s.tally.Changes
		s.mu.Unlock()
	}
	count := func(name, help string, n uint64, labels, values []string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_shadow_"+name, help, labels, nil), prometheus.CounterValue, float64(n), values...)
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_shadow_running", "1 while a candidate runs beside the rules in force.", nil, nil),
		prometheus.GaugeValue, running)
	count("decisions_total", "Decisions that the candidate was asked about, too.", decided, nil, nil)
	for k := trial.Kind(0); k < trial.KindCount; k++ {
		count("changes_total", "Decisions that it makes otherwise, by kind; all but rule are flips.", changes[k], []string{"kind"}, []string{k.String()})
	}
	count("cannot_tell_total", "Decisions that cannot be told, because a fact is missing.", unknown, nil, nil)
	count("lost_total", "Events that were lost before it could look at them.", lost, nil, nil)
}
