// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// scanRules look at the digest first, then at what a scanner says.
const scanRules = `
version: 1
default: {deny: EACCES}
deadline: 10s
on_fail: {deny: EIO}
scope: {paths: [/t]}
rules:
  - {id: known, events: [exec], object: {sha256: "0101010101010101010101010101010101010101010101010101010101010101"}, verdict: audit}
  - {id: malware, events: [exec], object: {scan: infected}, verdict: {deny: EROFS}}
  - {id: scanned, events: [exec], object: {scan: clean}, verdict: audit}
`

// A scan is asked for where it decides, once; the record has what was found, of the moment of the
// scan, and where none can be had the failure verdict has a reason of its own.
func TestScans(t *testing.T) {
	scanned := func(sum [32]byte, found string) abi.Content {
		c := digest(sum, true)
		c.SetScan(found)
		return c
	}
	long := strings.Repeat("x", abi.SignatureBytes)
	for _, tc := range []struct {
		name         string
		digest, scan abi.Content // what comes
		want         unix.Errno
		asked        string
		record       Event
	}{
		{"known", digest(goodSum, true), abi.Content{}, 0, "sha256", Event{Rule: "known"}},
		{"clean", digest(otherSum, true), scanned(otherSum, ""), 0, "sha256, scan", Event{Rule: "scanned", Scan: abi.ScanClean}},
		{"infected", digest(otherSum, true), scanned(otherSum, "a\n\xff"), unix.EROFS, "sha256, scan", Event{Rule: "malware", Scan: abi.ScanInfected, Signature: "a\n\xff"}},
		{"a long name", digest(otherSum, true), scanned(otherSum, long+"y"), unix.EROFS, "sha256, scan", Event{Rule: "malware", Scan: abi.ScanInfected, Signature: long}},
		{"another file meanwhile", digest(otherSum, true), scanned(goodSum, "found"), 0, "sha256, scan", Event{Rule: "known", Scan: abi.ScanInfected, Signature: "found"}},
		{"not scanned", digest(otherSum, true), abi.Content{}, unix.EIO, "sha256, scan", Event{Rule: "malware", Reason: abi.ReasonNoScan}},
		{"not hashed", abi.Content{}, abi.Content{}, unix.EIO, "sha256", Event{Rule: "known", Reason: abi.ReasonNoDigest}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &wanter{has: map[abi.Fields]abi.Content{abi.FieldDigest: tc.digest, abi.FieldScan: tc.scan}}
			a, k := startHolding(t, f, func(c *Config) { c.Rules = mustRules(t, scanRules, 1) })
			sub := a.Subscribe(8, SubscribeOptions{})
			defer sub.Close()
			for n := range 2 { // the second time by what is cached of each step
				askFor(t, k, abi.EventExec, "/t/x").want(tc.want)
				settled(t, a)
				if got := f.take(); got != tc.asked {
					t.Errorf("turn %d: asked for %s, want %s", n, got, tc.asked)
				}
				e := receive(t, sub)
				if e.Reason != tc.record.Reason || e.Reason == abi.ReasonNone && e.Rule != tc.record.Rule || e.Scan != tc.record.Scan || e.Signature != tc.record.Signature {
					t.Errorf("turn %d: rule %s, reason %v, scan %q, found %q; want %+v", n, e.Rule, e.Reason, e.Scan, e.Signature, tc.record)
				}
				if scan := e.Facts&abi.FieldScan != 0; scan != (tc.record.Scan != abi.ScanUnknown) {
					t.Errorf("turn %d: the facts are %v", n, e.Facts.Names())
				}
			}
		})
	}
}

// The key of the cache tells results from each other, and from none.
func TestKeyHasScan(t *testing.T) {
	w := one(t, mustRules(t, scanRules, 1), 64, &canned{})
	seen := map[string]abi.Scan{}
	for s := range abi.ScanCount {
		*w.req = abi.Request{Event: abi.EventExec, Scan: s, Signature: [abi.SignatureBytes]byte{1}}
		key := string(w.cacheKey())
		if before, ok := seen[key]; ok {
			t.Errorf("%q has the key of %q", s, before)
		}
		seen[key] = s
		w.req.Signature[0]++ // no rule looks at it
		if again := string(w.cacheKey()); again != key {
			t.Errorf("%q: the name is in the key", s)
		}
	}
}
