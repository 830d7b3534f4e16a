// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// statusService answers how the daemon fares.
type statusService struct {
	controlv1.UnimplementedStatusServiceServer
	cfg *Config
}

func (s *statusService) Get(context.Context, *controlv1.StatusServiceGetRequest) (*controlv1.StatusServiceGetResponse, error) {
	info, stats := s.cfg.Info(), s.cfg.Engine.Stats()
	out := &controlv1.StatusServiceGetResponse{
		Version: utf8(info.Version), Backend: utf8(info.Backend), BackendReason: utf8(info.BackendReason),
		StartedAt: timestamppb.New(info.StartedAt), Uptime: durationpb.New(time.Since(info.StartedAt)),
		Counters: countersMessage(&stats), KernelCounters: info.KernelCounters, Latency: latencyMessage(stats.Latency),
		Store: storeMessage(s.cfg.Rules), Warnings: valid(info.Warnings), Pid: uint32(os.Getpid()),
		SelfProtection: utf8(info.SelfProtection),
	}
	if rs := s.cfg.Engine.Rules(); rs != nil {
		out.Epoch, out.Fingerprint, out.RuleCount = rs.Epoch(), rs.Fingerprint(), uint32(rs.Len())
		out.Scope, out.Mute = scopeMessage(rs.Scope()), muteMessage(rs.Mute())
	}
	if p, ok := s.cfg.Rules.Pending(); ok {
		out.Pending = &controlv1.PendingRules{Epoch: p.Epoch, PreviousEpoch: p.Previous, Until: timestamppb.New(p.Until)}
	}
	if l, ok := s.cfg.Rules.Locked(); ok {
		out.Lock = lockMessage(l)
	}
	out.Signing = s.cfg.Rules.signingMessage()
	out.Shadow = s.cfg.Rules.shadowMessage(false)
	out.Canary = s.cfg.Rules.canaryMessage()
	for _, m := range info.DefaultMutes {
		out.DefaultMutes = append(out.DefaultMutes, &controlv1.DefaultMute{Name: m.Name, What: utf8(m.What), InForce: m.InForce, Why: utf8(m.Why)})
	}
	for i, w := range stats.Workers {
		out.Workers = append(out.Workers, &controlv1.WorkerState{Index: uint32(i), Cpu: int32(w.CPU), Parked: w.Parked,
			Requests: w.Requests, Epoch: w.Epoch})
	}
	var err error
	if out.ResidentMemory, err = residentMemory(); err != nil {
		out.Warnings = append(out.Warnings, utf8(err.Error()))
	}
	out.Warnings = append(out.Warnings, s.cfg.Rules.TimeWarnings()...)
	if p := s.cfg.Rules.Problem(); p != "" {
		out.Warnings = append(out.Warnings, utf8(p))
	}
	for _, i := range out.Store.GetIncidents() {
		out.Warnings = append(out.Warnings, "rule store: "+i.GetFile()+": "+i.GetProblem())
	}
	return out, nil
}

func scopeMessage(s rules.Scope) *controlv1.Scope {
	out := &controlv1.Scope{Paths: byteSlices(s.Paths), Cgroups: byteSlices(s.Cgroups), Exes: byteSlices(s.Exes),
		Mounts: byteSlices(s.Mounts), ProcessTrees: byteSlices(s.ProcessTrees)}
	for _, r := range s.UIDs {
		out.Uids = append(out.Uids, &controlv1.IdRange{First: r.First, Last: r.Last})
	}
	return out
}

// muteMessage returns nil for a rule set that has nothing to say of it.
func muteMessage(m rules.Mute) *controlv1.Mute {
	if len(m.Named())+len(m.Unmute) == 0 {
		return nil
	}
	out := &controlv1.Mute{Of: scopeMessage(m.Scope), Invert: m.Invert, Unmute: m.Unmute}
	for _, e := range m.Events {
		out.Events = append(out.Events, e.String())
	}
	return out
}

func countersMessage(s *arbiter.Stats) *controlv1.Counters {
	out := &controlv1.Counters{
		Requests: s.Requests, Hits: s.Hits, Decided: s.Decided, Failed: map[string]uint64{}, Late: s.Late,
		Allowed: s.Allowed, Denied: s.Denied, Killed: s.Killed, Spared: s.Spared, Audited: s.Audited, CacheFlushes: map[string]uint64{},
		InFlight: s.InFlight, EventsRecorded: s.EventsRecorded, EventsDropped: s.EventsDropped,
	}
	for r := abi.ReasonNone + 1; r < abi.ReasonCount; r++ {
		out.Failed[r.String()] = s.Failed[r]
	}
	for r := range cache.ReasonCount {
		out.CacheFlushes[r.String()] = s.CacheFlushes[r]
	}
	return out
}

func latencyMessage(l arbiter.Latency) *controlv1.Latency {
	return &controlv1.Latency{Count: l.Count, P50: durationpb.New(l.P50), P90: durationpb.New(l.P90),
		P99: durationpb.New(l.P99), P999: durationpb.New(l.P999), Max: durationpb.New(l.Max)}
}

func storeMessage(r *Rules) *controlv1.StoreState {
	st := r.cfg.Store
	out := &controlv1.StoreState{Directory: utf8(st.Dir()), Kept: uint32(len(st.History(0)))}
	for _, i := range st.Incidents() {
		out.Incidents = append(out.Incidents, &controlv1.StoreIncident{File: utf8(i.File), Problem: utf8(i.Problem), MovedTo: utf8(i.MovedTo)})
	}
	return out
}

func byteSlices(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, t := range texts {
		out[i] = []byte(t)
	}
	return out
}

// residentMemory returns the resident set of this process in bytes.
func residentMemory() (uint64, error) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("reading the resident memory: %w", err)
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0, fmt.Errorf("reading the resident memory: /proc/self/statm holds %q", data)
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the resident memory: %w", err)
	}
	return pages * uint64(os.Getpagesize()), nil
}
