// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

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
	AboutPath uint32
	Test      [abi.MaxKernelTests]kernelTest
}

// kernelPattern, patternRules and patternLens mirror struct arb_pattern, struct
// arb_pattern_rules and struct arb_pattern_lens.
type kernelPattern struct {
	List, Len uint32
	Text      [abi.KernelPatternBytes]byte
}

type patternRules struct{ Whole, Below, Within, _ uint32 }

type patternLens struct {
	Count, Whole uint32
	Len          [abi.MaxKernelBeginnings]uint8
}

// decider writes the rules that the kernel decides by.
type decider struct {
	rules, patterns, lens *ebpf.Map

	odd   bool                               // the half that is in force
	there [2]map[kernelPattern]*patternRules // patterns that may be in each half
}

// write writes rules into the half that is not in force and returns the words that put
// them in force, one per event. Nobody reads that half: it was in force before the rules
// that are now, or never.
func (d *decider) write(rules [abi.EventCount][]abi.KernelRule) (words [abi.EventCount]uint16, err error) {
	half, parity := uint32(0), uint32(0)
	if !d.odd {
		half, parity = uint32(abi.EventCount)*abi.MaxKernelRules, 1
	}
	if err := d.writePatterns(rules, parity); err != nil {
		return words, fmt.Errorf("writing the patterns of the kernel's rules: %w", err)
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
			if r.Paths != nil {
				entry.AboutPath = 1
			}
			for k, t := range r.Tests {
				entry.Test[k] = kernelTest{Mask: t.Mask, Low: t.Low, High: t.High, Field: uint32(t.Field)}
			}
			if err := d.rules.Put(half+uint32(e)*abi.MaxKernelRules+uint32(i), entry); err != nil {
				return words, fmt.Errorf("writing the kernel's rules of %s: %w", abi.Event(e), err)
			}
		}
		before := slices.IndexFunc(list, func(r abi.KernelRule) bool { return r.Paths != nil })
		if before < 0 {
			before = len(list)
		}
		words[e] = uint16(len(list) | before<<ring.DecideBefore)
		if len(list) > 0 && half > 0 {
			words[e] |= ring.DecideOdd
		}
	}
	return words, nil
}

// writePatterns replaces the patterns of a half.
func (d *decider) writePatterns(rules [abi.EventCount][]abi.KernelRule, parity uint32) error {
	next := map[kernelPattern]*patternRules{}
	for e, list := range rules {
		var lens patternLens
		for i, r := range list {
			for _, p := range r.Paths {
				key := kernelPattern{List: 2*uint32(e) + parity, Len: uint32(len(p.Text))}
				if p.Text == "" || copy(key.Text[:], p.Text) < len(p.Text) {
					return fmt.Errorf("one of %s has %d bytes, want 1 to %d", abi.Event(e), len(p.Text), len(key.Text))
				}
				of := next[key]
				if of == nil {
					of = new(patternRules)
					next[key] = of
				}
				switch bit := uint32(1) << i; p.Kind {
				case abi.PatternWhole:
					of.Whole |= bit
					lens.Whole = 1
					continue
				case abi.PatternBelow:
					of.Below |= bit
				case abi.PatternWithin:
					of.Within |= bit
				}
				if err := lens.add(uint8(len(p.Text))); err != nil {
					return fmt.Errorf("%s: %w", abi.Event(e), err)
				}
			}
		}
		if err := d.lens.Put(2*uint32(e)+parity, lens); err != nil {
			return err
		}
	}
	for key := range d.there[parity] {
		if next[key] == nil {
			if err := d.patterns.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return err
			}
			delete(d.there[parity], key)
		}
	}
	if d.there[parity] == nil {
		d.there[parity] = map[kernelPattern]*patternRules{}
	}
	for key, of := range next {
		d.there[parity][key] = of // also if it fails: then it may be there
		if err := put(d.patterns, key, of); err != nil {
			return err
		}
	}
	return nil
}

// put is Put for a map whose entries are allocated one by one, from a stock that the kernel fills
// up behind: a burst of them can be faster.
func put(m *ebpf.Map, key, value any) (err error) {
	for range 20 {
		if err = m.Put(key, value); !errors.Is(err, unix.ENOMEM) {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1_000_000}, nil)
	}
	return err
}

// add adds the length of a beginning, in its place.
func (l *patternLens) add(n uint8) error {
	at, there := slices.BinarySearch(l.Len[:l.Count], n)
	if there {
		return nil
	}
	if l.Count == uint32(len(l.Len)) {
		return fmt.Errorf("beginnings of more than %d lengths", len(l.Len))
	}
	copy(l.Len[at+1:], l.Len[at:l.Count])
	l.Len[at] = n
	l.Count++
	return nil
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
