// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// mixedRules is a file of n rules of many kinds, about as long as people write them.
func mixedRules(n int) []byte {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range n {
		of := [...]string{
			"[exec], object: {path: /usr/lib/app/bin/tool-%d}",
			"[open], object: {path: {prefix: /srv/app/data/d%d/}}",
			"[open], object: {path: '/srv/app/**/x%d*.so'}",
			"[connect], args: {port: 443, addr: '2001:db8::%x/128'}",
			"[open, exec], object: {path: /home/user/.config/f%d}, subject: {uid: [0, 1000-1999]}",
			"[open], subject: {exe: /usr/bin/program-%d}, access: [write]",
		}[i%6]
		number := i
		if i%6 == 3 {
			number &= 0xffff
		}
		fmt.Fprintf(&b, "- {id: r%d, events: "+of+", verdict: deny}\n", i, number)
	}
	return []byte(b.String())
}

// bytesPerRule returns how much of the heap a set of n rules keeps.
func bytesPerRule(tb testing.TB, n int) float64 {
	src := mixedRules(n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	rs, err := Load("f.yaml", src, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(src)
	runtime.KeepAlive(rs)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
}

// mostBytesPerRule is what a rule may cost in memory, its text and all indexes included.
const mostBytesPerRule = 256

func TestMemoryPerRule(t *testing.T) {
	if got := bytesPerRule(t, 60_000); got > mostBytesPerRule {
		t.Errorf("%.0f bytes for each rule, want at most %d", got, mostBytesPerRule)
	}
}

// BenchmarkMemory is the same with as many rules as a file can have.
func BenchmarkMemory(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bytesPerRule(b, MaxRules), "B/rule")
}
