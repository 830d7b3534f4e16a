// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// asksService passes questions on to those who answer them.
type asksService struct {
	controlv1.UnimplementedAsksServiceServer
	cfg      *Config
	stopping <-chan struct{}
	watchers atomic.Int64
}

// Watch implements the RPC. What changes while Send is blocked comes with the next message:
// each has everything.
func (s *asksService) Watch(req *controlv1.AsksServiceWatchRequest, stream grpc.ServerStreamingServer[controlv1.AsksServiceWatchResponse]) error {
	if req.GetNoFollow() {
		return stream.Send(s.open())
	}
	defer s.watchers.Add(-1)
	if n := s.watchers.Add(1); n > int64(s.cfg.Watchers) {
		return status.Errorf(codes.ResourceExhausted, "%d watchers are served already: end one of them", s.cfg.Watchers)
	}
	changed, end := s.cfg.Asks.WatchAsks()
	defer end()
	for {
		if err := stream.Send(s.open()); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-s.stopping:
			return status.Error(codes.Unavailable, "the daemon is stopping")
		}
	}
}

func (s *asksService) open() *controlv1.AsksServiceWatchResponse {
	out := &controlv1.AsksServiceWatchResponse{}
	for _, q := range s.cfg.Asks.Asks() {
		out.Asks = append(out.Asks, &controlv1.Ask{Id: q.ID, Event: eventMessage(&q.Event), Until: timestamppb.New(q.Until), Waiting: uint32(q.Waiting)})
	}
	return out
}

// Answer implements the RPC.
func (s *asksService) Answer(ctx context.Context, req *controlv1.AnswerRequest) (*controlv1.AnswerResponse, error) {
	who, _ := callerOf(ctx)
	a := arbiter.Answer{UID: who.uid}
	switch req.GetVerdict() {
	case "allow":
		a.Allow = true
	case "deny":
	default:
		return nil, status.Errorf(codes.InvalidArgument, "the verdict %q is none: give allow or deny", req.GetVerdict())
	}
	if r := req.GetRemember(); r != nil {
		if err := r.CheckValid(); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "remember: %s", utf8(err.Error()))
		}
		a.Remember = r.AsDuration()
	}
	waited, err := s.cfg.Asks.Answer(req.GetId(), a)
	if errors.Is(err, arbiter.ErrNoAsk) {
		return nil, status.Errorf(codes.NotFound, "question %d is not open: it was answered, or its time is over", req.GetId())
	}
	forgotten := errors.Is(err, arbiter.ErrManyRemembered)
	if err != nil && !forgotten {
		return nil, status.Errorf(codes.Internal, "answering: %s", utf8(err.Error()))
	}
	s.cfg.Logger.Info("a question was answered", slog.Uint64("id", req.GetId()), slog.String("verdict", req.GetVerdict()),
		slog.Uint64("uid", uint64(who.uid)), slog.Duration("remember", a.Remember))
	return &controlv1.AnswerResponse{Waited: uint32(waited), Forgotten: forgotten}, nil
}
