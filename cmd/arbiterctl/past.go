// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// quietFor ends the list of past events when the one that is known to be the last
// does not come: it is a plain allowed one, which the daemon keeps but does not send
// without --all. All that is kept is sent at once.
const quietFor = 500 * time.Millisecond

// past prints the events that are kept and ends. The first message of a stream has
// the number of the last event, but an event that a filter of the daemon leaves out
// is never sent: so the filters are applied here, and --recent counts what fits.
func (a *app) past(cmd *cobra.Command, request *controlv1.WatchRequest, p *eventPrinter) error {
	if err := checkWatch(request); err != nil {
		return usage(cmd, err)
	}
	k := keptEvents{filter: request}
	all := &controlv1.WatchRequest{IncludeAllowed: request.IncludeAllowed, Since: request.Since}
	if all.Since == nil {
		all.Recent = math.MaxUint32
	}
	if err := a.watch(cmd, all, quietFor, k.message); err != nil && err != errQuiet {
		return err
	}
	if n := int(request.Recent); n > 0 && len(k.events) > n {
		k.events = k.events[len(k.events)-n:]
	}
	if err := p.header(); err != nil {
		return err
	}
	for _, e := range k.events {
		if err := p.event(e); err != nil {
			return err
		}
	}
	if len(k.events) == 0 && !p.json {
		fmt.Fprintln(a.stderr, "arbiterctl: no event that is kept fits; plain allowed requests are kept only while somebody watches with --all")
	}
	return nil
}

// keptEvents collects the events of the past that fit.
type keptEvents struct {
	filter *controlv1.WatchRequest
	last   uint64 // number of the last event before the stream began
	events []*controlv1.Event
}

// message takes one message of the stream; done when nothing of the past is left.
func (k *keptEvents) message(m *controlv1.WatchResponse) (done bool, err error) {
	if h := m.GetHello(); h != nil {
		k.last = h.Seq
		return h.Seq <= k.filter.GetSince(), nil
	}
	e := m.GetEvent()
	if e == nil {
		return false, nil
	}
	if e.Seq <= k.last && fits(k.filter, e) {
		k.events = append(k.events, e)
	}
	return e.Seq >= k.last, nil
}

// fits reports whether the daemon would send e to who asks for filter.
func fits(filter *controlv1.WatchRequest, e *controlv1.Event) bool {
	one := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	return (filter.IncludeAllowed || e.Verdict != "allow" || e.Reason != "" || e.Late) &&
		one(filter.Rules, e.Rule) && one(filter.Events, e.Event) && one(filter.Verdicts, e.Verdict)
}

// checkWatch returns the words that would match nothing for ever.
func checkWatch(filter *controlv1.WatchRequest) error {
	var errs []error
	for _, name := range filter.Events {
		if _, ok := abi.ParseEvent(name); !ok {
			errs = append(errs, fmt.Errorf("--event %s is none: give exec or open", quoteArg(name)))
		}
	}
	for _, name := range filter.Verdicts {
		if name != "allow" && name != "deny" && name != "audit" {
			errs = append(errs, fmt.Errorf("--verdict %s is none: give allow, deny or audit", quoteArg(name)))
		}
	}
	return errors.Join(errs...)
}
