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
