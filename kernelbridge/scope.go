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

// resolve looks the scope's trees up. All that are not there are named at once.
func resolve(s Scope) (scopeKeys, error) {
	keys := scopeKeys{cgroups: s.Cgroups}
	var errs []error
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

// mark writes k's entries with the parity after the scope word now in force,
// beside those of the current scope.
func (k *scopeKeys) mark(o *fileHooksObjects, current *scopeKeys, now uint32) error {
	before, after := parityBits(now), parityBits(k.word(now))
	if err := markAll(o.ArbTrees, k.trees, current.trees, before, after); err != nil {
		return err
	}
	return markAll(o.ArbCgroups, k.cgroups, current.cgroups, before, after)
}

// markAll sets bit after on the next keys and keeps bit before on the current ones.
func markAll[K comparable](m *ebpf.Map, next, current []K, before, after uint32) error {
	was := map[K]bool{}
	for _, key := range current {
		was[key] = true
	}
	for _, key := range next {
		value := after
		if was[key] {
			value |= before
		}
		if err := m.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes all entries that are not k's. An entry of k keeps both bits: the
// next mark decides anew.
func (k *scopeKeys) sweep(o *fileHooksObjects) error {
	if err := sweepAll(o.ArbTrees, k.trees); err != nil {
		return err
	}
	return sweepAll(o.ArbCgroups, k.cgroups)
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
