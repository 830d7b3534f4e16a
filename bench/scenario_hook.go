// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// hookNoRuleID is the row of a hook that no rule is about.
const hookNoRuleID = "hook-no-rule"

// hookScenario does what the hook of an open does until it knows that nobody is asked, for
// its own executable, by the BPF program that the native queue has for it.
type hookScenario struct{ why hookWhy }

// hookWhy is why nobody is asked.
type hookWhy int

const (
	noRule hookWhy = iota // rules are about other events
	otherUser
	otherTree
)

func (s hookScenario) Describe() Info {
	i := Info{ID: hookNoRuleID, Mechanism: HookCost, Responder: "no rule about the event", NoResponder: true}
	switch s.why {
	case otherUser:
		i.ID, i.Responder = "hook-other-user", "out of scope, by user"
	case otherTree:
		i.ID, i.Responder = "hook-other-tree", "out of scope, by path"
		if exe, err := os.Executable(); err == nil {
			i.Responder += fmt.Sprintf(", %d levels up", strings.Count(exe, "/"))
		}
	}
	return i
}

func (s hookScenario) Open(at Place) (Session, error) {
	return withNative(at, func(n *kernelbridge.Native) (Session, error) { return s.open(n, at) })
}

func (s hookScenario) open(n *kernelbridge.Native, at Place) (Session, error) {
	asked := uint64(1) << abi.EventOpen
	var scope kernelbridge.Scope
	switch s.why {
	case noRule:
		asked = 1 << abi.EventExec
		scope.Trees = []string{"/"}
	case otherUser:
		uid := uint32(os.Getuid()) + 1
		scope.UIDs = []kernelbridge.IDRange{{First: uid, Last: uid}}
	case otherTree:
		// Gone from the file system at once, it is still a place that nothing is below.
		dir, err := os.MkdirTemp("", "arbiter-bench-")
		if err != nil {
			return nil, fmt.Errorf("making a tree to be outside of: %w", err)
		}
		defer os.Remove(dir)
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return nil, fmt.Errorf("making a tree to be outside of: %w", err)
		}
		scope.Trees = []string{dir}
	}
	if err := n.Arm(true, asked, scope); err != nil {
		return nil, err
	}
	return &hookSession{n, at.Requester, make([]uint64, nativeHookChunk)}, nil
}

type hookSession struct {
	queue *kernelbridge.Native
	cpu   int
	chunk []uint64
}

// nativeHookChunk is how many samples one run of the program takes: each is the mean of
// 64 looks, of a microsecond each where a path is walked.
const nativeHookChunk = 50

var errAsked = errors.New("the hook would have asked: it is timed when nobody is to be asked")

// Round looks in chunks.
func (s *hookSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	begin := time.Now()
	if _, err := s.queue.RunHook(s.cpu, s.chunk[:max(min(o.Warmup, nativeHookChunk), 1)]); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for out.Samples < len(samples) && time.Since(begin) <= o.Budget {
		took := s.chunk[:min(len(samples)-out.Samples, nativeHookChunk)]
		asked, err := s.queue.RunHook(s.cpu, took)
		if err != nil {
			return Outcome{}, err
		}
		if asked {
			return Outcome{}, errAsked
		}
		for i, ns := range took {
			samples[out.Samples+i] = uint32(min(ns, math.MaxUint32))
		}
		out.Samples += len(took)
	}
	return out, nil
}

func (s *hookSession) Close() error { return s.queue.Close() }
