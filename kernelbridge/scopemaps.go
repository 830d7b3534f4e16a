// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// Uses of a map's value, see enum arb_use: the bit of parity 0, that of parity 1 is the
// next one.
const (
	useScope    = 1 << 0
	useMute     = 1 << 2
	useScopeExe = 1 << 4
	useMuteExe  = 1 << 6
	useService  = 1 << 4
	useOurs     = 1 << 6
)

// scopeConfig mirrors struct arb_scope_config.
type scopeConfig struct {
	Lineage    [2]uint64
	MuteEvents uint64 // 0: all
	UIDs       [2]uint32
}

// parityOf returns the parity of a scope word.
func parityOf(word uint32) uint32 {
	if word&ring.ScopeParity != 0 {
		return 1
	}
	return 0
}

func addUse[K comparable](values map[K]uint32, keys []K, bit uint32) {
	for _, k := range keys {
		values[k] |= bit
	}
}

// values are the entries of the maps for two scopes at once.
type values struct {
	trees   map[treeKey]uint32
	cgroups map[cgroupKey]uint32
	mounted map[uint64]uint32
}

func newValues() *values {
	return &values{map[treeKey]uint32{}, map[cgroupKey]uint32{}, map[uint64]uint32{}}
}

// add adds the entries of k under a parity.
func (v *values) add(k *scopeKeys, parity uint32) {
	addUse(v.trees, k.scope.trees, useScope<<parity)
	addUse(v.trees, k.mute.trees, useMute<<parity)
	addUse(v.trees, k.scope.exes, useScopeExe<<parity)
	addUse(v.trees, k.mute.exes, useMuteExe<<parity)
	addUse(v.cgroups, k.scope.cgroups, useScope<<parity)
	addUse(v.cgroups, k.mute.cgroups, useMute<<parity)
	addUse(v.cgroups, k.services, useService<<parity)
	addUse(v.cgroups, k.ours, useOurs<<parity)
	addUse(v.mounted, k.scope.mounted, useScope<<parity)
	addUse(v.mounted, k.mute.mounted, useMute<<parity)
}

// mark writes the entries of the next scope beside those of the current one, each with
// exactly the bits of the scopes that it is in: when the scope word changes, so
// does what is in scope, in one store.
func (k *scopeKeys) mark(o *hooksMaps, current *scopeKeys, now uint32) error {
	v := newValues()
	v.add(current, parityOf(now))
	after := parityOf(k.word(now))
	v.add(k, after)
	config := scopeConfig{MuteEvents: k.events, UIDs: [2]uint32{uint32(len(k.scope.uids)), uint32(len(k.mute.uids))}}
	for i, roots := range [...][]treeKey{k.scope.roots, k.mute.roots} {
		for _, root := range roots {
			config.Lineage[i] |= k.bits[root]
		}
	}
	errs := []error{putAll(o.ArbTrees, v.trees), putAll(o.ArbCgroups, v.cgroups), putAll(o.ArbMounted, v.mounted),
		o.ArbScopeConfigs.Put(after, &config)}
	for i, ranges := range [...][]uidRange{k.scope.uids, k.mute.uids} {
		first := (after*2 + uint32(i)) * maxUIDs
		for n := range ranges {
			errs = append(errs, o.ArbUids.Put(first+uint32(n), &ranges[n]))
		}
	}
	return errors.Join(errs...)
}

func putAll[K comparable](m *ebpf.Map, values map[K]uint32) error {
	for key, value := range values {
		if err := m.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes all entries that are not k's. Entries of k may keep the bits of a
// scope that is no more: the next mark writes them anew.
func (k *scopeKeys) sweep(o *hooksMaps) error {
	v := newValues()
	v.add(k, 0)
	return errors.Join(sweepAll(o.ArbTrees, v.trees), sweepAll(o.ArbCgroups, v.cgroups), sweepAll(o.ArbMounted, v.mounted))
}

// sweepAll removes the entries of a map whose keys are not kept.
func sweepAll[K comparable, V any](m *ebpf.Map, kept map[K]V) error {
	var key K
	var value V
	var gone []K
	it := m.Iterate()
	for it.Next(&key, &value) {
		if _, ok := kept[key]; !ok {
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
