// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// scopeKeys is a scope as the hooks' maps have it.
type scopeKeys struct {
	trees   []treeKey
	cgroups []uint64
}

// treeKey mirrors struct arb_tree.
type treeKey struct{ Dev, Ino uint64 }

// maxScope is how many trees, and how many cgroups, one scope may name. The maps
// hold two scopes, for a moment.
const maxScope = 1024

// resolve looks the scope's trees up. All that is wrong is named at once.
func resolve(s Scope) (scopeKeys, error) {
	keys := scopeKeys{cgroups: s.Cgroups}
	var errs []error
	if len(s.Trees) > maxScope || len(s.Cgroups) > maxScope {
		errs = append(errs, fmt.Errorf("a scope of %d paths and %d cgroups: name at most %d of each; a directory stands for all below it",
			len(s.Trees), len(s.Cgroups), maxScope))
	}
	for _, path := range s.Trees {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			errs = append(errs, fmt.Errorf("scope path %q: %w; create the directory or take it out of the scope", path, err))
			continue
		}
		keys.trees = append(keys.trees, treeKey{deviceOf(&st), st.Ino})
	}
	return keys, errors.Join(errs...)
}

// parityBits returns the bits of a map value that count under the scope word.
func parityBits(word uint32) uint32 {
	if word&ring.ScopeParity != 0 {
		return 2
	}
	return 1
}

// word returns the scope word that puts k in force after the given one.
func (k *scopeKeys) word(before uint32) uint32 {
	word := ^before & ring.ScopeParity
	if len(k.trees) > 0 {
		word |= ring.ScopeTrees
	}
	if len(k.cgroups) > 0 {
		word |= ring.ScopeCgroups
	}
	return word
}

// mark writes the entries of the next scope beside those of the current one, each with
// exactly the bits of the scopes that it is in: when the scope word changes, so
// does what is in scope, in one store.
func (k *scopeKeys) mark(o *hooksMaps, current *scopeKeys, now uint32) error {
	before, after := parityBits(now), parityBits(k.word(now))
	if err := markAll(o.ArbTrees, k.trees, current.trees, before, after); err != nil {
		return err
	}
	return markAll(o.ArbCgroups, k.cgroups, current.cgroups, before, after)
}

func markAll[K comparable](m *ebpf.Map, next, current []K, before, after uint32) error {
	values := map[K]uint32{}
	for _, key := range current {
		values[key] = before
	}
	for _, key := range next {
		values[key] |= after
	}
	for key, value := range values {
		if err := m.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes all entries that are not k's. Entries of k may keep the bit of a
// scope that is no more: the next mark writes them anew.
func (k *scopeKeys) sweep(o *hooksMaps) error {
	return errors.Join(sweepAll(o.ArbTrees, k.trees), sweepAll(o.ArbCgroups, k.cgroups))
}

func sweepAll[K comparable](m *ebpf.Map, keep []K) error {
	kept := map[K]bool{}
	for _, key := range keep {
		kept[key] = true
	}
	var key K
	var value uint32
	var gone []K
	it := m.Iterate()
	for it.Next(&key, &value) {
		if !kept[key] {
			gone = append(gone, key)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("reading the scope: %w", err)
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("removing an entry of the old scope: %w", err)
		}
	}
	return nil
}
