// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// The lists of a shape. Those of numbers follow, in the order of abi.Request.Arg; an
// address is a network in text, in the place of addr_high.
const (
	events  = iota // names
	objects        // patterns, encoded
	details        // patterns, encoded
	exes
	uids
	gids
	args
	lists = args + abi.Args
)

// set is a sorted list without doubles. An empty one is a condition that is not made.
type set []string

// union returns what is in either.
func union(a, b set) set {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// shape is a rule that allows the product of its lists.
type shape struct {
	// kind keeps apart what can never stand in one rule; see kindOf.
	kind   string
	access abi.Access // of an open: it asks for nothing but these
	sets   [lists]set
	count  uint64 // requests observed
	pairs  uint64 // of an object and a detail
	prices []Price
}

// kindOf returns what shapes have to share to be put together. An event that is matched
// by numbers, by a second text or by its access stands in rules of its own, because other
// events have no such thing, or another one by that name.
func kindOf(f *Fact) string {
	ev := catalogue.Of(f.Event)
	kind := "no object to match"
	switch {
	case len(compared[f.Event]) > 0 || ev.Detail != "" || ev.Access:
		kind = ev.Name()
		if f.Detail != "" {
			kind += " detail"
		}
	case ev.Object != "":
		kind = "object"
	}
	if f.Path != "" {
		kind += " path"
	}
	return kind
}

// shapeOf returns the shape that allows f alone; with anyExe whoever acts.
func shapeOf(f *Fact, count uint64, anyExe bool) *shape {
	s := &shape{kind: kindOf(f), access: f.Access, count: count}
	s.sets[events] = set{f.Event.String()}
	if f.Path != "" {
		s.sets[objects] = set{literal(f.Path).encode()}
	}
	if f.Detail != "" {
		s.sets[details] = set{literal(f.Detail).encode()}
	}
	if !anyExe {
		s.sets[exes] = set{f.Exe}
	}
	s.sets[uids] = set{strconv.FormatUint(uint64(f.UID), 10)}
	s.sets[gids] = set{strconv.FormatUint(uint64(f.GID), 10)}
	ev := catalogue.Of(f.Event)
	for _, name := range compared[f.Event] {
		switch {
		case name == addrArg:
			if high := ev.Arg("addr_high"); f.hasAddr(ev) {
				s.sets[args+high] = set{rules.Addr(f.Args[high], f.Args[high+1]).String()}
			}
		case name == "port" && !f.hasAddr(ev):
		default:
			i := ev.Arg(name)
			s.sets[args+i] = set{rules.ArgText(f.Event, name, f.Args[i])}
		}
	}
	return s
}

// key is equal for shapes that differ in none but the lists of except.
func (s *shape) key(except ...int) string {
	b := append([]byte(s.kind), 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.access))
	for i, list := range s.sets {
		if slices.Contains(except, i) {
			// A condition that is not made is never put together with one that is.
			b = append(b, byte(min(1, len(list))))
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, text := range list {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	return string(b)
}

// merge puts shapes together that differ in the lists of which alone. In one list that is
// exact: the product allows what the shapes allowed and nothing else. The order is that of
// the first of each.
func merge(in []*shape, which ...int) []*shape {
	byKey := map[string]*shape{}
	var out []*shape
	for _, s := range in {
		k := s.key(which...)
		into := byKey[k]
		if into == nil {
			byKey[k], out = s, append(out, s)
			continue
		}
		for _, i := range which {
			into.sets[i] = append(into.sets[i], s.sets[i]...)
		}
		into.count += s.count
		into.pairs += s.pairs
		into.prices = dearest(append(into.prices, s.prices...))
	}
	for _, s := range out {
		for _, i := range which {
			s.sets[i] = union(s.sets[i], nil)
		}
	}
	return out
}

// dearest leaves one price of each pattern.
func dearest(prices []Price) []Price {
	slices.SortStableFunc(prices, func(a, b Price) int {
		return cmp.Or(strings.Compare(a.Pattern, b.Pattern), cmp.Compare(b.Unobserved, a.Unobserved))
	})
	return slices.CompactFunc(prices, func(a, b Price) bool { return a.Pattern == b.Pattern })
}

// minimise merges in one list after the other until nothing comes together any more.
func minimise(shapes []*shape) []*shape {
	for before := -1; before != len(shapes); {
		before = len(shapes)
		shapes = merge(shapes, exes)
		shapes = merge(shapes, objects)
		for i := range lists {
			if i != exes && i != objects {
				shapes = merge(shapes, i)
			}
		}
	}
	return shapes
}
