// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Telling is what whoever can open the socket is told of what was refused to him.
type Telling uint8

// The zero value tells nothing: only who may read everything is told.
const (
	TellNothing Telling = iota
	TellMessages
	TellIDs // the ids of the rules, too
)

// How many refusals one call returns.
const (
	usualRefusals = 20
	mostRefusals  = 100
)

// refusalsService tells callers what was refused to them.
type refusalsService struct {
	controlv1.UnimplementedRefusalsServiceServer
	cfg *Config
	// One call at a time: each copies what is kept, and anybody may call.
	turn sync.Mutex
}

// Mine implements the RPC.
func (s *refusalsService) Mine(ctx context.Context, req *controlv1.MineRequest) (*controlv1.MineResponse, error) {
	who, ok := callerOf(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the caller's uid is not known: call over the unix socket")
	}
	most := int(min(req.GetMost(), mostRefusals))
	if most == 0 {
		most = usualRefusals
	}
	var kept []*arbiter.Event
	for _, e := range s.kept() {
		if isRefusalOf(e, who.uid) && (req.GetSeq() == 0 || req.GetSeq() == e.Seq) {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 && req.GetSeq() != 0 {
		return nil, status.Errorf(codes.NotFound, "%d is no refusal of uid %d that is kept: the daemon has the last events alone", req.GetSeq(), who.uid)
	}
	out := &controlv1.MineResponse{}
	for _, e := range kept[max(0, len(kept)-most):] {
		out.Refusals = append(out.Refusals, s.message(e))
	}
	return out, nil
}

// kept returns the events that are kept, plain allowed ones excepted.
func (s *refusalsService) kept() (events []*arbiter.Event) {
	s.turn.Lock()
	defer s.turn.Unlock()
	sub := s.cfg.Engine.Subscribe(1, arbiter.SubscribeOptions{Recent: maxRecent})
	defer sub.Close()
	for range len(sub.C) { // what comes meanwhile is not waited for
		e, ok := <-sub.C
		if !ok {
			break
		}
		events = append(events, e)
	}
	return events
}

// isRefusalOf reports whether something was refused to a program of that user, with his
// rights: what a set-user-id program of somebody else was about is not for him.
func isRefusalOf(e *arbiter.Event, uid uint32) bool {
	return e.Errno != 0 && !e.Late && e.UID == uid && e.EUID == uid
}

// aboutProcesses are the events whose path is that of another process's program.
var aboutProcesses = []abi.Event{abi.EventSignal, abi.EventPtrace}

func (s *refusalsService) message(e *arbiter.Event) *controlv1.Refusal {
	m := &controlv1.Refusal{Seq: e.Seq, Time: timestamppb.New(e.Time), Event: e.Event.String(), Verdict: e.Verdict, Errno: uint32(e.Errno),
		Message: utf8(e.Message), Undecided: e.Reason != abi.ReasonNone}
	// A failure verdict is recorded with what there was: the ids may be all that is right.
	if e.Facts&abi.FieldUID != 0 && !slices.Contains(aboutProcesses, e.Event) {
		m.Path = []byte(e.Path)
	}
	if rs := s.cfg.Engine.Rules(); rs != nil && !m.Undecided && rs.Epoch() == e.Epoch && rs.Fingerprint() == e.Fingerprint {
		m.Owner = utf8(ownerOf(rs, e))
	}
	if s.cfg.TellRefused == TellIDs {
		m.Rule = utf8(e.Rule)
	}
	return m
}

func ownerOf(rs *rules.RuleSet, e *arbiter.Event) string {
	if i := rs.RuleAt(e.Line); i >= 0 && rs.RuleID(i) == e.Rule {
		return rs.Note(i).Owner
	}
	return ""
}
