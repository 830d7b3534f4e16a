// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Arm has RunHook find what the hooks would: somebody there or not, who asks about some
// events (bit e for event e) within a scope. The calling process is nobody special to it,
// and there are no default mutes. A scope by process trees is an error. Not while a run is under way.
func (n *Native) Arm(on bool, asked uint64, s Scope) error {
	var r resolver
	next := scopeKeys{scope: r.dimensions("scope", &s)}
	if len(s.ProcessTrees) > 0 {
		r.add("a scope of process trees: no program here keeps their marks")
	}
	if err := errors.Join(r.errs...); err != nil {
		return err
	}
	h := n.queue.Header()
	before := atomic.LoadUint32(&h.Scope)
	maps := hooksMaps{ArbTrees: n.objs.ArbTrees, ArbCgroups: n.objs.ArbCgroups, ArbMounted: n.objs.ArbMounted,
		ArbScopeConfigs: n.objs.ArbScopeConfigs, ArbUids: n.objs.ArbUids}
	if err := next.mark(&maps, &n.keys, before); err != nil {
		return fmt.Errorf("writing the scope: %w", err)
	}
	n.keys = next
	h.DaemonTGID = 0 // else it would be us, who are never asked about
	n.queue.setPolicy(Policy{Asked: asked})
	atomic.StoreUint32(&h.Scope, next.word(before))
	n.queue.arm(on)
	return nil
}

// RunHook is Run for what the hook of an open does until it knows that nobody is asked,
// or that somebody has to be: the object is the caller's own executable. Each duration is
// the mean of 64 such, with the loop around them, in one run of the program. It reports whether somebody has to be
// asked; nobody is.
func (n *Native) RunHook(cpu int, took []uint64) (ask bool, err error) {
	err = pinned(cpu, func() error {
		for i := range took {
			times, err := n.runner.once(n.objs.ArbNativeHook, 1)
			if err != nil {
				return err
			}
			took[i], ask = n.samples[0], times > 0
		}
		return nil
	})
	return ask, err
}
