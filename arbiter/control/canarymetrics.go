// SPDX-License-Identifier: Apache-2.0

package control

import "github.com/prometheus/client_golang/prometheus"

// canaryCollector tells whether a canary runs, and how many went wrong.
type canaryCollector struct{ rules *Rules }

// Describe implements prometheus.Collector.
func (c canaryCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c canaryCollector) Collect(ch chan<- prometheus.Metric) {
	var running float64
	if p := c.rules.pending.Load(); p != nil && p.canary != nil {
		running = 1
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_canary_running", "1 while a canary decides for a part of the processes.", nil, nil),
		prometheus.GaugeValue, running)
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("arbiter_canary_rolled_back_total", "Canaries that were taken back by themselves.", nil, nil),
		prometheus.CounterValue, float64(c.rules.rolledBack.Load()))
}
