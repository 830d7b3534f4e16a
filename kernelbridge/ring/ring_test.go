// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// facts returns facts in which every member has a value of its own.
func facts() ring.Facts {
	var f ring.Facts
	n := uint64(1)
	v := reflect.ValueOf(&f).Elem()
	for i := range v.NumField() {
		switch m := v.Field(i); {
		case !m.CanSet():
		case m.CanUint():
			m.SetUint(n)
		case m.CanInt():
			m.SetInt(int64(n))
		case m.Kind() == reflect.Array:
			for j := range m.Len() {
				m.Index(j).SetUint(n + uint64(j))
			}
			n += 20
		}
		n++
	}
	f.Flags = abi.FlagNoExe
	f.PathLen, f.ExeLen = 0, 0
	f.Mode |= 0o100000 // a regular file
	return f
}

// Everything that the requester says arrives under the same name.
func TestFactsArrive(t *testing.T) {
	r := newRing(t, 1)
	f := facts()
	f.Flags, f.ExeLen = 0, 3
	copy(r.Slot(900).Exe[:], "/exe that ends before")
	post(r, 900, 5, f, "/p\xffath\n")
	var q abi.Request
	take(t, r.Sources()[0], &q, 900)
	if got := string(q.Path()); got != "/p\xffath\n" {
		t.Errorf("got path %q", got)
	}
	if got := string(q.Exe()); got != "/ex" {
		t.Errorf("got exe %q, want the three bytes that were said", got)
	}
	if q.Word != abi.MakeWord(5, abi.Taken, 0) {
		t.Errorf("got the word %#x, want generation 5 taken", uint64(q.Word))
	}
	fv, qv := reflect.ValueOf(f), reflect.ValueOf(q)
	for i := range fv.NumField() {
		name := fv.Type().Field(i).Name
		if name == "_" || name == "PathLen" || name == "Epoch" { // the kernel side's own
			continue
		}
		got := qv.FieldByName(name)
		if name == "Credentials" { // of three fields whether they are known
			if !q.Credentials.Known {
				t.Error("the credentials are not known")
			}
			continue
		}
		if name == "Size" { // of regular files alone
			if want := (abi.Size{Known: true, Bytes: uint64(f.Size)}); q.Size != want || f.Size == 0 {
				t.Errorf("Size: got %+v, want %+v, not zero", q.Size, want)
			}
			continue
		}
		if !got.IsValid() {
			got = reflect.ValueOf(q.Credentials).FieldByName(name)
		}
		if !got.IsValid() {
			t.Errorf("a request has no %s", name)
			continue
		}
		if want := fv.Field(i).Convert(got.Type()); !got.Equal(want) || want.IsZero() && name != "Flags" {
			t.Errorf("%s: got %v, want %v, not zero", name, got, want)
		}
	}
}

func TestTakeOnce(t *testing.T) {
	r := newRing(t, 2)
	var q, q2 abi.Request
	post(r, 70, abi.FirstGen, facts(), "/a")
	take(t, r.Sources()[1], &q, 70)
	checkWord(t, r, 70, abi.MakeWord(abi.FirstGen, abi.Taken, 0))
	if flagged(r) {
		t.Error("a taken question is still marked as posted")
	}
	flag(r, 70) // as if it had been seen before it was taken
	if r.Sources()[0].Next(&q2) {
		t.Errorf("the question was handed out again, as %d", q2.Ticket)
	}
	checkWord(t, r, 70, abi.MakeWord(abi.FirstGen, abi.Taken, 0))
	if !r.Sources()[1].Reply(&q, abi.Verdict{Errno: 13}) {
		t.Error("the answer came too late, want it in time")
	}
	checkWord(t, r, 70, abi.MakeWord(abi.FirstGen, abi.Done, 13))
}

// Nothing but a posted slot is handed out, and a slot that is not is left alone.
func TestNextTakesOnlyPosted(t *testing.T) {
	r := newRing(t, 1)
	s := r.Sources()[0]
	var q abi.Request
	for state := range 256 {
		for _, high := range []uint64{0, abi.FirstGen << 32, 0xffffffff_ffffff00, 0x1_fff00d00} {
			w := abi.Word(high | uint64(state))
			set(r, 3, w)
			flag(r, 3)
			if got, want := s.Next(&q), abi.State(state) == abi.Posted; got != want {
				t.Errorf("a slot with the word %#x was handed out: %t, want %t", uint64(w), got, want)
			} else if !got {
				checkWord(t, r, 3, w)
			} else if word(r, 3) != w.With(abi.Taken) {
				t.Errorf("word %#x became %#x, want it taken in the same generation", uint64(w), uint64(word(r, 3)))
			}
			if flagged(r) {
				t.Errorf("word %#x: the bit stays and would be looked at for ever", uint64(w))
			}
		}
	}
}

// A posted bit whose slot moved on: every stale bit costs one look and no more.
func TestNextDropsStaleBits(t *testing.T) {
	r := newRing(t, 1)
	var q abi.Request
	for i := range r.Header().Posted {
		atomic.StoreUint64(&r.Header().Posted[i], ^uint64(0))
	}
	post(r, 1000, 1, facts(), "/only")
	take(t, r.Sources()[0], &q, 1000)
	if r.Sources()[0].Next(&q) {
		t.Errorf("a free slot was handed out: %d", q.Ticket)
	}
	if flagged(r) {
		t.Error("stale bits stay")
	}
}

// Whoever gave up is not answered, and neither is the one who asks next in the
// same slot.
func TestReplyLate(t *testing.T) {
	r := newRing(t, 2)
	s := r.Sources()[0]
	var q, next abi.Request
	const gen = 1<<32 - 1 // the next one is 0
	post(r, 8, gen, facts(), "/first")
	take(t, s, &q, 8)
	if !abandon(r, 8, gen) {
		t.Fatal("a taken question cannot be abandoned")
	}
	for _, state := range []abi.State{abi.Abandoned, abi.Free, abi.Filling, abi.Posted, abi.Taken, abi.Done} {
		w := abi.MakeWord(gen, state, 0)
		if state != abi.Abandoned && state != abi.Free {
			w = abi.MakeWord(0, state, 0) // claimed anew
		}
		set(r, 8, w)
		if s.Reply(&q, abi.Verdict{Errno: 1}) {
			t.Errorf("the slot is %s: a late answer was accepted", state)
		}
		checkWord(t, r, 8, w)
	}

	// The next question gets its own answer, from its own worker, once.
	post(r, 8, 0, facts(), "/second")
	take(t, r.Sources()[1], &next, 8)
	if s.Reply(&q, abi.Verdict{Errno: 1}) {
		t.Error("an answer of the generation before was accepted")
	}
	if !r.Sources()[1].Reply(&next, abi.Verdict{Errno: 2}) {
		t.Error("the answer in time was refused")
	}
	checkWord(t, r, 8, abi.MakeWord(0, abi.Done, 2))
	if r.Sources()[1].Reply(&next, abi.Verdict{}) {
		t.Error("a second answer to the same question was accepted")
	}
	checkWord(t, r, 8, abi.MakeWord(0, abi.Done, 2))
}

func TestAbandonedBeforeTake(t *testing.T) {
	r := newRing(t, 1)
	post(r, 0, 9, facts(), "/gone")
	if !abandon(r, 0, 9) {
		t.Fatal("a posted question cannot be abandoned")
	}
	var q abi.Request
	if r.Sources()[0].Next(&q) {
		t.Error("an abandoned question was handed out")
	}
	checkWord(t, r, 0, abi.MakeWord(9, abi.Abandoned, 0))
}

func TestReplyWithoutTicket(t *testing.T) {
	r := newRing(t, 1)
	for _, ticket := range []uint64{abi.Slots, abi.Slots + 1, 1 << 32, 1<<64 - 1} {
		if r.Sources()[0].Reply(&abi.Request{Ticket: ticket}, abi.Verdict{}) {
			t.Errorf("an answer to the ticket %d was accepted", ticket)
		}
	}
}

// A denial is a denial for every errno, also one that the word has no room for.
func TestReplyErrno(t *testing.T) {
	r := newRing(t, 1)
	var q abi.Request
	for gen, errno := range []uint16{0, 1, abi.MaxErrno, abi.MaxErrno + 1, 1<<16 - 1} {
		post(r, 0, uint32(gen), facts(), "/")
		take(t, r.Sources()[0], &q, 0)
		if !r.Sources()[0].Reply(&q, abi.Verdict{Errno: errno}) {
			t.Fatalf("errno %d: late", errno)
		}
		checkWord(t, r, 0, abi.MakeWord(uint32(gen), abi.Done, min(errno, abi.MaxErrno)))
	}
}

// The slot's generation runs through its wrap-around without a stale answer.
func TestGenerationWrap(t *testing.T) {
	r := newRing(t, 1)
	s := r.Sources()[0]
	var q, before abi.Request
	gen := uint32(abi.FirstGen)
	for range 600 {
		gen++
		post(r, 5, gen, facts(), "/")
		take(t, s, &q, 5)
		if s.Reply(&before, abi.Verdict{Errno: 1}) {
			t.Fatalf("generation %#x: the answer to the one before was accepted", gen)
		}
		if !s.Reply(&q, abi.Verdict{}) {
			t.Fatalf("generation %#x: the answer was refused", gen)
		}
		before = q
	}
	if gen > abi.FirstGen {
		t.Errorf("the last generation is %#x: no wrap", gen)
	}
}

// A worker that is slower than the requesters must come round to everybody: those
// with a low slot ask again before it is back.
func TestNextIsFair(t *testing.T) {
	for _, waiting := range [][]int{{0, 1, 2}, {62, 63, 64}, {0, 63, 64, 500, 1023}, {7, 1000}} {
		r := newRing(t, 1)
		s := r.Sources()[0]
		var q abi.Request
		served := map[int]int{}
		for _, i := range waiting {
			post(r, i, 0, facts(), "/")
		}
		const rounds = 10
		for gen := range uint32(rounds * len(waiting)) {
			if !s.Next(&q) {
				t.Fatalf("%v: nothing waits", waiting)
			}
			served[int(q.Ticket)]++
			s.Reply(&q, abi.Verdict{})
			post(r, int(q.Ticket), gen+1, facts(), "/") // at once again
		}
		for _, i := range waiting {
			if served[i] != rounds {
				t.Errorf("of %v slot %d was served %d times in %d rounds: %v", waiting, i, served[i], rounds, served)
			}
		}
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	r := newRing(t, 1)
	s := r.Sources()[0]
	var q abi.Request
	f := facts()
	gen := uint32(0)
	if got := testing.AllocsPerRun(100, func() {
		gen++
		post(r, 77, gen, f, "/usr/bin/true")
		if !s.Next(&q) || !s.Reply(&q, abi.Verdict{}) {
			t.Error("not answered")
		}
		s.Next(&q)
		s.Park(0)
	}); got != 0 {
		t.Errorf("%v allocations per request, want none", got)
	}
}

// A verdict that no system call comes back for is freed at the second look, one that was
// fetched or replaced in between is left alone.
func TestSweepUnwound(t *testing.T) {
	r := newRing(t, 1)
	set(r, 3, abi.MakeWord(5, abi.Unwound, 13))
	set(r, 4, abi.MakeWord(6, abi.Unwound, 0))
	set(r, 5, abi.MakeWord(7, abi.Done, 13))
	if n := r.SweepUnwound(); n != 0 {
		t.Errorf("the first look freed %d, want none", n)
	}
	set(r, 4, abi.MakeWord(8, abi.Unwound, 0)) // another question by now
	if n := r.SweepUnwound(); n != 1 {
		t.Errorf("the second look freed %d, want one", n)
	}
	checkWord(t, r, 3, abi.MakeWord(5, abi.Free, 0))
	checkWord(t, r, 4, abi.MakeWord(8, abi.Unwound, 0))
	checkWord(t, r, 5, abi.MakeWord(7, abi.Done, 13))
	if n := r.SweepUnwound(); n != 1 {
		t.Errorf("the third look freed %d, want the other one", n)
	}
}
