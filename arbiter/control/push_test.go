// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// wantStatus checks code and text of an error.
func wantStatus(t *testing.T, err error, code codes.Code, parts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %v", err, code)
	}
	for _, p := range parts {
		if !strings.Contains(status.Convert(err).Message(), p) {
			t.Errorf("got %q, want it to say %q", status.Convert(err).Message(), p)
		}
	}
}

// detail returns the one detail of an error.
func detail[T proto.Message](t *testing.T, err error) T {
	t.Helper()
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%v has %d details, want 1", err, len(details))
	}
	d, ok := details[0].(T)
	if !ok {
		t.Fatalf("the detail is a %T", details[0])
	}
	return d
}

// Rules about events that are not asked about here are refused with all places, unless
// best effort is asked for.
func TestPushUnkept(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.applier.cannot = map[abi.Event]string{abi.EventMount: "no hook", abi.EventSignal: "no hook", abi.EventBPF: "no hook"}
	const source = `version: 1
default: allow
scope: {paths: [/t]}
events: [signal]
rules:
  - {id: mounts, events: [mount, open], verdict: deny}
  - {id: opens, events: [open], verdict: deny}
`
	for _, dry := range []bool{false, true} {
		_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(source), Name: "r.yaml", DryRun: dry})
		wantStatus(t, err, codes.FailedPrecondition, "2 of the events of rules cannot be asked about here", "the rules that were in force still are")
		ps := detail[*controlv1.RuleProblems](t, err).GetProblems()
		if len(ps) != 2 || ps[0].GetLine() != 4 || ps[0].GetRule() != "" || ps[1].GetLine() != 6 || ps[1].GetRule() != "mounts" || ps[1].GetFile() != "r.yaml" ||
			!strings.Contains(ps[1].GetMessage(), "no hook") {
			t.Errorf("problems %v, want the listed event on line 4 and the rule mounts on line 6", ps)
		}
	}
	if got := f.engine.Rules().Epoch(); got != 1 {
		t.Errorf("epoch %d is in force, want 1", got)
	}
	want := []string{"the event mount is not asked about: no hook; rules without effect on it: mounts", "the event signal is not asked about: no hook; the default is not applied to it"}
	for _, unchanged := range []bool{false, true} {
		out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(source), Name: "r.yaml", BestEffort: true})
		if err != nil || out.GetUnchanged() != unchanged {
			t.Fatalf("best effort: %v, %v, want unchanged %t", out, err, unchanged)
		}
		if diff := cmp.Diff(want, out.GetWarnings()); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}
	// Going back to it is a push like another.
	f.push(ruleFile("a"))
	_, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 2})
	wantStatus(t, err, codes.FailedPrecondition)
	if out, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 2, BestEffort: true}); err != nil || len(out.GetWarnings()) != 2 {
		t.Errorf("rollback with best effort: %v, %v, want two warnings", out, err)
	}
}

func TestPushGetHistoryRollback(t *testing.T) {
	f := newFixture(t, nil, nil)
	first := f.push(ruleFile("a", "b"))
	want := &controlv1.PushResponse{Epoch: 1, RuleCount: 2, Fingerprint: f.engine.Rules().Fingerprint(),
		Diff: &controlv1.RuleDiff{Added: []string{"a", "b"}, Removed: []string{"boot"}, AddedCount: 2, RemovedCount: 1}}
	if diff := cmp.Diff(want, first, protocmp.Transform()); diff != "" {
		t.Errorf("first push (-want +got):\n%s", diff)
	}
	f.applier.warnings = []string{"slow"}
	second := f.push(ruleFile("b", "c"))
	want = &controlv1.PushResponse{Epoch: 2, RuleCount: 2, Fingerprint: f.engine.Rules().Fingerprint(), PreviousEpoch: 1,
		Warnings: []string{"slow"}, Diff: &controlv1.RuleDiff{Added: []string{"c"}, Removed: []string{"a"}, AddedCount: 1, RemovedCount: 1}}
	if diff := cmp.Diff(want, second, protocmp.Transform()); diff != "" {
		t.Errorf("second push (-want +got):\n%s", diff)
	}

	got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{})
	if err != nil || string(got.GetSource()) != ruleFile("b", "c") || got.GetInfo().GetEpoch() != 2 || !got.GetInfo().GetCurrent() {
		t.Errorf("Get: got %v, %v; want epoch 2 with its source", got, err)
	}
	got, err = f.rules.Get(f.ctx(), &controlv1.GetRequest{Epoch: proto.Uint64(1)})
	if err != nil || string(got.GetSource()) != ruleFile("a", "b") || got.GetInfo().GetCurrent() {
		t.Errorf("Get epoch 1: got %v, %v; want its source, not current", got, err)
	}

	back, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1, ExpectedEpoch: proto.Uint64(2)})
	if err != nil || back.GetEpoch() != 3 || back.GetFingerprint() != first.GetFingerprint() {
		t.Fatalf("Rollback: got %v, %v; want epoch 3 with the fingerprint of epoch 1", back, err)
	}
	if rs := f.engine.Rules(); rs.Epoch() != 3 || string(rs.Source()) != ruleFile("a", "b") {
		t.Errorf("in force: epoch %d, want 3 with the text of epoch 1", rs.Epoch())
	}
	if got := f.applier.reasons; len(got) != 3 || got[2] != cache.RolledBack {
		t.Errorf("reasons of the flushes: %v, want the last to be %v", got, cache.RolledBack)
	}

	history, err := f.rules.History(f.ctx(), &controlv1.HistoryRequest{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantEntries := []*controlv1.RuleSetInfo{
		{Epoch: 3, Fingerprint: first.GetFingerprint(), Uid: uint32(os.Getuid()), Reason: "rollback to epoch 1", Name: "a.yaml",
			RuleCount: 2, Size: uint64(len(ruleFile("a", "b"))), Current: true, RollbackOf: 1},
		{Epoch: 2, Fingerprint: second.GetFingerprint(), Uid: uint32(os.Getuid()), Reason: "test", Name: "a.yaml",
			RuleCount: 2, Size: uint64(len(ruleFile("b", "c")))},
	}
	for _, e := range history.GetEntries() {
		if e.GetPushedAt().AsTime().Year() < 2020 {
			t.Errorf("epoch %d was pushed at %v", e.GetEpoch(), e.GetPushedAt().AsTime())
		}
	}
	ignoreTime := protocmp.IgnoreFields(&controlv1.RuleSetInfo{}, "pushed_at")
	if diff := cmp.Diff(wantEntries, history.GetEntries(), protocmp.Transform(), ignoreTime); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}

	_, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 99})
	wantStatus(t, err, codes.NotFound, "epoch 99", "arbiterctl rules history")
	_, err = f.rules.Get(f.ctx(), &controlv1.GetRequest{Epoch: proto.Uint64(99)})
	wantStatus(t, err, codes.NotFound, "epoch 99")
}

func TestPushReportsEveryProblem(t *testing.T) {
	f := newFixture(t, nil, nil)
	before := f.engine.Rules()
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Name: "bad.yaml", Source: []byte(
		"version: 1\ndefault: alow\nscope: {paths: [/t]}\nrules:\n  - id: a\n    events: [exec]\n    verdict: deny\n  - id: a\n    events: [exce]\n    verdict: deny\n")})
	wantStatus(t, err, codes.InvalidArgument, "problems", "bad.yaml:2:")
	problems := detail[*controlv1.RuleProblems](t, err).GetProblems()
	var lines []uint32
	for _, p := range problems {
		lines = append(lines, p.GetLine())
		if p.GetFile() != "bad.yaml" || p.GetColumn() == 0 || p.GetMessage() == "" {
			t.Errorf("incomplete problem %v", p)
		}
	}
	if diff := cmp.Diff([]uint32{2, 8, 9}, lines); diff != "" {
		t.Errorf("lines of the problems (-want +got):\n%s", diff)
	}
	if f.engine.Rules() != before || f.store.Next() != 1 {
		t.Error("a bad file changed something")
	}
}

// TestPushReportsManyProblems checks that the largest report fits through the
// status of a call.
func TestPushReportsManyProblems(t *testing.T) {
	f := newFixture(t, nil, nil)
	var b strings.Builder
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  - {id: %s, events: [exec], verdict: dney}\n", strings.Repeat("X", 150)+fmt.Sprint(i))
	}
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(b.String())})
	wantStatus(t, err, codes.InvalidArgument)
	if n := len(detail[*controlv1.RuleProblems](t, err).GetProblems()); n < 1000 {
		t.Errorf("%d problems arrived, want at least 1000", n)
	}
}

func TestPushStaleEpoch(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	before := f.engine.Rules()
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b")), ExpectedEpoch: proto.Uint64(7)})
	wantStatus(t, err, codes.FailedPrecondition, "epoch 1 is in force, not 7", "arbiterctl rules get")
	if d := detail[*controlv1.StaleEpoch](t, err); d.GetExpectedEpoch() != 7 || d.GetCurrentEpoch() != 1 {
		t.Errorf("detail %v, want 7 and 1", d)
	}
	_, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1, ExpectedEpoch: proto.Uint64(0)})
	wantStatus(t, err, codes.FailedPrecondition, "epoch 1 is in force, not 0")
	if f.engine.Rules() != before {
		t.Error("a stale push changed the rules")
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	before := f.engine.Rules()
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b")), DryRun: true})
	if err != nil || out.GetEpoch() != 2 || out.GetPreviousEpoch() != 1 || len(out.GetDiff().GetAdded()) != 1 {
		t.Errorf("got %v, %v; want epoch 2, previous 1, one rule added", out, err)
	}
	if f.engine.Rules() != before || f.store.Next() != 2 || len(f.store.History(0)) != 1 {
		t.Error("a dry run changed something")
	}
	f.applier.checkErr = errors.New("no BPF LSM here")
	_, err = f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b")), DryRun: true})
	wantStatus(t, err, codes.FailedPrecondition, "no BPF LSM here", "still are")
}

func TestPushUnchanged(t *testing.T) {
	f := newFixture(t, nil, nil)
	first := f.push(ruleFile("a"))
	again := f.push(ruleFile("a"))
	if !again.GetUnchanged() || again.GetEpoch() != first.GetEpoch() || f.store.Next() != 2 {
		t.Errorf("same text: got %v, want unchanged in epoch %d", again, first.GetEpoch())
	}
	other := f.push("# a comment\n" + ruleFile("a"))
	if other.GetUnchanged() || other.GetEpoch() != 2 || other.GetFingerprint() != first.GetFingerprint() {
		t.Errorf("other comment: got %v, want a new epoch with the same fingerprint", other)
	}
	if diff := cmp.Diff(&controlv1.RuleDiff{}, other.GetDiff(), protocmp.Transform()); diff != "" {
		t.Errorf("diff of another comment (-want +got):\n%s", diff)
	}
}

// What was removed and made again is another thing: the same text finds the new one.
func TestPushUnchangedMoved(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.applier.moved = true
	if again := f.push(ruleFile("a")); again.GetUnchanged() || again.GetEpoch() != 2 || len(f.applier.applied) != 2 {
		t.Errorf("got %v after %d calls of Apply, want a new epoch that was applied", again, len(f.applier.applied))
	}
}

// TestPushUnchangedWithCgroups: a cgroup that was made anew has another id.
func TestPushUnchangedWithCgroups(t *testing.T) {
	id := uint64(1)
	f := newFixture(t, func(_ *Config, rc *RulesConfig) {
		rc.CgroupID = func(string) (uint64, error) { id++; return id, nil }
	}, nil)
	text := strings.Replace(ruleFile("a"), "object: {path: /t/a}", "subject: {cgroup: /x}", 1)
	f.push(text)
	if again := f.push(text); again.GetUnchanged() || again.GetEpoch() != 2 {
		t.Errorf("got %v, want a new epoch", again)
	}
}

// TestPushFailures lets a push fail at each step, and checks that the rules in
// force, the store and the history are what they were, and that the next push
// works.
func TestPushFailures(t *testing.T) {
	errNo := errors.New("will not")
	block := func(t *testing.T, f *fixture, name string) {
		// A folder where the temporary file should be makes the write fail, also
		// for root.
		if err := os.Mkdir(filepath.Join(f.store.Dir(), name+".tmp"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		spoil func(t *testing.T, f *fixture)
		code  codes.Code
		stage Stage
		text  string
	}{
		{"check", func(_ *testing.T, f *fixture) { f.applier.checkErr = errNo }, codes.FailedPrecondition, StageCheck, "will not"},
		{"store", func(t *testing.T, f *fixture) { block(t, f, "00000000000000000002.rules") }, codes.Unavailable, StageStore, "is a directory"},
		{"apply refuses", func(_ *testing.T, f *fixture) { f.applier.failures = []error{errNo} }, codes.Internal, StageApply, "will not"},
		{"apply fails half way", func(_ *testing.T, f *fixture) {
			f.applier.failures, f.applier.failLate = []error{errNo}, true
		}, codes.Internal, StageApply, "will not"},
		{"commit", func(t *testing.T, f *fixture) { block(t, f, "current") }, codes.Unavailable, StageCommit, "is a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil, nil)
			f.push(ruleFile("a"))
			before := f.engine.Rules()
			tt.spoil(t, f)
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b"))})
			wantStatus(t, err, tt.code, string(tt.stage), tt.text, "the rules that were in force still are")
			if now := f.engine.Rules(); now != before {
				t.Errorf("epoch %d is in force, want %d as before", now.Epoch(), before.Epoch())
			}
			f.wantServed()

			// The obstacle goes away, and the next push is as good as any.
			f.applier.checkErr, f.applier.failLate = nil, false
			temp, _ := filepath.Glob(filepath.Join(f.store.Dir(), "*.tmp"))
			for _, dir := range temp {
				os.Remove(dir)
			}
			if out := f.push(ruleFile("c")); out.GetEpoch() < 2 || f.engine.Rules().Epoch() != out.GetEpoch() {
				t.Errorf("next push: got epoch %d, in force %d", out.GetEpoch(), f.engine.Rules().Epoch())
			}

			// A restart finds what was in force.
			f.store.Close()
			f.store = openStore(t, f.store.Dir())
			if m, _ := f.store.Current(); m.Epoch != f.engine.Rules().Epoch() {
				t.Errorf("after a restart the current epoch is %d, want %d", m.Epoch, f.engine.Rules().Epoch())
			}
		})
	}
}

func TestPushCannotGoBack(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.applier.failLate = true
	f.applier.failures = []error{errors.New("first"), errors.New("second")}
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b"))})
	wantStatus(t, err, codes.DataLoss, "first", "second", "restart arbiterd")
}

// TestPushCallerGoesAway: before the rules are applied nothing happens, from
// then on the push is finished.
func TestPushCallerGoesAway(t *testing.T) {
	f := newFixture(t, nil, nil)
	r := f.direct
	ctx, cancel := context.WithCancel(f.ctx())
	f.applier.during = func(*rules.RuleSet) { cancel() }
	if _, err := r.Push(ctx, Push{Source: []byte(ruleFile("a"))}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone before: got %v, want %v", err, context.Canceled)
	}
	if f.engine.Rules().Epoch() != 0 || f.store.Next() != 1 {
		t.Error("gone before: something changed")
	}
	ctx, cancel = context.WithCancel(f.ctx())
	f.applier.during = nil
	f.applier.applying = func(applyCtx context.Context) {
		cancel()
		if err := applyCtx.Err(); err != nil {
			t.Errorf("the context of Apply: %v", err)
		}
		if _, ok := applyCtx.Deadline(); !ok {
			t.Error("the context of Apply has no deadline")
		}
	}
	if _, err := r.Push(ctx, Push{Source: []byte(ruleFile("a"))}); err != nil || f.engine.Rules().Epoch() != 1 {
		t.Errorf("gone meanwhile: got %v, epoch %d; want epoch 1 in force", err, f.engine.Rules().Epoch())
	}
}

// TestConcurrentPushes: of many that expect the same epoch one wins.
func TestConcurrentPushes(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	const pushers = 16
	errs := make([]error, pushers)
	var wg sync.WaitGroup
	for i := range pushers {
		wg.Go(func() {
			_, errs[i] = f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile(fmt.Sprint("r", i))), ExpectedEpoch: proto.Uint64(1)})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		wantStatus(t, err, codes.FailedPrecondition, "epoch 2 is in force, not 1")
	}
	if won != 1 || f.engine.Rules().Epoch() != 2 || f.store.Next() != 3 {
		t.Errorf("%d pushes won, epoch %d in force, next %d; want 1, 2, 3", won, f.engine.Rules().Epoch(), f.store.Next())
	}
}

// TestEpochsSurviveRestart: a push after a restart gets a higher epoch.
func TestEpochsSurviveRestart(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.applier.failures = []error{errors.New("no")}
	f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b"))})
	f.store.Close()
	r, err := NewRules(RulesConfig{Engine: f.engine, Applier: f.applier, Store: openStore(t, f.store.Dir())})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Push(f.ctx(), Push{Source: []byte(ruleFile("c"))})
	if err != nil || out.Epoch != 3 {
		t.Errorf("got epoch %d, %v; want 3", out.Epoch, err)
	}
}

func TestDamagedEpochCannotComeBack(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.push(ruleFile("b"))
	if err := os.Truncate(filepath.Join(f.store.Dir(), "00000000000000000001.rules"), 100); err != nil {
		t.Fatal(err)
	}
	_, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1})
	wantStatus(t, err, codes.DataLoss, "damaged", "arbiterctl rules history")
	if f.engine.Rules().Epoch() != 2 {
		t.Errorf("epoch %d is in force, want 2", f.engine.Rules().Epoch())
	}
}

func TestPushTooLarge(t *testing.T) {
	f := newFixture(t, nil, nil)
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: make([]byte, MaxMessageBytes)})
	wantStatus(t, err, codes.ResourceExhausted)
}

// pushFile pushes text in parts of so many bytes.
func (f *fixture) pushFile(text string, size int) (*controlv1.PushResponse, error) {
	f.t.Helper()
	stream, err := f.rules.PushFile(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	err = stream.Send(&controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Push{Push: &controlv1.PushRequest{Name: "f.yaml"}}})
	for part := range slices.Chunk([]byte(text), size) {
		if err == nil {
			err = stream.Send(&controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Text{Text: part}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.t.Fatal(err)
	}
	return stream.CloseAndRecv()
}

func TestPushFile(t *testing.T) {
	f := newFixture(t, nil, nil)
	text := ruleFile("a") + "#" + strings.Repeat("x", MaxMessageBytes)
	if _, err := f.pushFile(text, 1<<20); err != nil {
		t.Fatal(err)
	}
	_, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{})
	wantStatus(t, err, codes.ResourceExhausted)
	get, err := f.rules.GetFile(f.ctx(), &controlv1.GetFileRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	var info *controlv1.RuleSetInfo
	for {
		m, err := get.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.GetGet() != nil {
			info = m.GetGet().GetInfo()
		}
		got.Write(m.GetText())
	}
	if got.String() != text || info.GetSize() != uint64(len(text)) || info.GetEpoch() != 1 {
		t.Errorf("got %d bytes, %v; want %d", got.Len(), info, len(text))
	}
	if _, err := f.pushFile("rules: wrong", 3); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a wrong file: %v", err)
	}
}

// TestGetFileGivesItsPlaceBack: who stops reading keeps nobody else from it.
func TestGetFileGivesItsPlaceBack(t *testing.T) {
	f := newFixture(t, nil, nil)
	if _, err := f.pushFile(ruleFile("a")+"#"+strings.Repeat("x", MaxMessageBytes), 1<<20); err != nil {
		t.Fatal(err)
	}
	for range 2 * maxFiles {
		ctx, cancel := context.WithCancel(f.ctx())
		get, err := f.rules.GetFile(ctx, &controlv1.GetFileRequest{})
		if err == nil {
			_, err = get.Recv()
		}
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPushFileMessages(t *testing.T) {
	f := newFixture(t, nil, nil)
	part := func(text string) *controlv1.PushFileRequest {
		return &controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Text{Text: []byte(text)}}
	}
	push := func(source string) *controlv1.PushFileRequest {
		return &controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Push{Push: &controlv1.PushRequest{Source: []byte(source)}}}
	}
	for name, messages := range map[string][]*controlv1.PushFileRequest{
		"no push":       {part("x")},
		"empty":         {{}},
		"with a source": {push("x")},
		"a second push": {push(""), part("x"), push("")},
	} {
		stream, err := f.rules.PushFile(f.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		if _, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}

func TestNewRulesChecks(t *testing.T) {
	if _, err := NewRules(RulesConfig{}); err == nil {
		t.Error("an empty configuration was taken")
	}
	_, err := New(Config{})
	for _, part := range []string{"Engine", "Rules", "Info"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("New of an empty configuration: got %v, want it to name %s", err, part)
		}
	}
}
