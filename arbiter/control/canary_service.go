// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/trial"
)

// canaryService translates between the wire and what Rules does with a canary.
type canaryService struct {
	controlv1.UnimplementedCanaryServiceServer
	rules *Rules
}

func (s *canaryService) Get(context.Context, *controlv1.CanaryServiceGetRequest) (*controlv1.CanaryServiceGetResponse, error) {
	m := s.rules.canaryMessage()
	if m == nil {
		return nil, canaryStatus(ErrNoCanary)
	}
	return &controlv1.CanaryServiceGetResponse{State: m}, nil
}

func (s *canaryService) Promote(ctx context.Context, _ *controlv1.CanaryServicePromoteRequest) (*controlv1.CanaryServicePromoteResponse, error) {
	who, _ := callerOf(ctx)
	if err := s.rules.PromoteCanary(ctx, who.uid); err != nil {
		return nil, canaryStatus(err)
	}
	return &controlv1.CanaryServicePromoteResponse{State: s.rules.canaryMessage()}, nil
}

func (s *canaryService) Abort(ctx context.Context, _ *controlv1.CanaryServiceAbortRequest) (*controlv1.CanaryServiceAbortResponse, error) {
	who, _ := callerOf(ctx)
	if err := s.rules.AbortCanary(ctx, who.uid); err != nil {
		return nil, canaryStatus(err)
	}
	return &controlv1.CanaryServiceAbortResponse{State: s.rules.canaryMessage()}, nil
}

// canaryStatus gives an error its code.
func canaryStatus(err error) error {
	if errors.Is(err, ErrNoCanary) {
		return status.Error(codes.NotFound, err.Error())
	}
	return pushStatus(err)
}

// canaryStart returns how the pushed rules are to be a canary, nil for not at all.
func canaryStart(req *controlv1.PushRequest) (*CanaryStart, error) {
	m := req.GetCanary()
	if m == nil {
		return nil, nil
	}
	wrong := func(format string, args ...any) (*CanaryStart, error) {
		return nil, status.Errorf(codes.InvalidArgument, "canary: "+format, args...)
	}
	c := &CanaryStart{Percent: m.GetPercent(), Cgroup: utf8(m.GetCgroup()), For: m.GetFor().AsDuration(), MaxDenyRate: DefaultCanaryRate,
		MaxFailureRate: DefaultCanaryRate, MaxLatency: m.GetMaxLatency().AsDuration(), MinDecisions: m.GetMinDecisions()}
	if m.MaxDenyRate != nil {
		c.MaxDenyRate = *m.MaxDenyRate
	}
	if m.MaxFailureRate != nil {
		c.MaxFailureRate = *m.MaxFailureRate
	}
	switch {
	case req.GetConfirmWithin() != nil:
		return wrong("it ends by itself, so there is nothing to confirm: leave confirm_within out, or the canary")
	case c.Cgroup == "" && !(c.Percent > 0 && c.Percent < 100): // also what is no number
		return wrong("%v percent: give a part of the processes, above 0 and below 100, or a cgroup", c.Percent)
	case c.For < minCanaryFor || c.For > maxCanaryFor:
		return wrong("for %v: give %v to %v", c.For, minCanaryFor, maxCanaryFor)
	case !(c.MaxDenyRate >= 0 && c.MaxDenyRate <= 1):
		return wrong("max_deny_rate %v: give 0 to 1", c.MaxDenyRate)
	case !(c.MaxFailureRate >= 0 && c.MaxFailureRate <= 1):
		return wrong("max_failure_rate %v: give 0 to 1", c.MaxFailureRate)
	case m.MaxLatency != nil && c.MaxLatency <= 0:
		return wrong("max_latency %v: give a time, or leave it out", c.MaxLatency)
	}
	return c, nil
}

// canaryMessage returns how the canary fares that runs, or the last one; nil when there was
// none.
func (r *Rules) canaryMessage() *controlv1.CanaryState {
	c := r.canary.Load()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countLoss()
	t := c.tally
	m := &controlv1.CanaryState{Running: c.ended == "", Ended: utf8(c.ended), Promoted: c.promoted, StartedAt: timestamppb.New(c.started), Until: timestamppb.New(c.until),
		Uid: c.uid, Epoch: c.set.Epoch(), Name: c.name, Fingerprint: c.set.Fingerprint(), RuleCount: uint32(c.set.Len()), PreviousEpoch: c.beside.Epoch(),
		Decisions: t.Decided, Refused: c.refused, RefusedBefore: c.refused + t.Changes[trial.AllowToDeny] - t.Changes[trial.DenyToAllow],
		CannotTell: t.Unknown(), Failures: t.FailuresByName(), Unanswered: c.unanswered, Slow: c.slow, Lost: c.lost,
		// The tally is of the way back.
		Changes: map[string]uint64{trial.AllowToDeny.String(): t.Changes[trial.DenyToAllow], trial.DenyToAllow.String(): t.Changes[trial.AllowToDeny],
			trial.Errno.String(): t.Changes[trial.Errno], trial.Rule.String(): t.Changes[trial.Rule]}}
	m.Start = &controlv1.CanaryStart{For: durationpb.New(c.For), MaxDenyRate: proto.Float64(c.MaxDenyRate), MaxFailureRate: proto.Float64(c.MaxFailureRate), MinDecisions: c.MinDecisions}
	if c.Cgroup != "" {
		m.Start.Part = &controlv1.CanaryStart_Cgroup{Cgroup: c.Cgroup}
	} else {
		m.Start.Part = &controlv1.CanaryStart_Percent{Percent: c.Percent}
	}
	if c.MaxLatency > 0 {
		m.Start.MaxLatency = durationpb.New(c.MaxLatency)
	}
	if c.ended == "" {
		m.Blocks = valid(c.blocked())
	} else {
		m.EndedAt = timestamppb.New(c.endedAt)
	}
	return m
}
