// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Canary implements control.Applier. The kernel side knows nothing of parts: while a canary
// decides for one, it asks about everything, and fetches what either set looks at. Scope,
// mute and failure verdict are the same for both.
func (d *daemon) Canary(ctx context.Context, c *arbiter.Canary) error {
	live := policyOf(d.engine.Rules()).again()
	if c == nil {
		// The kernel side decides by itself again when no worker decides by the canary.
		if err := d.engine.InstallCanary(ctx, nil, cache.RolledBack); err != nil {
			return err
		}
		return d.backend.configure(live)
	}
	if d.hurry.Err() != nil {
		return errors.New("the daemon is stopping")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.hurry, cancel)()
	if err := d.backend.configure(live.beside(policyOf(c.Rules), c.Part)); err != nil {
		return fmt.Errorf("having the kernel side ask for two rule sets: %w", err)
	}
	marked, err := d.backend.marked(c.Rules)
	if err == nil {
		// Whether it refuses more is told by its records, which the set in force is asked about.
		marked, err = d.backend.telling(marked, d.engine.Rules())
	}
	if err != nil {
		return err
	}
	return d.engine.InstallCanary(ctx, &arbiter.Canary{Rules: marked, Part: c.Part}, cache.RulesPushed)
}

// beside returns p, which is in force, for the time that a set of policy q decides for a part.
func (p policy) beside(q policy, part arbiter.Part) policy {
	both := p.alsoFor(q)
	if part.Cgroup != 0 {
		for e := range both.want {
			both.want[e] |= abi.FieldCgroup
		}
	}
	return both
}
