// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// eventSet is a set of events, a bit each.
type eventSet uint64

// It has room for every event, or this does not compile.
const _ = uint(64 - abi.EventCount)

func (s eventSet) has(e abi.Event) bool { return e < 64 && s>>e&1 == 1 }
func (s *eventSet) add(e abi.Event)     { *s |= 1 << e }

func setOf(events ...abi.Event) (s eventSet) {
	for _, e := range events {
		s.add(e)
	}
	return s
}

// list returns the events of the set in the order of their numbers.
func (s eventSet) list() []abi.Event {
	var out []abi.Event
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		if s.has(e) {
			out = append(out, e)
		}
	}
	return out
}

// having returns the events that the catalogue says so of.
func having(which func(*catalogue.Event) bool) (s eventSet) {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		if which(catalogue.Of(e)) {
			s.add(e)
		}
	}
	return s
}

var (
	withObject = having(func(e *catalogue.Event) bool { return e.Object != "" })
	// withFile are the events whose object is a file that is there already.
	withFile = withObject &^ sockets &^ setOf(abi.EventCreate, abi.EventMkdir, abi.EventMknod, abi.EventSymlink)
	// neverRegular are those of which it is no regular file.
	neverRegular = setOf(abi.EventRmdir, abi.EventChroot, abi.EventUnixConnect)
	withDetail   = having(func(e *catalogue.Event) bool { return e.Detail != "" })
	withAccess   = having(func(e *catalogue.Event) bool { return e.Access })
	// sockets are the events whose object can be the name of an abstract socket,
	// which begins with @.
	sockets = having(func(e *catalogue.Event) bool { return e.Object != "" && e.Arg("family") >= 0 })
	// pathDetail are the events whose detail is a path that the kernel reports, so
	// absolute, and that the access is about too; that of the others is any text.
	pathDetail = setOf(abi.EventLink, abi.EventRename, abi.EventMoveMount, abi.EventPivotRoot)
	// always are the events whose object is never missing.
	always = withObject &^ sockets &^ setOf(abi.EventMMapExec, abi.EventMProtectExec, abi.EventUnixConnect, abi.EventModuleLoad,
		abi.EventReadFile, abi.EventSignal, abi.EventPtrace)
)

// withArg returns the events that have an argument of that name, or an address.
func withArg(name string) eventSet {
	if name == addrName {
		name = "addr_high"
	}
	return having(func(e *catalogue.Event) bool { return e.Arg(name) >= 0 })
}

// NeedsObject reports whether every request of this event has an object with a path.
func NeedsObject(e abi.Event) bool { return always.has(e) }

// NamesSocket reports whether path is the name of an abstract unix socket and the event
// one that can be about it.
func NamesSocket(e abi.Event, path []byte) bool {
	return sockets.has(e) && len(path) > 1 && len(path) < abi.PathBytes && path[0] == '@'
}

// names lists the names of the events, sorted.
func (s eventSet) names() []string {
	var out []string
	for _, e := range s.list() {
		out = append(out, e.String())
	}
	slices.Sort(out)
	return out
}

// EventNames lists the names of all events, sorted.
func EventNames() []string { return having(func(*catalogue.Event) bool { return true }).names() }

// UnknownEvent says what to write instead of a name that is no event.
func UnknownEvent(name string) string {
	names := EventNames()
	if near := suggest(name, names); near != "" {
		return "did you mean " + near + "? docs/policy.md lists the events"
	}
	return "write one of " + strings.Join(names, ", ")
}
