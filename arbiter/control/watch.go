// SPDX-License-Identifier: Apache-2.0

package control

import (
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// The trailers of Watch.
const (
	TrailerSeq     = "arbiter-seq"
	TrailerDropped = "arbiter-dropped"
)

// maxRecent bounds how far a watcher may look back.
const maxRecent = 1 << 16

// eventsService streams events.
type eventsService struct {
	controlv1.UnimplementedEventsServiceServer
	cfg      *Config
	stopping <-chan struct{}
	watchers atomic.Int64
	dropped  atomic.Uint64 // by all watchers, for the metric
}

// Watch implements the RPC. The engine never waits for the stream: what the
// subscription's buffer cannot hold while Send is blocked is dropped there.
func (s *eventsService) Watch(req *controlv1.WatchRequest, stream grpc.ServerStreamingServer[controlv1.WatchResponse]) error {
	defer s.watchers.Add(-1)
	if n := s.watchers.Add(1); n > int64(s.cfg.Watchers) {
		return status.Errorf(codes.ResourceExhausted, "%d watchers are served already: end one of them", s.cfg.Watchers)
	}
	if err := checkFilters(req); err != nil {
		return err
	}
	rs := s.cfg.Engine.Rules()
	seq := s.cfg.Engine.Stats().LastSeq
	sub := s.cfg.Engine.Subscribe(s.cfg.WatchBuffer, arbiter.SubscribeOptions{
		Allowed: req.GetIncludeAllowed(), Recent: lookBack(req, seq)})
	defer sub.Close()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	hello := &controlv1.Hello{Seq: seq, DaemonStartedAt: timestamppb.New(s.cfg.Info().StartedAt)}
	if rs != nil {
		hello.Epoch, hello.Fingerprint = rs.Epoch(), rs.Fingerprint()
	}
	if err := stream.Send(&controlv1.WatchResponse{Message: &controlv1.WatchResponse_Hello{Hello: hello}}); err != nil {
		return err
	}
	w := watch{req: req, stream: stream, sub: sub, total: &s.dropped}
	var err error
	if req.GetNoFollow() {
		err = w.past(seq)
	} else {
		err = w.run(s.stopping)
	}
	w.reportLoss()
	stream.SetTrailer(metadata.Pairs(TrailerSeq, strconv.FormatUint(w.last, 10), TrailerDropped, strconv.FormatUint(w.told, 10)))
	return err
}

// checkFilters refuses words that would match nothing for ever.
func checkFilters(req *controlv1.WatchRequest) error {
	for _, e := range req.GetEvents() {
		if _, ok := abi.ParseEvent(e); !ok {
			return status.Errorf(codes.InvalidArgument, "the event %q is none: %s", e, rules.UnknownEvent(e))
		}
	}
	for _, v := range req.GetVerdicts() {
		if v != "allow" && v != "deny" && v != "audit" && v != "kill" {
			return status.Errorf(codes.InvalidArgument, "the verdict %q is none: give allow, deny, audit or kill", v)
		}
	}
	return nil
}

// lookBack returns how many past events to ask for. With since it is a few more
// than needed, because events are recorded meanwhile; run leaves the old out.
func lookBack(req *controlv1.WatchRequest, seq uint64) int {
	switch {
	case req.Since != nil:
	case req.GetNoFollow():
		return maxRecent
	default:
		return int(min(req.GetRecent(), maxRecent))
	}
	if *req.Since >= seq {
		return 0
	}
	return int(min(seq-*req.Since+maxRecent/64, maxRecent))
}

// watch is one stream under way.
type watch struct {
	req    *controlv1.WatchRequest
	stream grpc.ServerStreamingServer[controlv1.WatchResponse]
	sub    *arbiter.Subscription
	total  *atomic.Uint64
	told   uint64 // of sub.Dropped
	last   uint64 // sequence number sent
}

// past sends the events that are kept, up to the number until. All of them are in the
// subscription since it was opened.
func (w *watch) past(until uint64) error {
	var kept []*arbiter.Event
	for more := true; more; {
		select {
		case e, ok := <-w.sub.C:
			if more = ok && e.Seq <= until; more && fits(w.req, e) {
				kept = append(kept, e)
			}
		default:
			more = false
		}
	}
	if n := int(min(w.req.GetRecent(), maxRecent)); w.req.Since == nil && n > 0 && len(kept) > n {
		kept = kept[len(kept)-n:]
	}
	for _, e := range kept {
		if err := w.send(e); err != nil {
			return err
		}
	}
	return nil
}

// run sends events until somebody ends it.
func (w *watch) run(stopping <-chan struct{}) error {
	ended := status.Error(codes.Unavailable, "the daemon is stopping: watch again when it is back")
	for {
		select {
		case <-w.stream.Context().Done():
			return status.FromContextError(w.stream.Context().Err()).Err()
		case <-stopping:
			return ended
		case e, ok := <-w.sub.C:
			if !ok {
				return ended
			}
			if err := w.send(e); err != nil {
				return err
			}
		}
	}
}

// send sends one event if it fits the filters; what was lost is told with it, or
// alone.
func (w *watch) send(e *arbiter.Event) error {
	lost := w.reportLoss()
	m := &controlv1.WatchResponse{Dropped: lost}
	if fits(w.req, e) {
		m.Message = &controlv1.WatchResponse_Event{Event: eventMessage(e)}
		w.last = e.Seq
	} else if lost == 0 {
		return nil
	}
	return w.stream.Send(m)
}

// reportLoss returns how many events were lost since it was called last.
func (w *watch) reportLoss() uint64 {
	dropped := w.sub.Dropped()
	lost := dropped - w.told
	w.told = dropped
	w.total.Add(lost)
	return lost
}

func fits(req *controlv1.WatchRequest, e *arbiter.Event) bool {
	one := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	return (req.Since == nil || e.Seq > *req.Since) && one(req.GetRules(), e.Rule) &&
		one(req.GetEvents(), e.Event.String()) && one(req.GetVerdicts(), e.Verdict)
}

func eventMessage(e *arbiter.Event) *controlv1.Event {
	m := &controlv1.Event{
		Seq: e.Seq, Time: timestamppb.New(e.Time), Event: e.Event.String(), Verdict: e.Verdict, Errno: uint32(e.Errno),
		Rule: utf8(e.Rule), Line: uint32(e.Line), Message: utf8(e.Message), Epoch: e.Epoch, Fingerprint: e.Fingerprint,
		Cached: e.Cached, Late: e.Late, Latency: durationpb.New(e.Latency), Worker: int32(e.Worker),
		Subject: &controlv1.Subject{Tgid: e.TGID, Tid: e.TID, Uid: e.UID, Gid: e.GID, StartBoottimeNs: e.StartBoottime,
			Comm: []byte(e.Comm), Exe: []byte(e.Exe), Credentials: e.Credentials.String()},
		Object: &controlv1.Object{Path: []byte(e.Path), Dev: e.Dev, Ino: e.Ino, Sha256: e.SHA256, Format: e.Format.String(), Fsverity: e.Verity.String(), Attributes: e.Attributes.String(),
			Scan: e.Scan.String(), Signature: []byte(e.Signature), Size: e.Size.String()},
		Detail: []byte(e.Detail), Asked: e.Asked, AnsweredBy: e.AnsweredBy,
		Euid: e.EUID, Egid: e.EGID, Flags: abi.FlagNames(e.Flags), Facts: e.Facts.Names(),
		InTrees: byteSlices(e.InTrees), NotInTrees: byteSlices(e.NotInTrees),
	}
	for i := 0; i < len(e.Cgroup) && e.Cgroup[i] != 0; i++ {
		m.Cgroups = append(m.Cgroups, e.Cgroup[i])
	}
	if ev := catalogue.Of(e.Event); ev != nil && !e.LacksRole() {
		for i, a := range ev.Args {
			m.Args = append(m.Args, &controlv1.Argument{Name: a.Name, Value: e.Args[i]})
		}
	}
	if e.Reason != abi.ReasonNone {
		m.Reason = e.Reason.String()
	}
	for _, a := range accessNames {
		if e.Access&a.bit != 0 {
			m.Access = append(m.Access, a.name)
		}
	}
	return m
}
