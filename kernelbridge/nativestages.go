// SPDX-License-Identifier: Apache-2.0

package kernelbridge

// Stages is when what the asking side does for a question was over: CLOCK_MONOTONIC, nanoseconds.
type Stages struct {
	Begun   int64 // before anything
	Claimed int64 // a slot is the question's
	Filled  int64 // with its facts
	Posted  int64 // workers can find it
	Settled int64 // the verdict is read, the slot is free
}

// stageWords is how many numbers struct arb_native_stages has.
const stageWords = 5

// RunStages is Run for the stages of each question. Each look at the clock between them is
// among what they took.
func (n *Native) RunStages(cpu int, stages []Stages) error {
	return pinned(cpu, func() error {
		for len(stages) > 0 {
			count := min(len(stages), runChunk)
			if _, err := n.runner.once(n.objs.ArbNativeStaged, count); err != nil {
				return err
			}
			for i := range stages[:count] {
				w := n.stages[i*stageWords:][:stageWords]
				stages[i] = Stages{int64(w[0]), int64(w[1]), int64(w[2]), int64(w[3]), int64(w[4])}
			}
			stages = stages[count:]
		}
		return nil
	})
}
