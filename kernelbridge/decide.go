// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// kernelTest and kernelRule mirror struct arb_test and struct arb_rule.
type kernelTest struct {
	Mask, Low, High uint64
	Field           uint32
	_               uint32
}

type kernelRule struct {
	Tests     uint32
	Rule      int32
	RuleErrno uint32
	_         uint32
	Test      [abi.MaxKernelTests]kernelTest
}

// decider writes the rules that the kernel decides by.
type decider struct {
	rules *ebpf.Map
	odd   bool // the half that is in force
}

// write writes rules into the half that is not in force and returns the words that put
// them in force, one per event. Nobody reads that half: it was in force before the rules
// that are now, or never.
func (d *decider) write(rules [abi.EventCount][]abi.KernelRule) (words [abi.EventCount]uint16, err error) {
	half := uint32(0)
	if !d.odd {
		half = uint32(abi.EventCount) * abi.MaxKernelRules
	}
	for e, list := range rules {
		if len(list) > abi.MaxKernelRules {
			return words, fmt.Errorf("%d rules of %s for the kernel, want at most %d", len(list), abi.Event(e), abi.MaxKernelRules)
		}
		for i, r := range list {
			if len(r.Tests) > abi.MaxKernelTests {
				return words, fmt.Errorf("a rule of %s with %d tests for the kernel, want at most %d", abi.Event(e), len(r.Tests), abi.MaxKernelTests)
			}
			entry := kernelRule{Tests: uint32(len(r.Tests)), Rule: r.Rule, RuleErrno: uint32(r.Errno)}
			for k, t := range r.Tests {
				entry.Test[k] = kernelTest{Mask: t.Mask, Low: t.Low, High: t.High, Field: uint32(t.Field)}
			}
			if err := d.rules.Put(half+uint32(e)*abi.MaxKernelRules+uint32(i), entry); err != nil {
				return words, fmt.Errorf("writing the kernel's rules of %s: %w", abi.Event(e), err)
			}
		}
		words[e] = uint16(len(list))
		if len(list) > 0 && half > 0 {
			words[e] |= ring.DecideOdd
		}
	}
	return words, nil
}

// enforce puts the words of the last write in force.
func (d *decider) enforce(h *ring.Header, words [abi.EventCount]uint16) {
	h.Decide = words // no aligned word is torn: the copy is by eight bytes or more
	d.odd = !d.odd
}

// suspend lets workers decide everything.
func (d *decider) suspend(h *ring.Header) {
	for e := range h.Decide {
		h.Decide[e] = 0
	}
}

// watch says whether somebody wants to be told of plain allows: then the kernel gives
// none by itself.
func (q *queue) watch(on bool) {
	var v uint32
	if on {
		v = 1
	}
	h := q.Header()
	atomic.StoreUint32(&h.Watched, v)
	epoch := atomic.AddUint64(&h.Epoch, 1) // forgets what was kept
	var want [abi.EventCount]abi.Fields
	for e := range want {
		want[e] = abi.Fields(h.Want[e])
	}
	q.Fetches(epoch, &want)
}
