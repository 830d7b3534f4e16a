// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// rungs says how a task can wait for its verdict, by event, on this kernel.
type rungs map[abi.Event]kernelbridge.HookStatus

// newRungs keeps for each event the hook with the lowest rung: what cannot be relied on
// there cannot be for the event.
func newRungs(hooks []kernelbridge.HookStatus) rungs {
	r := rungs{}
	for _, h := range hooks {
		if !h.Present {
			continue
		}
		for _, e := range h.Events {
			if worst, ok := r[e]; !ok || h.Rung < worst.Rung {
				r[e] = h
			}
		}
	}
	return r
}

// waits says in words how a task waits for the answer about an event; gate: there is one
// to sleep on.
func (r rungs) waits(e abi.Event, gate bool) string {
	h, ok := r[e]
	if !ok {
		return ""
	}
	hot := "it polls, and keeps its CPU"
	rung := h.Rung
	switch {
	case rung == kernelbridge.RungSleep && gate:
		return "it sleeps in the hook"
	case rung == kernelbridge.RungUnwind && gate:
		return "its system call returns, waits without locks and starts again; kernel threads and io_uring cannot"
	case rung == kernelbridge.RungSleep, rung == kernelbridge.RungUnwind:
		return hot + ": the daemon has no gate, see its log"
	case rung == kernelbridge.RungHot:
		return hot + why(h)
	case rung == kernelbridge.RungNeither:
		return "10 ms at most, with its CPU and its locks, and then it goes on by the file's on_fail, whatever the deadline" + why(h)
	}
	return ""
}

func why(h kernelbridge.HookStatus) string {
	if h.Why == "" {
		return ""
	}
	return " (" + h.Why + ")"
}

// warnings says which of the events a slow answer does not reach: their tasks can neither
// sleep nor come back later.
func (r rungs) warnings(asked []abi.Event) []string {
	byWhy := map[string][]string{}
	var order []string
	for _, e := range asked {
		h, ok := r[e]
		if !ok || h.Rung != kernelbridge.RungNeither {
			continue
		}
		if byWhy[h.Why] == nil {
			order = append(order, h.Why)
		}
		byWhy[h.Why] = append(byWhy[h.Why], e.String())
	}
	var out []string
	for _, why := range order {
		slices.Sort(byWhy[why])
		out = append(out, fmt.Sprintf("%s: a task waits 10 ms at most, with its CPU and its locks, and then goes on by the file's on_fail, because here it can neither sleep nor start again (%s)",
			strings.Join(byWhy[why], ", "), why))
	}
	return out
}
