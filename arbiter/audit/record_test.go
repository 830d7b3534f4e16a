// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
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
		EUID: 1001, EGID: 101, Facts: abi.AllFields, Cgroup: [abi.CgroupLevels]uint64{12, 345},
		InTrees: []string{"/usr/sbin/sshd"}, NotInTrees: []string{"/usr/sbin/cron", "/opt/\xff"},
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
	lateFailure := late
	lateFailure.Seq, lateFailure.Verdict, lateFailure.Errno, lateFailure.Reason = 49, "allow", 0, abi.ReasonDeadline
	hostile := sample()
	hostile.Seq, hostile.Event, hostile.Access = 47, abi.EventOpen, abi.AccessWrite|abi.AccessTruncate|abi.AccessCreated
	hostile.Path = "/tmp/a\n{\"verdict\":\"allow\"}\x1b[2J\u202e\u009b\u2028\U000e0041"
	hostile.Exe = "/tmp/\xff\xfe\\x41/run\x00"
	hostile.Comm = "\xc3\x28"
	unknown := sample()
	unknown.Seq, unknown.Path, unknown.Exe, unknown.Comm, unknown.Reason = 48, "", "", "", abi.ReasonFactsTruncated
	unknown.Flags, unknown.Facts, unknown.Cgroup = abi.AllFlags, abi.FieldUID|abi.FieldArgs, [abi.CgroupLevels]uint64{}
	unknown.InTrees, unknown.NotInTrees = nil, nil
	out := []arbiter.Event{deny, open, audit, failed, late, lateFailure, hostile, unknown}
	for e := abi.EventOpen; e < abi.EventCount; e++ { // one line for each event
		if e == abi.EventOpen || e == abi.EventExec {
			continue
		}
		s := sample()
		s.Seq, s.Event, s.Access = 100+uint64(e), e, 0
		ev := catalogue.Of(e)
		if ev.Object == "" {
			s.Path, s.Dev, s.Ino = "", 0, 0
		}
		if ev.Detail != "" {
			s.Detail = "/srv/app/new"
		}
		for i := range ev.Args {
			s.Args[i] = uint64(i) + 2
		}
		out = append(out, s)
	}
	anonymous := sample()
	anonymous.Seq, anonymous.Event, anonymous.Path, anonymous.Dev, anonymous.Ino = 201, abi.EventMMapExec, "", 0, 0
	anonymous.Args = [abi.Args]uint64{5, 0x22}
	web := sample()
	web.Seq, web.Event, web.Path, web.Dev, web.Ino = 202, abi.EventConnect, "", 0, 0
	web.Args = [abi.Args]uint64{2, 1, 6, 443, 0, 0xffffc0000201}
	abstract := sample()
	abstract.Seq, abstract.Event, abstract.Path, abstract.Dev, abstract.Ino = 203, abi.EventBind, "@\xff/bus", 0, 0
	abstract.Args = [abi.Args]uint64{1, 1}
	kill := sample()
	kill.Seq, kill.Event, kill.Args = 204, abi.EventSignal, [abi.Args]uint64{9, 4711, 1<<64 - 1}
	odd := sample()
	odd.Seq, odd.Event, odd.Detail = 205, abi.EventSymlink, "../\xff\n"
	newer := sample()
	newer.Seq, newer.Event = 206, abi.EventCount
	hashed := sample()
	hashed.Seq, hashed.SHA256 = 207, strings.Repeat("0f", 32)
	killed := sample()
	killed.Seq, killed.Verdict = 208, "kill"
	asked := sample()
	asked.Seq, asked.Asked, asked.AnsweredBy = 209, "answered", 1000
	script := sample()
	script.Seq, script.Format, script.Facts = 210, abi.FormatScript, script.Facts|abi.FieldFormat
	directory := sample()
	directory.Seq, directory.Facts = 211, directory.Facts|abi.ContentFields
	sealed, unsealed := sample(), sample()
	sealed.Seq, sealed.Verity = 212, abi.Verity{Alg: abi.VeritySHA512, Sum: [64]byte{1, 63: 2}}
	unsealed.Seq, unsealed.Verity = 213, abi.Verity{Alg: abi.VerityNone}
	owned := sample()
	owned.Seq, owned.Attributes, owned.Size = 214, abi.Attributes{UID: 33, GID: 34, Mode: 0o104755}, abi.Size{Known: true, Bytes: 4096}
	owned.Credentials = abi.Credentials{Known: true, LoginUID: 1000, Session: 3, Capabilities: 1<<21 | 1, HostNamespaces: 1<<abi.NamespaceMnt | 1<<abi.NamespaceUser}
	infected := sample()
	infected.Seq, infected.SHA256, infected.Format, infected.Facts = 215, strings.Repeat("0e", 32), abi.FormatOther, infected.Facts|abi.ContentFields
	infected.Scan, infected.Signature = abi.ScanInfected, "Eicar-Test-Signature"
	odder := infected
	odder.Seq, odder.Signature = 216, "a\n\xff\x1b[2J: OK"
	clean := sample()
	clean.Seq, clean.Scan, clean.Facts, clean.Reason, clean.Verdict = 217, abi.ScanClean, clean.Facts|abi.FieldScan, abi.ReasonNoScan, "deny"
	return append(out, anonymous, web, abstract, kill, odd, newer, hashed, killed, asked, script, directory, sealed, unsealed, owned, infected, odder, clean)
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
	if diff := cmp.Diff(NewRecord(e), got); diff != "" {
		t.Errorf("line %q decodes to another record (-want +got):\n%s", body, diff)
	}
	checkDecode(t, e, line)
	return got
}

// checkDecode wants the event back that line was written of, as far as rules can look at it,
// and the very line of that.
func checkDecode(t *testing.T, e *arbiter.Event, line []byte) {
	t.Helper()
	back, err := Decode(line)
	if err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	if again := AppendEvent(nil, back); !bytes.Equal(again, line) {
		t.Errorf("line %q becomes %q", line, again)
	}
	want := *e
	want.Message = strings.ToValidUTF8(e.Message, "\ufffd")
	want.Access &= 1<<len(accessBits) - 1
	want.Flags &= abi.AllFlags
	want.Reason = min(want.Reason, abi.ReasonCount)
	want.Dev, want.Ino = back.Dev, back.Ino // not every class has a place for them
	ev := catalogue.Of(e.Event)
	if ev == nil && e.Event != abi.EventNone {
		want.Event = abi.EventCount
	}
	for i := range want.Args {
		if ev == nil || i >= len(ev.Args) {
			want.Args[i] = 0
		}
	}
	if e.Event == abi.EventSetUID || e.Event == abi.EventSetGID {
		want.Path = "" // they have no object
	}
	if diff := cmp.Diff(want, *back, cmpopts.IgnoreUnexported(arbiter.Event{})); diff != "" {
		t.Errorf("line %q is read as another event (-want +got):\n%s", line, diff)
	}
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
		if e.Detail != "" {
			e.Detail = "/d"
		}
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
		f.Add(uint32(e.Event), uint32(e.Access), e.Path, e.Detail, e.Exe, e.Comm, e.Message, uint8(e.Reason), e.Late, e.Args[0], e.Args[5], e.Flags, uint32(e.Facts), e.Cgroup[0])
	}
	f.Fuzz(func(t *testing.T, event, access uint32, path, detail, exe, comm, message string, reason uint8, late bool, arg0, arg5 uint64, flags, facts uint32, cgroup uint64) {
		e := sample()
		e.Event, e.Access, e.Reason, e.Late = abi.Event(event), abi.Access(access), abi.Reason(reason), late
		e.Path, e.Detail, e.Exe, e.Comm, e.Message = path, detail, exe, comm, message
		e.Args[0], e.Args[5] = arg0, arg5
		e.Flags, e.Facts, e.Cgroup = flags, abi.Fields(facts)&abi.AllFields, [abi.CgroupLevels]uint64{cgroup}
		r := checkLine(t, &e)
		if got := exact(t, r.Unmapped.Detail, r.Unmapped.DetailB64); got != detail {
			t.Errorf("detail = %q, want %q", got, detail)
		}
		ev := catalogue.Of(e.Event)
		if ev != nil && e.Event != abi.EventSetUID && e.Event != abi.EventSetGID { // they have no object
			if got := objectOf(t, &r); got != path {
				t.Errorf("path = %q, want %q", got, path)
			}
		}
		for i := 0; ev != nil && i < len(ev.Args); i++ {
			if got := r.Unmapped.Args[ev.Args[i].Name]; got != e.Args[i] {
				t.Errorf("%s = %d, want %d", ev.Args[i].Name, got, e.Args[i])
			}
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

// objectOf returns the object's path from wherever the class has it.
func objectOf(t *testing.T, r *Record) string {
	t.Helper()
	switch {
	case r.File != nil:
		return exact(t, r.File.Path, r.File.PathB64)
	case r.Driver != nil:
		return exact(t, r.Driver.File.Path, r.Driver.File.PathB64)
	case r.Module != nil:
		return exact(t, r.Module.File.Path, r.Module.File.PathB64)
	case r.DstEndpoint != nil:
		return exact(t, r.DstEndpoint.Name, r.DstEndpoint.NameB64)
	case r.ClassUID == ClassProcess:
		return exact(t, r.Process.File.Path, r.Process.File.PathB64)
	}
	return exact(t, r.Unmapped.Path, r.Unmapped.PathB64)
}

// Each event has a class and an activity, and what OCSF requires of the class.
func TestClasses(t *testing.T) {
	for _, e := range samples() {
		r := NewRecord(&e)
		if r.TypeUID != r.ClassUID*100+r.ActivityID || r.CategoryUID != r.ClassUID/1000 || (r.ActivityName != "") != (r.ActivityID == ActivityOther) {
			t.Errorf("%s: class %d, category %d, activity %d %q, type %d", e.Event, r.ClassUID, r.CategoryUID, r.ActivityID, r.ActivityName, r.TypeUID)
		}
		required := map[int]bool{ClassBase: true, ClassFile: r.File != nil, ClassKernelExtension: r.Driver != nil, ClassKernel: r.Kernel != nil,
			ClassMemory: r.Process != nil, ClassModule: r.Module != nil, ClassProcess: r.Process != nil, ClassNetwork: r.DstEndpoint != nil && r.ConnectionInfo != nil}
		if !required[r.ClassUID] || r.ActivityID == 0 {
			t.Errorf("%s: class %d lacks what it is about, or its activity: %+v", e.Event, r.ClassUID, r)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	e := sample()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], &e)
	}
}
