// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/rules"
)

// rulesService translates between the wire and Rules.
type rulesService struct {
	controlv1.UnimplementedRulesServiceServer
	rules *Rules
	info  func() Info
	files chan struct{} // one place for each file that is being sent

	compiling chan struct{} // one place, for rules that are compiled to explain by them
}

func (s *rulesService) Push(ctx context.Context, req *controlv1.PushRequest) (*controlv1.PushResponse, error) {
	who, _ := callerOf(ctx)
	confirm, err := confirmWithin(req)
	if err != nil {
		return nil, err
	}
	canary, err := canaryStart(req)
	if err != nil {
		return nil, err
	}
	out, err := s.rules.Push(ctx, Push{ConfirmWithin: confirm, Canary: canary, Source: req.GetSource(), Signature: req.Signature, Name: nameOf(req), ExpectedEpoch: req.ExpectedEpoch,
		DryRun: req.GetDryRun(), BestEffort: req.GetBestEffort(), Reason: req.GetReason(), UID: who.uid})
	if err != nil {
		return nil, pushStatus(err)
	}
	answer := pushMessage(out)
	if canary != nil && !req.GetDryRun() && !out.Unchanged {
		answer.Canary = s.rules.canaryMessage()
	}
	return answer, nil
}

func pushMessage(out Pushed) *controlv1.PushResponse {
	return &controlv1.PushResponse{Epoch: out.Epoch, Fingerprint: out.Fingerprint, RuleCount: uint32(out.Rules), ConfirmBy: confirmBy(out),
		Warnings: valid(out.Warnings), Diff: diffMessage(out.Diff), Unchanged: out.Unchanged, PreviousEpoch: out.Previous,
		KeyId: out.KeyID, Serial: out.Serial}
}

// EditSet implements the RPC.
func (s *rulesService) EditSet(ctx context.Context, req *controlv1.EditSetRequest) (*controlv1.PushResponse, error) {
	who, _ := callerOf(ctx)
	confirm, err := confirmWithin(req)
	if err != nil {
		return nil, err
	}
	edit := rules.SetEdit{Name: req.GetName(), Replace: req.GetReplace(), Add: texts(req.GetAdd()), Remove: texts(req.GetRemove())}
	out, err := s.rules.EditSet(ctx, edit, Push{ConfirmWithin: confirm, ExpectedEpoch: req.ExpectedEpoch, DryRun: req.GetDryRun(), Reason: req.GetReason(), UID: who.uid})
	if err != nil {
		return nil, pushStatus(err)
	}
	return pushMessage(out), nil
}

func texts(values [][]byte) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func confirmBy(p Pushed) *timestamppb.Timestamp {
	if p.ConfirmBy.IsZero() {
		return nil
	}
	return timestamppb.New(p.ConfirmBy)
}

// confirmWithin returns how long the rules have to be confirmed, 0 for not at all.
func confirmWithin(req interface{ GetConfirmWithin() *durationpb.Duration }) (time.Duration, error) {
	if req.GetConfirmWithin() == nil {
		return 0, nil
	}
	long := req.GetConfirmWithin().AsDuration()
	if long < MinConfirmWithin || long > MaxConfirmWithin {
		return 0, status.Errorf(codes.InvalidArgument, "confirm_within %v: give %v to %v", long, MinConfirmWithin, MaxConfirmWithin)
	}
	return long, nil
}

func (s *rulesService) Confirm(ctx context.Context, req *controlv1.ConfirmRequest) (*controlv1.ConfirmResponse, error) {
	who, _ := callerOf(ctx)
	if err := s.rules.Confirm(ctx, req.GetEpoch(), who.uid); err != nil {
		return nil, pushStatus(err)
	}
	return &controlv1.ConfirmResponse{Epoch: req.GetEpoch()}, nil
}

func (s *rulesService) Revert(ctx context.Context, req *controlv1.RevertRequest) (*controlv1.RevertResponse, error) {
	who, _ := callerOf(ctx)
	previous, err := s.rules.Revert(ctx, req.GetEpoch(), who.uid)
	if err != nil {
		return nil, pushStatus(err)
	}
	return &controlv1.RevertResponse{Epoch: previous}, nil
}

// nameOf returns the file's name, one for positions when there is none.
func nameOf(req interface{ GetName() string }) string {
	if req.GetName() == "" {
		return "rules"
	}
	return req.GetName()
}

func (s *rulesService) Rollback(ctx context.Context, req *controlv1.RollbackRequest) (*controlv1.RollbackResponse, error) {
	who, _ := callerOf(ctx)
	confirm, err := confirmWithin(req)
	if err != nil {
		return nil, err
	}
	out, err := s.rules.Rollback(ctx, req.GetEpoch(), Push{ConfirmWithin: confirm, ExpectedEpoch: req.ExpectedEpoch,
		BestEffort: req.GetBestEffort(), Reason: req.GetReason(), UID: who.uid})
	if err != nil {
		return nil, pushStatus(err)
	}
	return &controlv1.RollbackResponse{Epoch: out.Epoch, Fingerprint: out.Fingerprint, RuleCount: uint32(out.Rules), ConfirmBy: confirmBy(out),
		Warnings: valid(out.Warnings), Diff: diffMessage(out.Diff), PreviousEpoch: out.Previous, Unchanged: out.Unchanged,
		KeyId: out.KeyID, Serial: out.Serial}, nil
}

func (s *rulesService) Get(_ context.Context, req *controlv1.GetRequest) (*controlv1.GetResponse, error) {
	if epoch, size := s.rules.size(req.Epoch); size > MaxMessageBytes/2 {
		return nil, status.Errorf(codes.ResourceExhausted, "the rules of epoch %d have %d bytes: get them by GetFile", epoch, size)
	}
	return s.get(req.Epoch)
}

// get returns a rule set with its text; nil for the one in force.
func (s *rulesService) get(epoch *uint64) (*controlv1.GetResponse, error) {
	live := s.rules.inForce()
	if epoch != nil && (live == nil || *epoch != live.Epoch()) {
		m, source, err := s.rules.load(*epoch)
		if err != nil {
			return nil, pushStatus(err)
		}
		return &controlv1.GetResponse{Info: infoMessage(m, s.rules.epoch()), Source: source, Signature: m.Signature}, nil
	}
	if live == nil {
		return nil, errNoRules()
	}
	m, known := s.rules.metaOf(live)
	if !known { // in force by other means than a push
		m = store.Meta{Epoch: live.Epoch(), Fingerprint: live.Fingerprint(), Rules: live.Len()}
	}
	m.Size = live.SourceLen()
	return &controlv1.GetResponse{Info: infoMessage(m, live.Epoch()), Source: live.Source(), Signature: m.Signature}, nil
}

func (s *rulesService) History(_ context.Context, req *controlv1.HistoryRequest) (*controlv1.HistoryResponse, error) {
	out := &controlv1.HistoryResponse{}
	current := s.rules.epoch()
	for _, m := range s.rules.cfg.Store.History(int(min(req.GetLimit(), 1<<30))) {
		out.Entries = append(out.Entries, infoMessage(m, current))
	}
	return out, nil
}

// errNoRules is the status of a question about the rules in force when there are none.
func errNoRules() error {
	return status.Error(codes.NotFound, ErrNoRules.Error())
}

func infoMessage(m store.Meta, current uint64) *controlv1.RuleSetInfo {
	info := &controlv1.RuleSetInfo{Epoch: m.Epoch, Fingerprint: m.Fingerprint, Uid: m.UID, Reason: m.Reason, Name: m.Name,
		RuleCount: uint32(m.Rules), Size: uint64(m.Size), Current: m.Epoch == current, RollbackOf: m.RollbackOf, KeyId: m.KeyID, Serial: m.Serial}
	if !m.PushedAt.IsZero() {
		info.PushedAt = timestamppb.New(m.PushedAt)
	}
	return info
}

func diffMessage(d rules.Diff) *controlv1.RuleDiff {
	const named = 10_000 // of each kind: a message has room for them
	first := func(ids []string) []string { return ids[:min(len(ids), named)] }
	return &controlv1.RuleDiff{Added: first(d.Added), Removed: first(d.Removed), Changed: first(d.Changed), SettingsChanged: d.Settings,
		AddedCount: uint32(len(d.Added)), RemovedCount: uint32(len(d.Removed)), ChangedCount: uint32(len(d.Changed))}
}

// pushStatus gives an error of Rules its code and its typed details.
func pushStatus(err error) error {
	var problems rules.Problems
	var stale *StaleError
	var stage *StageError
	var unkept *UnkeptError
	var pending *PendingError
	var unsigned *signature.Error
	var locked *LockedError
	var canary *CanaryError
	switch {
	case errors.As(err, &canary), errors.Is(err, ErrShadowRuns):
		return status.Error(codes.FailedPrecondition, utf8(err.Error()))
	case errors.As(err, &unsigned):
		return detailed(codes.FailedPrecondition, unsigned.Error()+"; the rules in force still are: "+unsigned.Next, signatureProblem(unsigned))
	case errors.As(err, &locked):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.As(err, &unkept):
		return detailed(codes.FailedPrecondition, err.Error(), problemsMessage(unkept.Problems))
	case errors.As(err, &problems):
		text := fmt.Sprintf("the rules have %d problems and were not applied; the first: %v", len(problems), problems[0])
		if len(problems) == 1 {
			text = "the rules were not applied: " + problems[0].Error()
		}
		return detailed(codes.InvalidArgument, text, problemsMessage(problems))
	case errors.As(err, &stale):
		return detailed(codes.FailedPrecondition, err.Error(),
			&controlv1.StaleEpoch{ExpectedEpoch: stale.Expected, CurrentEpoch: stale.Current})
	case errors.As(err, &stage):
		code := codes.Unavailable
		switch {
		case stage.Reverted != nil:
			code = codes.DataLoss
		case stage.Stage == StageCheck:
			code = codes.FailedPrecondition
		case stage.Stage == StageApply:
			code = codes.Internal
		}
		return status.Error(code, utf8(err.Error()))
	case errors.As(err, &pending):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, ErrNotPending):
		text := err.Error() + ", or no longer; see `arbiterctl status`"
		return status.Error(codes.FailedPrecondition, text)
	case errors.Is(err, ErrFrozen):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, ErrNoRules):
		return errNoRules()
	case errors.Is(err, rules.ErrNoSet), errors.Is(err, ErrNoRules):
		return status.Error(codes.NotFound, utf8(err.Error()))
	case errors.Is(err, ErrEdit):
		return status.Error(codes.InvalidArgument, utf8(err.Error()))
	case errors.Is(err, ErrEpochNotKept):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, store.ErrCorrupt):
		return status.Error(codes.DataLoss, utf8(err.Error())+"; choose another epoch from `arbiterctl rules history`")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, utf8(err.Error()))
}

func problemsMessage(ps rules.Problems) *controlv1.RuleProblems {
	m := &controlv1.RuleProblems{}
	for _, p := range ps {
		m.Problems = append(m.Problems, &controlv1.RuleProblem{File: utf8(p.File), Line: uint32(p.Line),
			Column: uint32(p.Column), Message: utf8(p.Message), Hint: utf8(p.Hint), Rule: utf8(p.Rule)})
	}
	return m
}

// detailed is a status with one detail.
func detailed(code codes.Code, text string, detail protoadapt.MessageV1) error {
	st, err := status.New(code, utf8(text)).WithDetails(detail)
	if err != nil {
		return status.Error(code, utf8(text))
	}
	return st.Err()
}

// utf8 makes s fit for a string of the wire.
func utf8(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func valid(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = utf8(t)
	}
	return out
}
