// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// accessNames are the words for what an open asks for, in the order of the bits.
var accessNames = []struct {
	bit  abi.Access
	name string
}{
	{abi.AccessRead, "read"}, {abi.AccessWrite, "write"}, {abi.AccessExec, "exec"},
	{abi.AccessAppend, "append"}, {abi.AccessTruncate, "truncate"}, {abi.AccessCreated, "create"},
}

// Explain decides a request that nobody made.
func (s *rulesService) Explain(ctx context.Context, req *controlv1.ExplainRequest) (*controlv1.ExplainResponse, error) {
	rs, err := s.ruleSet(ctx, req.Epoch)
	if err != nil {
		return nil, err
	}
	r, err := s.request(req)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "explaining: %v", err)
	}
	r.Trees, _ = rs.MarksOf(texts(req.GetProcessTrees()), nil)
	x := rs.Explain(r)
	out := &controlv1.ExplainResponse{
		Verdict: x.Decision.Verdict.Action.String(), Errno: uint32(x.Decision.Verdict.Errno),
		Rule: x.Rule, Line: uint32(x.Line), Message: utf8(x.Note.Message), Owner: utf8(x.Note.Owner), Reason: utf8(x.Note.Reason), Ticket: utf8(x.Note.Ticket),
		Deadline: durationpb.New(x.Decision.Deadline), OnFail: x.Decision.OnFail.String(),
		WrittenDeadline: durationpb.New(x.Decision.Deadline), WrittenOnFail: x.Decision.OnFail.String(),
		Epoch: rs.Epoch(), Fingerprint: rs.Fingerprint(),
		OutOfScope: !rs.Asks(&rules.Access{Event: r.Event, Object: string(req.GetPath()), Detail: string(req.GetDetail()),
			Exe: string(req.GetExe()), Cgroup: string(req.GetCgroup()), UID: req.GetUid()}),
	}
	info := s.info()
	k := rs.Kept(r, x.Decision)
	if info.NotKept != "" { // nor does it decide
		if k.InKernel {
			k = rules.Kept{}
		}
		k.NotByKernel = info.NotKept
	}
	out.Consulted, out.Needs = x.Consulted.Names(), x.Needs.Names()
	out.Kept = &controlv1.ExplainKept{InKernel: k.InKernel, NotByWorker: k.NotByWorker, NotByKernel: k.NotByKernel}
	if info.Waits != nil {
		out.Waits = utf8(info.Waits(r.Event))
	}
	if bound := info.Bound; bound > 0 {
		out.Bound = durationpb.New(bound)
		if bound <= x.Decision.Deadline { // the kernel side is first, and knows one verdict
			out.Deadline, out.OnFail = out.Bound, rs.OnFail(-1).String()
		}
	}
	out.StepsLeftOut = uint32(x.LeftOut)
	for _, step := range x.Steps {
		out.Steps = append(out.Steps, &controlv1.ExplainStep{Rule: step.Rule, Line: uint32(step.Line),
			Matched: step.Matched, Why: utf8(step.Reason)})
	}
	return out, nil
}

// ruleSet returns the rule set of an epoch, nil for the one in force.
func (s *rulesService) ruleSet(ctx context.Context, epoch *uint64) (*rules.RuleSet, error) {
	live := s.rules.inForce()
	if epoch == nil && live == nil {
		return nil, errNoRules()
	}
	if epoch == nil || live != nil && live.Epoch() == *epoch {
		return live, nil
	}
	// One at a time: who may only read does not have the daemon compile many.
	select {
	case s.compiling <- struct{}{}:
		defer func() { <-s.compiling }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	m, source, err := s.rules.load(*epoch)
	if err != nil {
		return nil, pushStatus(err)
	}
	rs, err := s.rules.cfg.Load(ctx, m.Name, source, rules.Options{Epoch: m.Epoch, CgroupID: s.rules.cfg.CgroupID})
	if problems := (rules.Problems)(nil); errors.As(err, &problems) {
		return nil, status.Errorf(codes.FailedPrecondition, "the rules of epoch %d mean nothing here any more: %s", *epoch, utf8(err.Error()))
	} else if err != nil {
		return nil, pushStatus(err)
	}
	return rs, nil
}

// request builds the request that req describes; all that is wrong with it is
// one error.
func (s *rulesService) request(req *controlv1.ExplainRequest) (*abi.Request, error) {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	r := &abi.Request{UID: req.GetUid(), EUID: req.GetUid(), GID: req.GetGid(), EGID: req.GetGid()}
	var ok bool
	if r.Event, ok = abi.ParseEvent(req.GetEvent()); !ok {
		add("the event %q is none: %s", req.GetEvent(), rules.UnknownEvent(req.GetEvent()))
	}
	if err := textsOf(r, req); err != nil {
		add("%v", err)
	}
	for _, err := range [...]error{rules.SetDigest(r, req.GetSha256()), rules.SetFormat(r, req.GetFormat()), rules.SetVerity(r, req.GetFsverity()),
		rules.SetAttributes(r, req.GetAttributes()), rules.SetCredentials(r, req.GetCredentials()), rules.SetScan(r, req.GetScan()), rules.SetSize(r, req.GetSize())} {
		if err != nil {
			add("%v", err)
		}
	}
	for _, a := range req.GetArgs() {
		if err := rules.SetArg(r, a.GetName(), a.GetValue()); ok && err != nil {
			add("%v", err)
		}
	}
	if len(req.GetExe()) == 0 {
		r.Flags |= abi.FlagNoExe
	} else if err := checkPath(req.GetExe()); err != nil {
		add("the exe %v", err)
	}
	r.ExeLen = uint32(copy(r.ExeBuf[:abi.PathBytes-1], req.GetExe()))
	if err := accessOf(r, req.GetAccess()); err != nil {
		add("%v", err)
	}
	if len(req.GetCgroup()) > 0 {
		if err := s.cgroups(r, req.GetCgroup()); err != nil {
			add("the cgroup %v", err)
		}
	}
	for _, t := range req.GetProcessTrees() {
		if err := checkPath(t); err != nil {
			add("the program of a process tree %v", err)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return r, nil
}

// textsOf sets the object's path and the detail, and says what is wrong with them for
// the event.
func textsOf(r *abi.Request, req *controlv1.ExplainRequest) error {
	var errs []error
	path, detail, ev := req.GetPath(), req.GetDetail(), catalogue.Of(r.Event)
	switch {
	case len(path) == 0 && ev != nil && !rules.NeedsObject(r.Event):
		r.Flags |= abi.FlagNoObject
	case ev != nil && ev.Object == "":
		errs = append(errs, fmt.Errorf("the event %s has no object: leave the path out", r.Event))
	case rules.NamesSocket(r.Event, path):
	default:
		if err := checkPath(path); err != nil {
			errs = append(errs, fmt.Errorf("the path %w", err))
		}
	}
	switch {
	case len(detail) == 0:
	case ev != nil && ev.Detail == "":
		errs = append(errs, fmt.Errorf("the event %s has no detail: leave it out", r.Event))
	case len(detail) > abi.PathBytes-1:
		errs = append(errs, fmt.Errorf("the detail has %d bytes: the kernel presents at most %d", len(detail), abi.PathBytes-1))
	}
	r.PathLen = uint32(copy(r.PathBuf[:abi.PathBytes-1], path))
	r.DetailLen = uint32(copy(r.DetailBuf[:abi.PathBytes-1], detail))
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; "))
}

func checkPath(p []byte) error {
	switch {
	case len(p) == 0:
		return fmt.Errorf("is empty: give an absolute one")
	case p[0] != '/':
		return fmt.Errorf("%q is not absolute: begin it with /", p)
	case len(p) > abi.PathBytes-1:
		return fmt.Errorf("has %d bytes: the kernel presents at most %d", len(p), abi.PathBytes-1)
	case bytes.IndexByte(p, 0) >= 0:
		return fmt.Errorf("%q holds a NUL byte: no path can", p)
	}
	return nil
}

// accessOf sets what the request asks for: an exec of a program, if nothing else is said.
func accessOf(r *abi.Request, names []string) error {
	if r.Event != abi.EventOpen {
		if r.Event == abi.EventExec {
			r.Access = abi.AccessExec
			if r.LacksRole() {
				r.Arg[abi.ArgRole] = uint64(abi.RoleProgram)
			}
		}
		if len(names) > 0 {
			return fmt.Errorf("access is for the event open: leave it out")
		}
		return nil
	}
	for _, name := range names {
		bit := accessBit(name)
		if bit == 0 {
			return fmt.Errorf("the access %q is none: give read, write, append, truncate or create", name)
		}
		r.Access |= bit
	}
	if len(names) == 0 {
		r.Access = abi.AccessRead
	}
	return nil
}

func accessBit(name string) abi.Access {
	for _, a := range accessNames {
		if a.name == name && a.bit != abi.AccessExec {
			return a.bit
		}
	}
	return 0
}

// cgroups fills in the ids of the cgroup and its ancestors, as the kernel does.
func (s *rulesService) cgroups(r *abi.Request, p []byte) error {
	if s.rules.cfg.CgroupID == nil {
		return fmt.Errorf("cannot be looked up here: leave it out")
	}
	if err := checkPath(p); err != nil {
		return err
	}
	clean := path.Clean(string(p))
	if clean == "/" {
		return nil
	}
	level, at := 0, ""
	for name := range strings.SplitSeq(clean[1:], "/") {
		if level == abi.CgroupLevels {
			return nil // deeper ones are not carried
		}
		at += "/" + name
		id, err := s.rules.cfg.CgroupID(at)
		if err != nil {
			return fmt.Errorf("%q: %w", at, err)
		}
		r.Cgroup[level] = id
		level++
	}
	return nil
}
