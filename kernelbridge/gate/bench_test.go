// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"runtime"
	"testing"
)

// BenchmarkSleep measures the round trip of one getxattr: a task goes to sleep, a
// worker notices, answers at once, and the task runs again. The sleeper is a process
// pinned to CPU 0, the worker a thread pinned to the same or to another. A polling
// worker reads requests as the ring's does, when Sleeps and Served differ.
//
// p50 on 2 virtual CPUs of an AMD EPYC, Linux 6.18, load 1.4: parked 6.7 µs on the
// same CPU and 40 µs on the other, polling 4.1 µs. The same minute's fanotify
// permission events, served by a blocking read: 7.7 and 43.5 µs (arbiter-bench
// bridge). What was tried on the way of a parked worker on the same CPU, p50:
// blocking in read alone 5.9 µs, which cannot wait for a kick or for Wake; ppoll
// 6.6 µs, but every sleeper would wake every worker; epoll without a timeout 6.3 µs;
// system calls that do not tell the Go scheduler no gain on either CPU.
func BenchmarkSleep(b *testing.B) {
	for _, tc := range []struct {
		name   string
		worker int // its CPU
		hot    bool
	}{
		{"parked,sameCPU", 0, false},
		{"parked,otherCPU", 1, false},
		{"polling,otherCPU", 1, true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			if tc.worker >= runtime.NumCPU() {
				b.Skip("needs two CPUs")
			}
			q, f := newQueue(b)
			g := openFor(b, Options{Workers: 1, Slots: q})
			beat(b, g)
			work(b, g, q, tc.hot, tc.worker)
			s := newSleeper(b, g.Identity().PID, f)
			s.start(order{First: 5, Rounds: b.N, Pinned: true})
			o := s.wait()
			if o.Errno != 0 {
				b.Fatal(o.Errno)
			}
			b.ReportMetric(0, "ns/op") // an average
			b.ReportMetric(float64(o.P50.Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(o.P99.Nanoseconds())/1e3, "p99-µs")
		})
	}
}
