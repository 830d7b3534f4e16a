// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// lineage keeps the marks of process trees, see bpf/arb_lineage.h. Its programs are
// attached while a scope or a rule names a process tree.
type lineage struct {
	maps  *hooksMaps
	objs  *lineageObjects // nil: not loaded yet
	links []link.Link     // on the hooks
	iter  *link.Iter
	bits  map[treeKey]uint64 // of the roots in force, and those about to be
}

// marking mirrors struct arb_marking.
type marking struct{ Clear, Set, Changed, Failed uint64 }

// maxPasses bounds how often all tasks are gone through: each pass marks at least one
// more generation of the tasks that run already, almost always all of them.
const maxPasses = 64

// prepare gives each root the bit of its tree, and the marks to all tasks that run
// already and belong to a tree that is not in force yet: fresh are those bits. A root that
// is in force keeps its bit.
func (l *lineage) prepare(roots []treeKey) (bits map[treeKey]uint64, fresh uint64, err error) {
	bits = map[treeKey]uint64{}
	var used uint64
	for _, b := range l.bits {
		used |= b
	}
	for _, root := range roots {
		if b := l.bits[root]; b != 0 {
			bits[root] = b
			continue
		}
		if bits[root] != 0 {
			continue
		}
		if used == ^uint64(0) {
			return nil, 0, errors.New("BUG: no mark is left for a process tree")
		}
		b := ^used & (used + 1)
		used, fresh, bits[root] = used|b, fresh|b, b
	}
	if fresh == 0 {
		return bits, 0, nil
	}
	if err := l.attach(); err != nil {
		return nil, 0, fmt.Errorf("following process trees: %w", err)
	}
	// What an older tree has left of its mark goes first; from then on it has none, for
	// nothing gives it any more.
	if err := l.passes(marking{Clear: fresh}); err != nil {
		return nil, 0, err
	}
	for root, b := range bits {
		if err := l.maps.ArbRoots.Put(root, b); err != nil {
			return nil, 0, fmt.Errorf("naming a process tree: %w", err)
		}
	}
	return bits, fresh, l.passes(marking{Set: fresh})
}

// attach loads and attaches the programs, if they are not yet.
func (l *lineage) attach() (err error) {
	if len(l.links) > 0 {
		return nil
	}
	if l.objs == nil {
		objs := &lineageObjects{}
		err := loadLineageObjects(objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
			"arb_lineage": l.maps.ArbLineage, "arb_roots": l.maps.ArbRoots}})
		if err != nil {
			return loadError("programs on process trees", err)
		}
		l.objs = objs
	}
	if l.iter == nil {
		if l.iter, err = link.AttachIter(link.IterOptions{Program: l.objs.ArbMarkTasks}); err != nil {
			return fmt.Errorf("attaching the iterator: %w", err)
		}
	}
	forked, err := link.AttachTracing(link.TracingOptions{Program: l.objs.ArbForked})
	if err != nil {
		return fmt.Errorf("attaching to forks: %w", err)
	}
	l.links = append(l.links, forked)
	for _, p := range [...]*ebpf.Program{l.objs.ArbTaskAlloc, l.objs.ArbCheckRoom, l.objs.ArbCommittedCreds} {
		one, err := link.AttachLSM(link.LSMOptions{Program: p})
		if err != nil {
			return errors.Join(err, l.detach())
		}
		l.links = append(l.links, one)
	}
	return nil
}

// passes runs the iterator until it changes nothing: a task that is forked meanwhile
// may have been passed by. One that cannot be found yet gets the marks of its parent when it
// can, see arb_forked.
func (l *lineage) passes(m marking) error {
	for range maxPasses {
		if err := l.objs.ArbMarkings.Put(uint32(0), &m); err != nil {
			return fmt.Errorf("marking process trees: %w", err)
		}
		r, err := l.iter.Open()
		if err != nil {
			return fmt.Errorf("marking process trees: %w", err)
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("marking process trees: %w", err)
		}
		var done marking
		if err := l.objs.ArbMarkings.Lookup(uint32(0), &done); err != nil {
			return fmt.Errorf("marking process trees: %w", err)
		}
		if done.Changed+done.Failed == 0 {
			return nil
		}
	}
	return fmt.Errorf("marking process trees: no end after %d passes over all tasks; try again", maxPasses)
}

// keep forgets all trees but those, and detaches the programs when there are none.
func (l *lineage) keep(bits map[treeKey]uint64) error {
	if len(l.bits) == 0 && len(bits) == 0 && len(l.links) == 0 {
		return nil
	}
	l.bits = maps.Clone(bits)
	err := sweepAll(l.maps.ArbRoots, bits)
	if len(bits) == 0 {
		err = errors.Join(err, l.detach())
	}
	return err
}

func (l *lineage) detach() error {
	var errs []error
	for _, one := range l.links {
		errs = append(errs, one.Close())
	}
	l.links = nil
	return errors.Join(errs...)
}

// close releases everything.
func (l *lineage) close() error {
	err := l.detach()
	if l.iter != nil {
		err = errors.Join(err, l.iter.Close())
		l.iter = nil
	}
	if l.objs != nil {
		err = errors.Join(err, l.objs.Close())
		l.objs = nil
	}
	return err
}
