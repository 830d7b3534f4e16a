// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/content/clamdtest"
	"github.com/arbiterd/arbiter/rules"
)

// scanRules refuse programs below a directory in which a scanner finds something, and record
// those in which it finds nothing.
const scanRules = `version: 1
default: allow
on_fail: deny
deadline: 30s
scope: {paths: [%[1]q]}
rules:
  - id: no-malware
    events: [exec]
    object: {path: {prefix: %[2]q}, scan: infected}
    verdict: deny
  - id: scanned
    events: [exec]
    object: {path: {prefix: %[2]q}, scan: clean}
    verdict: audit
`

// scanned is a daemon whose scanner the test is, with a directory of programs to be scanned.
type scanned struct {
	*runs
	scanner *clamdtest.Server
	socket  string
	dir     string
}

// startScanned starts a daemon on a backend, with more lines for scanner in its configuration.
func startScanned(t *testing.T, backend string, more string) *scanned {
	t.Helper()
	// A thread of ours that starts a program is held with it (vfork), and a collection would wait for it,
	// and the scanner, which is a goroutine of ours, for the collection.
	t.Cleanup(gcOff())
	dir := newTree(t)
	s := &scanned{socket: dir + "/clamd.ctl", dir: dir + "/tree/scanned"}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/config.yaml", []byte("hold_limit: 1m\nscanner:\n  clamd: "+s.socket+"\n"+more))
	s.scan(t)
	s.runs = startDaemon(t, dir, "--config", dir+"/config.yaml", "--backend", backend)
	s.push(fmt.Sprintf(scanRules, s.tree, s.dir))
	return s
}

// scan starts the scanner.
func (s *scanned) scan(t *testing.T) {
	t.Helper()
	var err error
	if s.scanner, err = clamdtest.Listen(s.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.scanner.Close() })
}

// expect runs a program and wants that errno, and a record with that verdict and rule, which it
// returns. A scanner that was too slow once, on a busy machine, is asked again after a while.
func (s *scanned) expect(events pb.EventsService_WatchClient, want unix.Errno, program, record string) *pb.Event {
	s.t.Helper()
	path := s.dir + "/" + program
	var e *pb.Event
	s.until(record+" of "+program, func() bool {
		got := s.try("scanned/" + program)
		for e = nil; e.GetEvent() != "exec" || string(e.GetObject().GetPath()) != path; {
			m, err := events.Recv()
			if err != nil {
				s.t.Fatalf("waiting for the record of %s: %v", program, err)
			}
			e = m.GetEvent()
		}
		if got == want {
			s.t.Attr("seen", s.saw(got, "scanned/"+program))
		}
		return got == want && describe(e) == "exec "+record+" "+path
	})
	return e
}

// gcOff turns the collector off until restore is called.
func gcOff() (restore func()) {
	before := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(before) }
}

func onEachBackend(t *testing.T, f func(t *testing.T, backend string)) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { f(t, backend) })
	}
}

// A program runs when the scanner has found nothing in it, and is refused when it has; the record
// tells what, and which file it was.
func TestScansEndToEnd(t *testing.T) {
	onEachBackend(t, func(t *testing.T, backend string) {
		s := startScanned(t, backend, "")
		events := s.watch()
		s.put("scanned/clean", string(tinyProgram(t, "clean")), 0o755, 0)
		s.put("scanned/infected", string(tinyProgram(t, clamdtest.Marker)), 0o755, 0)
		if e := s.expect(events, 0, "clean", "audit scanned"); e.Object.Scan != "clean" || len(e.Object.Signature) > 0 {
			t.Errorf("the record has the result %q and found %q", e.Object.Scan, e.Object.Signature)
		}
		e := s.expect(events, unix.EPERM, "infected", "deny no-malware")
		if e.Object.Scan != "infected" || string(e.Object.Signature) != clamdtest.Found || len(e.Object.Sha256) != 64 || e.Object.Format != "elf" {
			t.Errorf("the record has %v", e.Object)
		}
		const odd = "a\n\x1b[2Jfd[1]: OK"
		s.scanner.Answer(func(*os.File) []byte { return []byte("fd[7]: " + odd + " FOUND\x00") })
		s.put("scanned/odd", string(tinyProgram(t, "odd")), 0o755, 0)
		if e := s.expect(events, unix.EPERM, "odd", "deny no-malware"); string(e.Object.Signature) != odd {
			t.Errorf("found %q, want %q", e.Object.Signature, odd)
		}
		if c := s.status().KernelCounters; c["scan.done"] < 3 || c["scan.infected"] < 2 || c["digest.hashed"] != 0 {
			t.Errorf("%v, want 3 scans, 2 of which have found something", c)
		}
		s.stop()
	})
}

// A task is held for as long as the scanner reads its file, and others are not.
func TestHeldWhileScanned(t *testing.T) {
	onEachBackend(t, func(t *testing.T, backend string) {
		s := startScanned(t, backend, "")
		x, err := pb.NewRulesServiceClient(s.conn).Explain(t.Context(), &pb.ExplainRequest{Event: "exec", Path: []byte(s.dir + "/program")})
		if err != nil {
			t.Fatal(err)
		}
		if bound := x.GetBound().AsDuration(); bound < 20*time.Second {
			t.Skip("tasks cannot sleep here, and wait for " + bound.String())
		}
		events := s.watch()
		s.put("scanned/program", string(tinyProgram(t, "held")), 0o755, 0)
		s.put("other", string(tinyProgram(t, "other")), 0o755, 0)
		asked, release := make(chan bool, 1), make(chan bool)
		s.scanner.Answer(func(f *os.File) []byte {
			asked <- true
			<-release
			return clamdtest.Look(f)
		})
		ended := make(chan unix.Errno, 1)
		go func() { ended <- s.try("scanned/program") }()
		<-asked
		begin := time.Now()
		for range 5 { // these take longer than a program that is not held
			if got := s.try("other"); got != 0 {
				t.Errorf("another program: %v", got)
			}
		}
		select {
		case got := <-ended:
			t.Fatalf("the program has run before it was scanned: %v", got)
		default:
		}
		held := time.Since(begin)
		close(release)
		if got := <-ended; got != 0 {
			t.Errorf("the program, when it was scanned: %v", got)
		}
		if e := s.await(events, "exec audit scanned "+s.dir+"/program"); e.Latency.AsDuration() < held {
			t.Errorf("the record says that it was held for %v, it was for %v at least", e.Latency.AsDuration(), held)
		} else {
			t.Attr("seen", fmt.Sprintf("held for %v while the scanner read the file, then allowed", e.Latency.AsDuration()))
		}
		s.stop()
	})
}

// What cannot be scanned is not clean: it gets the failure verdict, for a reason of its own, and
// status tells that the scanner is not there, until it is.
func TestNotScanned(t *testing.T) {
	s := startScanned(t, kernelbridge.BackendFanotify, "  max_size: 100000\n  timeout: 100ms\n")
	events := s.watch()
	fails := func(program, counter string) {
		t.Helper()
		s.soon(unix.EPERM, "scanned/"+program)
		for e := (*pb.Event)(nil); string(e.GetObject().GetPath()) != s.dir+"/"+program || e.GetReason() != "no_scan"; {
			m, err := events.Recv()
			if err != nil {
				t.Fatalf("%s: waiting for the failure verdict: %v", program, err)
			}
			if e = m.GetEvent(); e.GetObject().GetScan() != "" {
				t.Errorf("%s: the record has the result %q", program, e.Object.Scan)
			}
		}
		if c := s.status().KernelCounters; c["digest.unknown."+counter] == 0 {
			t.Errorf("%s: %v, want %s counted", program, c, counter)
		}
	}
	put := func(name, mark string) {
		t.Helper()
		s.put("scanned/"+name, string(tinyProgram(t, mark)), 0o755, 0)
	}
	put("large", strings.Repeat("x", 100000))
	fails("large", "scan_too_big")
	put("slow", "slow")
	s.scanner.Answer(func(*os.File) []byte { return nil })
	fails("slow", "scan_failed")
	s.scanner.Answer(func(*os.File) []byte { return []byte("fd[7]: Can't allocate memory ERROR\x00") })
	fails("slow", "scan_failed")
	s.scanner.Answer(clamdtest.Look)
	put("program", "program")
	if s.warns("scanner") {
		t.Errorf("a warning while the scanner is there: %v", s.status().Warnings)
	}
	s.scanner.Close()
	fails("program", "scanner_gone")
	if !s.warns("the scanner does not answer since") || !strings.Contains(s.log.String(), "clamd does not answer") {
		t.Errorf("nothing tells that the scanner is gone: %v\n%s", s.status().Warnings, s.log)
	}
	s.scan(t)
	s.until("the scanner is found again", func() bool { return s.try("scanned/program") == 0 })
	if s.warns("scanner") {
		t.Errorf("still a warning: %v", s.status().Warnings)
	}
	if n := s.status().Counters.Failed["no_scan"]; n < 4 {
		t.Errorf("%d failed for want of a scan, want 4 at least", n)
	}
	s.stop()
}

// A push warns where nobody scans, and where clamd would wait for a scan of what it needs itself.
func TestScanWarnings(t *testing.T) {
	const head = "version: 1\ndefault: allow\non_fail: deny\n"
	const about = "rules: [{id: a, events: [%s], object: {scan: infected}, verdict: deny}]\n"
	const loader = "its start by the ELF loader needs a scan (exec of " + elfLoader + " by /usr/lib/systemd/systemd); write mute: {paths: [/usr/sbin/clamd, " + elfLoader + "], exes: [/usr/sbin/clamd]}"
	exec, both, all := fmt.Sprintf(about, "exec"), fmt.Sprintf(about, "exec, open"), fmt.Sprintf(about, "exec, open, mmap_exec")
	for _, tc := range []struct {
		name, text string
		there      bool
		bound      time.Duration
		want       []string
	}{
		{"all is well", "scope: {paths: [/srv]}\n" + both, true, time.Minute, nil},
		{"nobody scans", "scope: {paths: [/srv]}\n" + exec, false, time.Minute, []string{"nobody scans"}},
		{"tasks wait for a moment", "scope: {paths: [/srv]}\n" + exec, true, 5 * time.Millisecond, []string{"waits 5ms at most"}},
		{"its start", "scope: {paths: [/usr]}\n" + both, true, time.Minute, []string{"its start needs a scan (exec of /usr/sbin/clamd by /usr/lib/systemd/systemd)", loader}},
		{"its libraries", "scope: {paths: [/usr/lib]}\n" + fmt.Sprintf(about, "mmap_exec"), true, time.Minute, []string{"the mapping of its libraries needs a scan (mmap_exec of /usr/lib/x86_64-linux-gnu/libclamav.so.12 by /usr/sbin/clamd)"}},
		{"its files", "scope: {paths: [/var, /tmp]}\n" + both, true, time.Minute, []string{"the reading of its signatures", "the opening of its temporary files"}},
		{"muted in part", "scope: {paths: [/]}\nmute: {paths: [/usr/sbin/clamd], exes: [/usr/sbin/clamd]}\n" + all, true, time.Minute, []string{loader}},
		{"muted", "scope: {paths: [/]}\nmute: {paths: [/usr/sbin/clamd, " + elfLoader + "], exes: [/usr/sbin/clamd]}\n" + all, true, time.Minute, nil},
		{"another rule decides before", "scope: {paths: [/usr]}\nrules:\n- {id: packages, events: [exec], object: {path: [\"/usr/sbin/**\", \"/usr/lib/**\"]}, verdict: allow}\n" +
			"- {id: a, events: [exec], object: {format: elf, scan: infected}, verdict: deny}\n", true, time.Minute, nil},
		{"by role", "scope: {paths: [/usr]}\nrules:\n- {id: a, events: [exec], args: {role: program}, object: {scan: infected}, verdict: deny}\n", true, time.Minute, []string{"clamd waits for itself: its start needs"}},
		{"by role, and the other one is let go on", "scope: {paths: [/usr]}\nrules:\n- {id: loader, events: [exec], args: {role: interpreter}, verdict: allow}\n- {id: a, events: [exec], object: {scan: infected}, verdict: deny}\n", true, time.Minute, []string{"clamd waits for itself: its start needs"}},
		{"format and digest before", "scope: {paths: [/usr]}\nrules:\n- {id: a, events: [exec], object: {format: elf, fsverity: none, scan: infected}, verdict: deny}\n", true, time.Minute,
			[]string{"clamd waits for itself: its start", loader}},
		{"goes on", "on_fail: allow\nscope: {paths: [/srv]}\n" + exec, true, time.Minute, []string{"set on_fail: deny"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := head + tc.text
			if strings.HasPrefix(tc.text, "on_fail") {
				text = "version: 1\ndefault: allow\n" + tc.text
			}
			rs, err := rules.Load("f.yaml", []byte(text), rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := contentWarnings(rs, tc.there, tc.bound)
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("warning %q lacks %q", got[i], want)
				}
			}
		})
	}
}
