// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// watching starts a daemon and "arbiterctl events", and returns when the header
// came: from then on the watcher is subscribed. The func waits for the exit code.
func watching(t *testing.T, stderr io.Writer) (d *daemon, exit func() int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	d, err = newDaemon(socket, "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- testApp(nil, w, stderr).run([]string{"events", "--socket", socket})
		w.Close()
	}()
	out := bufio.NewReader(r)
	header, err := out.ReadString('\n')
	if err != nil || !strings.HasPrefix(header, "TIME ") {
		t.Fatalf("first line = %q, %v, want the header", header, err)
	}
	return d, func() int {
		io.Copy(io.Discard, out)
		return <-code
	}
}

func TestEventsEndWithTheDaemon(t *testing.T) {
	var stderr bytes.Buffer
	d, exit := watching(t, &stderr)
	d.stop()
	if got := exit(); got != exitUnreachable {
		t.Errorf("exit code = %d, want %d", got, exitUnreachable)
	}
	if got := stderr.String(); !strings.Contains(got, "stopping") || !strings.Contains(got, "\nnext: arbiterctl status") {
		t.Errorf("stderr = %q, want that the daemon is stopping, and a next step", got)
	}
}

func TestEventsEndWhenInterrupted(t *testing.T) {
	var stderr bytes.Buffer
	_, exit := watching(t, &stderr)
	// The command has asked for the signal, so it does not end the test.
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := exit(); got != exitOK || stderr.Len() != 0 {
		t.Errorf("exit code = %d, stderr = %q, want 0 and nothing", got, &stderr)
	}
}

func TestDroppedEventsAreTold(t *testing.T) {
	var stdout, stderr bytes.Buffer
	p := &eventPrinter{app: testApp(nil, &stdout, &stderr), json: true}
	for _, n := range []uint64{0, 1, 12} {
		if done, err := p.message(&controlv1.WatchResponse{Dropped: n}); done || err != nil {
			t.Fatalf("message = %v, %v, want more", done, err)
		}
	}
	want := "arbiterctl: 1 event dropped because this watcher is too slow, 1 in all; a filter would help: arbiterctl events --help\n" +
		"arbiterctl: 12 events dropped because this watcher is too slow, 13 in all; a filter would help: arbiterctl events --help\n"
	if got := stderr.String(); got != want {
		t.Errorf("stderr = %q, want %q", got, want)
	}
	if stdout.Len() != 0 {
		t.Errorf("stdout = %q, want nothing", &stdout)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// What else an event is about is one column, whatever is in it.
func TestFactsText(t *testing.T) {
	arg := func(name string, v uint64) *controlv1.Argument { return &controlv1.Argument{Name: name, Value: v} }
	for _, tc := range []struct {
		e    *controlv1.Event
		want string
	}{
		{&controlv1.Event{Event: "open"}, "-"},
		{&controlv1.Event{Event: "rename", Detail: []byte("/a b\n\xff"), Args: []*controlv1.Argument{arg("flags", 1)}}, `flags=RENAME_NOREPLACE,detail=/a\x20b\n\xff`},
		{&controlv1.Event{Event: "connect", Args: []*controlv1.Argument{arg("family", 2), arg("type", 1), arg("protocol", 6), arg("port", 443), arg("addr_high", 0), arg("addr_low", 0xffffc0000201)}},
			"family=inet,type=stream,protocol=tcp,port=443,addr=192.0.2.1"},
		{&controlv1.Event{Event: "connect", Args: []*controlv1.Argument{arg("family", 10), arg("port", 53), arg("addr_high", 0x20010db8<<32), arg("addr_low", 1)}}, "family=inet6,port=53,addr=2001:db8::1"},
		{&controlv1.Event{Event: "bind", Args: []*controlv1.Argument{arg("family", 1), arg("addr_high", 0), arg("addr_low", 0)}}, "family=unix"},
		{&controlv1.Event{Event: "chmod", Args: []*controlv1.Argument{arg("mode", 0o100644)}}, "mode=0o100644"},
		{&controlv1.Event{Event: "of_tomorrow", Args: []*controlv1.Argument{arg("new thing", 5)}}, `new\x20thing=5`},
	} {
		if got := factsText(tc.e); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.e.Event, got, tc.want)
		}
	}
}

func TestOutputErrorsAreFailures(t *testing.T) {
	var stderr bytes.Buffer
	if got := testApp(nil, failingWriter{}, &stderr).run([]string{"version"}); got != exitFailure {
		t.Errorf("exit code = %d, want %d", got, exitFailure)
	}
	if got, want := stderr.String(), "arbiterctl: writing the output: disk full\n"; got != want {
		t.Errorf("stderr = %q, want %q", got, want)
	}
}

// TestEventOfLosesNothing wants every field of the engine's event set from a
// message in which every field is set.
func TestEventOfLosesNothing(t *testing.T) {
	at := timestamppb.New(madeUp["denied"].Time)
	got := eventOf(&controlv1.Event{Seq: 1, Time: at, Event: "connect", Access: []string{"read", "write", "exec", "append", "truncate", "create"},
		Verdict: "deny", Errno: 13, Rule: "r", Line: 2, Message: "m", Epoch: 3, Fingerprint: 4, Reason: "worker_error", Cached: true, Late: true,
		Latency: durationpb.New(5), Worker: 6,
		Subject: &controlv1.Subject{Tgid: 7, Tid: 8, Uid: 9, Gid: 10, StartBoottimeNs: 11, Comm: []byte("c"), Exe: []byte("/e"), Credentials: "1:5:0000000000000002:net"},
		Object:  &controlv1.Object{Path: []byte("/p"), Dev: 12, Ino: 13, Sha256: "ab", Format: "script", Fsverity: "none", Attributes: "1:2:0o4755", Scan: "infected", Size: "4096", Signature: []byte("a\xffb")},
		Detail:  []byte("d"), Asked: "answered", AnsweredBy: 16,
		Args: []*controlv1.Argument{{Name: "port", Value: 14}, {Name: "of_tomorrow", Value: 15}},
		Euid: 16, Egid: 17, Flags: []string{"no_exe", "detail_truncated"}, Cgroups: []uint64{18, 19}, Facts: []string{"path", "args", "of_tomorrow"},
		InTrees: [][]byte{[]byte("/t")}, NotInTrees: [][]byte{[]byte("/u"), []byte("/v")}})
	want := &arbiter.Event{Seq: 1, Time: at.AsTime(), Event: abi.EventConnect,
		Access:  abi.AccessRead | abi.AccessWrite | abi.AccessExec | abi.AccessAppend | abi.AccessTruncate | abi.AccessCreated,
		Verdict: "deny", Errno: 13, Rule: "r", Line: 2, Message: "m", Epoch: 3, Fingerprint: 4, Reason: abi.ReasonWorkerError, Cached: true,
		Late: true, Latency: 5, Worker: 6, TGID: 7, TID: 8, UID: 9, GID: 10, StartBoottime: 11, Comm: "c", Exe: "/e", Path: "/p", Dev: 12, Ino: 13, SHA256: "ab", Format: abi.FormatScript, Verity: abi.Verity{Alg: abi.VerityNone}, Attributes: abi.Attributes{UID: 1, GID: 2, Mode: 0o104755},
		Credentials: abi.Credentials{Known: true, LoginUID: 1, Session: 5, Capabilities: 2, HostNamespaces: 1 << abi.NamespaceNet},
		Scan:        abi.ScanInfected, Size: abi.Size{Known: true, Bytes: 4096}, Signature: "a\xffb",
		Detail: "d", Asked: "answered", AnsweredBy: 16, Args: [abi.Args]uint64{3: 14}, EUID: 16, EGID: 17, Flags: abi.FlagNoExe | abi.FlagDetailTruncated,
		Cgroup: [abi.CgroupLevels]uint64{18, 19}, Facts: abi.FieldPath | abi.FieldArgs,
		InTrees: []string{"/t"}, NotInTrees: []string{"/u", "/v"}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(arbiter.Event{})); diff != "" {
		t.Errorf("eventOf differs (-want +got):\n%s", diff)
	}
	v := reflect.ValueOf(*got)
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() {
			t.Errorf("the event's %s is not carried", f.Name)
		}
	}
	kind := eventOf(&controlv1.Event{Time: at, Event: "open", Object: &controlv1.Object{Format: "of_tomorrow", Fsverity: "of_tomorrow:00", Attributes: "of_tomorrow", Size: "of_tomorrow", Scan: "of_tomorrow"}, Subject: &controlv1.Subject{Credentials: "of_tomorrow"},
		Facts: []string{"path", "format", "fsverity", "attributes", "credentials", "scan", "size"}})
	if kind.Facts != abi.FieldPath || kind.Format != abi.FormatUnknown || kind.Verity.Alg != abi.VerityUnknown || kind.Attributes.Known() || kind.Credentials.Known || kind.Scan != abi.ScanUnknown || kind.Size.Known {
		t.Errorf("with a format, a hash and a result of a newer daemon: %q, %v, %q, and the facts %v, want none and path", kind.Format, kind.Verity, kind.Scan, kind.Facts.Names())
	}
	unknown := eventOf(&controlv1.Event{Time: at, Event: "of_tomorrow", Reason: "new_reason", Flags: []string{"new_flag"}, Facts: []string{"path"}})
	if unknown.Facts != 0 {
		t.Errorf("with a flag of a newer daemon the facts are %v, want none to rely on", unknown.Facts.Names())
	}
	if unknown.Event.String() != "unknown" || unknown.Reason.String() != "unknown" {
		t.Errorf("words of a newer daemon = %v, %v, want unknown, unknown", unknown.Event, unknown.Reason)
	}
}
