// SPDX-License-Identifier: Apache-2.0

package ringtest

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// asked is a question as the model knows it.
type asked struct {
	q     *question
	path  string
	taker int // worker that took it, -1 for none yet
	done  bool
	errno uint16
}

// model is what the ring must look like from both sides. Its slots are few, so that
// each is used again while a worker still holds the request before.
type model struct {
	k     *Kernel
	open  []*asked       // posted and not settled
	holds map[int]*asked // by worker: what it took and has not replied to
	reqs  []abi.Request
	n     int
}

// Any order of asking, taking, answering and giving up: a question is taken once, by
// one worker, with its own facts; its answer arrives exactly if its requester still
// waits; and nothing that happens to one question shows in another.
func TestModel(t *testing.T) {
	const workers = 3
	rapid.Check(t, func(t *rapid.T) {
		k, err := New(workers)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		m := model{k: k, holds: map[int]*asked{}, reqs: make([]abi.Request, workers)}
		worker := rapid.IntRange(0, workers-1)
		t.Repeat(map[string]func(*rapid.T){
			"ask":  m.ask,
			"take": func(t *rapid.T) { m.take(t, worker.Draw(t, "worker")) },
			"reply": func(t *rapid.T) {
				m.reply(t, worker.Draw(t, "worker"), uint16(rapid.IntRange(0, abi.MaxErrno).Draw(t, "errno")))
			},
			"settle": func(t *rapid.T) { m.settle(t) },
			"":       m.check,
		})
	})
}

func (m *model) ask(t *rapid.T) {
	m.n++
	path := fmt.Sprintf("/q/%d", m.n)
	m.k.start.Store(0) // the first free slot again
	q, ok := m.k.claim(ring.Facts{Event: uint32(abi.EventOpen)})
	if !ok {
		t.Fatalf("no slot for question %d while %d are open", m.n, len(m.open))
	}
	q.fill(path, "")
	q.post()
	m.open = append(m.open, &asked{q: q, path: path, taker: -1})
}

func (m *model) take(t *rapid.T, w int) {
	if m.holds[w] != nil {
		t.Skip("it holds one")
	}
	waiting := func(a *asked) bool { return a.taker < 0 }
	got := m.k.Sources()[w].Next(&m.reqs[w])
	if want := slices.ContainsFunc(m.open, waiting); got != want {
		t.Fatalf("worker %d took a question: %t, want %t", w, got, want)
	}
	if !got {
		return
	}
	i := slices.IndexFunc(m.open, func(a *asked) bool { return waiting(a) && a.path == string(m.reqs[w].Path()) })
	if i < 0 {
		t.Fatalf("worker %d took %q, which nobody asks", w, m.reqs[w].Path())
	}
	m.open[i].taker = w
	m.holds[w] = m.open[i]
}

func (m *model) reply(t *rapid.T, w int, errno uint16) {
	a := m.holds[w]
	if a == nil {
		t.Skip("it holds none")
	}
	delete(m.holds, w)
	inTime := slices.Contains(m.open, a)
	if got := m.k.Sources()[w].Reply(&m.reqs[w], abi.Verdict{Errno: errno}); got != inTime {
		t.Fatalf("the reply to %s was in time: %t, want %t", a.path, got, inTime)
	}
	if inTime {
		a.done, a.errno = true, errno
	}
}

// settle looks at one question once, as a requester does whose time is over.
func (m *model) settle(t *rapid.T) {
	if len(m.open) == 0 {
		t.Skip("nobody asks")
	}
	i := rapid.IntRange(0, len(m.open)-1).Draw(t, "question")
	a := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	want := Answer{Reason: abi.ReasonDeadline}
	if a.done {
		want = Answer{Errno: a.errno}
	}
	word := abi.Word(atomic.LoadUint64(&m.k.Slot(a.q.index).Word))
	if got := a.q.settle(word); got != want {
		t.Fatalf("%s ended with %+v, want %+v", a.path, got, want)
	}
}

// check compares every slot's word with the model.
func (m *model) check(t *rapid.T) {
	want := map[int]abi.Word{}
	for _, a := range m.open {
		state, errno := abi.Posted, uint16(0)
		switch {
		case a.done:
			state, errno = abi.Done, a.errno
		case a.taker >= 0:
			state = abi.Taken
		}
		want[a.q.index] = abi.MakeWord(a.q.gen, state, errno)
	}
	for i := range abi.Slots {
		got := abi.Word(atomic.LoadUint64(&m.k.Slot(i).Word))
		if w, ok := want[i]; ok && got != w || !ok && got.State() != abi.Free {
			t.Fatalf("slot %d: %#x, want %#x (0: free)", i, uint64(got), uint64(w))
		}
	}
}
