// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/content/clamdtest"
)

// The same with clamd itself: what it finds is refused, what it does not is held as long as it
// reads, and runs.
func TestRealScans(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	clamd, err := clamdtest.Start(t.TempDir(), "AlertExceedsMax yes")
	if errors.Is(err, clamdtest.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clamd.Close)
	s := &scanned{dir: dir + "/tree/scanned"}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/config.yaml", []byte("hold_limit: 1m\nscanner:\n  clamd: "+clamd.Socket+"\n"))
	s.runs = startDaemon(t, dir, "--config", dir+"/config.yaml", "--backend", kernelbridge.BackendFanotify)
	s.push(fmt.Sprintf(scanRules, s.tree, s.dir))
	events := s.watch()
	s.put("scanned/infected", string(tinyProgram(t, clamdtest.Marker)), 0o755, 0)
	e := s.expect(events, unix.EPERM, "infected", "deny no-malware")
	if e.Object.Scan != "infected" || string(e.Object.Signature) != clamdtest.Found {
		t.Errorf("the record has the result %q and found %q", e.Object.Scan, e.Object.Signature)
	}
	t.Logf("%s: refused, found %s, sha256 %s", e.Object.Path, e.Object.Signature, e.Object.Sha256)
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1 << 10, 1 << 20, 8 << 20} {
		var held []time.Duration
		for i := range 10 {
			mark := make([]byte, size)
			for at := range mark {
				mark[at] = byte(random.Uint32())
			}
			name := fmt.Sprintf("%d-%d", size, i)
			s.put("scanned/"+name, string(tinyProgram(t, string(mark))), 0o755, 0)
			held = append(held, s.expect(events, 0, name, "audit scanned").Latency.AsDuration())
		}
		slices.Sort(held)
		t.Logf("%5d KiB: allowed, held for p50 %v, at most %v, of %d programs that are new", size>>10, held[len(held)/2], held[len(held)-1], len(held))
	}
	clamd.Close()
	s.put("scanned/late", string(tinyProgram(t, "late")), 0o755, 0)
	s.soon(unix.EPERM, "scanned/late")
	s.until("a warning", func() bool { return s.warns("the scanner does not answer") })
	for _, w := range s.status().Warnings {
		if strings.Contains(w, "the scanner") {
			t.Logf("without clamd: refused, %s", w)
		}
	}
	s.stop()
}
