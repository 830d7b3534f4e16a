// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"runtime"
	"time"
)

// Decisions is a session that times decisions without anybody who waits: a call each.
// The requests are made ready outside of the time.
type Decisions struct {
	// Prepare puts ask i of Asks into place slot, Decide decides that place and returns the
	// rule, -1 for none. Slots are numbered from 0 to Batch-1.
	Prepare func(slot, i int)
	Decide  func(slot int) int32
	Asks    []PlainAsk
	// Batch is over how many decisions a sample is the mean: what takes as long as a look
	// at the clock is timed in lots.
	Batch int
	CPU   int
	// Figures are of the session, and reported by each round.
	Figures map[string]float64
	End     func() error // may be nil

	next int
	got  []int32
}

// FigureAllocs is the name of what Decisions counts: allocations for each decision,
// those of the runtime besides it included.
const FigureAllocs = "allocs_per_decision"

// Round decides the asks in turns. A decision that is not the one that the ask wants
// counts as failed.
func (d *Decisions) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	if err := pinThread(d.CPU); err != nil {
		return Outcome{}, err
	}
	begin := time.Now()
	// A quarter of the time at most: what takes milliseconds has to get to its samples.
	for left := o.Warmup; left > 0 && time.Since(begin) <= o.Budget/4; left -= d.Batch {
		d.batch(begin)
	}
	var out Outcome
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for out.Samples < len(samples) && time.Since(begin) <= o.Budget {
		ns, wrong := d.batch(begin)
		samples[out.Samples] = uint32(min(max(ns, 0)/int64(d.Batch), math.MaxUint32))
		out.Samples++
		out.Failed += wrong
	}
	runtime.ReadMemStats(&after)
	out.Figures = map[string]float64{}
	for name, v := range d.Figures {
		out.Figures[name] = v
	}
	if out.Samples > 0 {
		out.Figures[FigureAllocs] = float64(after.Mallocs-before.Mallocs) / float64(out.Samples*d.Batch)
	}
	return out, nil
}

// batch returns how long the next decisions took, and how many of them were wrong.
func (d *Decisions) batch(base time.Time) (ns int64, wrong int) {
	if len(d.got) != d.Batch {
		d.got = make([]int32, d.Batch)
	}
	for slot := range d.Batch {
		d.Prepare(slot, (d.next+slot)%len(d.Asks))
	}
	begin := time.Since(base)
	for slot := range d.got {
		d.got[slot] = d.Decide(slot)
	}
	took := time.Since(base) - begin
	for slot, rule := range d.got {
		if rule != d.Asks[(d.next+slot)%len(d.Asks)].Want {
			wrong = 1 // of a sample, which is what is counted
		}
	}
	d.next = (d.next + d.Batch) % len(d.Asks)
	return int64(took), wrong
}

// Close ends the session.
func (d *Decisions) Close() error {
	if d.End == nil {
		return nil
	}
	return d.End()
}
