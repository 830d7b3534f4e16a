// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample returns an event with every fact filled in.
func sample() arbiter.Event {
	return arbiter.Event{
		Seq: 42, Time: time.Date(2026, 11, 24, 12, 30, 15, 123456789, time.UTC),
		Event: abi.EventExec, Access: abi.AccessExec, Verdict: "deny", Errno: 13,
		Rule: "no-shells", Line: 9, Message: "shells are not run here; ask ops",
		Epoch: 7, Fingerprint: 0xfeedfacecafe, Latency: 1234 * time.Nanosecond, Worker: 1,
		TGID: 100, TID: 101, UID: 1000, GID: 100, StartBoottime: 5_000_000_000,
		Comm: "python3", Exe: "/usr/bin/python3.13", Path: "/srv/app/bin/sh", Dev: 2049, Ino: 77,
	}
}

// samples are one event per kind of line.
func samples() []arbiter.Event {
	deny := sample()
	open := sample()
	open.Seq, open.Event, open.Verdict, open.Errno, open.Cached = 43, abi.EventOpen, "allow", 0, true
	open.Access, open.Rule, open.Line, open.Message = abi.AccessRead|abi.AccessWrite|abi.AccessAppend, "default", 0, ""
	audit := sample()
	audit.Seq, audit.Verdict, audit.Errno, audit.Rule = 44, "audit", 0, "watch-tools"
	failed := sample()
	failed.Seq, failed.Verdict, failed.Errno, failed.Reason = 45, "allow", 0, abi.ReasonNoWorker
	failed.Rule, failed.Line, failed.Message, failed.Worker, failed.Dev, failed.Ino = "", 0, "", -1, 0, 0
	late := sample()
	late.Seq, late.Late = 46, true
	hostile := sample()
	hostile.Seq, hostile.Event, hostile.Access = 47, abi.EventOpen, abi.AccessWrite|abi.AccessTruncate|abi.AccessCreated
	hostile.Path = "/tmp/a\n{\"verdict\":\"allow\"}\x1b[2J\u202e\u009b\u2028\U000e0041"
	hostile.Exe = "/tmp/\xff\xfe\\x41/run\x00"
	hostile.Comm = "\xc3\x28"
	unknown := sample()
	unknown.Seq, unknown.Path, unknown.Exe, unknown.Comm, unknown.Reason = 48, "", "", "", abi.ReasonFactsTruncated
	return []arbiter.Event{deny, open, audit, failed, late, hostile, unknown}
}

func TestGolden(t *testing.T) {
	var got []byte
	for _, e := range samples() {
		got = AppendEvent(got, &e)
	}
	golden := filepath.Join("testdata", "events.jsonl")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got), rewrite it with -update:\n%s", golden, diff)
	}
}

// checkLine verifies what every line promises and returns it decoded.
func checkLine(t *testing.T, e *arbiter.Event) Record {
	t.Helper()
	line := AppendEvent(nil, e)
	body, ok := bytes.CutSuffix(line, []byte("\n"))
	if !ok {
		t.Fatalf("line %q does not end in a newline", line)
	}
	if !utf8.Valid(body) {
		t.Errorf("line %q is not UTF-8", body)
	}
	for _, r := range string(body) {
		if !unicode.IsPrint(r) {
			t.Errorf("line %q holds %U raw", body, r)
		}
	}
	var got Record
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("line %q: %v", body, err)
	}
	want := NewRecord(e)
	if !utf8.ValidString(e.Message) { // of a rule file, which is UTF-8: no _b64
		got.Message, want.Message = "", ""
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("line %q decodes to another record (-want +got):\n%s", body, diff)
	}
	return got
}

// exact returns the bytes that a text and its _b64 stand for.
func exact(t *testing.T, text, b64 string) string {
	t.Helper()
	if b64 == "" {
		return text
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		t.Fatalf("base64 %q: %v", b64, err)
	}
	return string(raw)
}

func TestLinesDecode(t *testing.T) {
	for _, e := range samples() {
		checkLine(t, &e)
	}
}

// TestFieldNames compares the hand-written encoder with the json tags, key order
// included.
func TestFieldNames(t *testing.T) {
	for _, e := range samples() {
		e.Path, e.Exe, e.Comm = "/a", "/b", "c" // encoding/json escapes less
		r := NewRecord(&e)
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(r.Append(nil))); diff != "" {
			t.Errorf("event %d differs from its json tags (-want +got):\n%s", e.Seq, diff)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, e := range samples() {
		f.Add(uint32(e.Event), uint32(e.Access), e.Path, e.Exe, e.Comm, e.Message, uint8(e.Reason), e.Late)
	}
	f.Fuzz(func(t *testing.T, event, access uint32, path, exe, comm, message string, reason uint8, late bool) {
		e := sample()
		e.Event, e.Access, e.Reason, e.Late = abi.Event(event), abi.Access(access), abi.Reason(reason), late
		e.Path, e.Exe, e.Comm, e.Message = path, exe, comm, message
		r := checkLine(t, &e)
		object := r.File
		if r.Process != nil {
			object = &r.Process.File
		}
		if got := exact(t, object.Path, object.PathB64); got != path {
			t.Errorf("path = %q, want %q", got, path)
		}
		p := r.Actor.Process
		if got := exact(t, p.File.Path, p.File.PathB64); got != exe {
			t.Errorf("exe = %q, want %q", got, exe)
		}
		if got := exact(t, p.Name, p.NameB64); got != comm {
			t.Errorf("comm = %q, want %q", got, comm)
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	e := sample()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], &e)
	}
}
