// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// shadowService translates between the wire and what Rules does with candidates.
type shadowService struct {
	controlv1.UnimplementedShadowServiceServer
	rules *Rules
}

func (s *shadowService) Start(ctx context.Context, req *controlv1.ShadowStartRequest) (*controlv1.ShadowStartResponse, error) {
	who, _ := callerOf(ctx)
	p := ShadowStart{Source: req.GetSource(), Name: nameOf(req), ExpectedEpoch: req.ExpectedEpoch, MinDecisions: req.GetMinDecisions(),
		BestEffort: req.GetBestEffort(), Signature: req.Signature, Reason: req.GetReason(), UID: who.uid}
	if d := req.GetPromoteWhenCleanFor(); d != nil {
		if p.PromoteWhenCleanFor = d.AsDuration(); p.PromoteWhenCleanFor < minCleanFor || p.PromoteWhenCleanFor > maxCleanFor {
			return nil, status.Errorf(codes.InvalidArgument, "promote_when_clean_for %v: give %v to %v", p.PromoteWhenCleanFor, minCleanFor, maxCleanFor)
		}
	}
	checked, err := s.rules.StartShadow(ctx, p)
	if err != nil {
		return nil, shadowStatus(err)
	}
	return &controlv1.ShadowStartResponse{State: s.rules.shadowMessage(true), Warnings: valid(checked.Warnings), Diff: diffMessage(checked.Diff)}, nil
}

func (s *shadowService) Get(context.Context, *controlv1.ShadowGetRequest) (*controlv1.ShadowGetResponse, error) {
	m := s.rules.shadowMessage(true)
	if m == nil {
		return nil, shadowStatus(ErrNoShadow)
	}
	return &controlv1.ShadowGetResponse{State: m}, nil
}

func (s *shadowService) Stop(ctx context.Context, _ *controlv1.ShadowStopRequest) (*controlv1.ShadowStopResponse, error) {
	who, _ := callerOf(ctx)
	if err := s.rules.StopShadow(ctx, who.uid); err != nil {
		return nil, shadowStatus(err)
	}
	return &controlv1.ShadowStopResponse{State: s.rules.shadowMessage(true)}, nil
}

func (s *shadowService) Promote(ctx context.Context, req *controlv1.ShadowPromoteRequest) (*controlv1.ShadowPromoteResponse, error) {
	who, _ := callerOf(ctx)
	out, err := s.rules.PromoteShadow(ctx, req.GetForce(), req.GetReason(), who.uid)
	if err != nil {
		return nil, shadowStatus(err)
	}
	return &controlv1.ShadowPromoteResponse{Epoch: out.Epoch, PreviousEpoch: out.Previous, Fingerprint: out.Fingerprint, RuleCount: uint32(out.Rules),
		Warnings: valid(out.Warnings), Diff: diffMessage(out.Diff), Unchanged: out.Unchanged, KeyId: out.KeyID, Serial: out.Serial}, nil
}

// shadowStatus gives an error its code.
func shadowStatus(err error) error {
	var blocked *BlockedError
	switch {
	case errors.Is(err, ErrNoShadow):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, ErrNothingBeside), errors.As(err, &blocked):
		return status.Error(codes.FailedPrecondition, utf8(err.Error()))
	}
	return pushStatus(err)
}

// shadowMessage returns how the candidate fares that runs, or the last one; nil when there
// was none. The groups are left out unless they are wanted.
func (r *Rules) shadowMessage(groups bool) *controlv1.ShadowState {
	s := r.shadow.Load()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countLoss()
	t, now := s.tally, time.Now()
	m := &controlv1.ShadowState{Running: s.ended == "", Ended: utf8(s.ended), StartedAt: timestamppb.New(s.started), Uid: s.UID, Name: utf8(s.Name),
		Fingerprint: s.set.Fingerprint(), RuleCount: uint32(s.set.Len()), Epoch: s.beside.Epoch(), MinDecisions: s.MinDecisions,
		Decisions: t.Decided, Changes: map[string]uint64{}, CannotTell: map[string]uint64{}, Failures: t.FailuresByName(), Lost: s.lost,
		UnseenEvents: s.unseen, ScopeDiffers: !s.sameScope, CleanDecisions: s.clean, PromotedEpoch: s.promoted, Others: t.Others}
	if s.PromoteWhenCleanFor > 0 {
		m.PromoteWhenCleanFor = durationpb.New(s.PromoteWhenCleanFor)
	}
	if s.ended == "" {
		m.Blocks = s.blocked(now)
		if s.promotion != "" {
			m.Blocks = append(m.Blocks, utf8("the last promotion failed: "+s.promotion))
		}
	} else {
		m.EndedAt, now = timestamppb.New(s.endedAt), s.endedAt
	}
	m.CleanFor = durationpb.New(s.cleanFor(now))
	for k := trial.Kind(0); k < trial.KindCount; k++ {
		m.Changes[k.String()] = t.Changes[k]
	}
	for f, n := range t.CannotTell {
		m.CannotTell[trial.Missing(f)] = n
	}
	if groups {
		for _, g := range t.Groups() {
			m.Groups = append(m.Groups, &controlv1.ShadowGroup{Kind: g.Kind.String(), Before: outcomeMessage(g.Before), After: outcomeMessage(g.After),
				Program: []byte(g.Program), Count: g.Count, Sample: eventMessage(g.Sample)})
		}
	}
	return m
}

func outcomeMessage(o trial.Outcome) *controlv1.ShadowOutcome {
	m := &controlv1.ShadowOutcome{Verdict: o.Verdict.Action.String(), Errno: uint32(o.Verdict.Errno), Rule: utf8(o.Rule), Line: uint32(o.Line)}
	if o.Reason != abi.ReasonNone {
		m.Reason = o.Reason.String()
	}
	return m
}
