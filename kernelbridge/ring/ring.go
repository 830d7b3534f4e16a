// SPDX-License-Identifier: Apache-2.0

// Package ring is the worker side of the shared-memory queue: it finds posted
// slots, takes them, copies their facts out, and answers. The memory belongs to
// whoever made it: the BPF maps of package kernelbridge, or package ringtest.
//
// The other side is not trusted with more than its own request: every word that it
// writes is read once, checked, and then used.
package ring

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Ring is one queue. Its methods may be called concurrently.
type Ring struct {
	header  *Header
	slots   *[abi.Slots]Slot
	sources []*Source
	gate    atomic.Pointer[Gate] // nil: nobody sleeps
	kept    []any                // gates and parkers of before: a worker may follow a pointer to one, detached
	swept   [abi.Slots]uint64    // UNWOUND words at the last sweep
	fetches fetches
}

// Parker is what a worker blocks on.
type Parker interface {
	// Wait blocks until a requester kicks, Wake is called or d has passed.
	Wait(d time.Duration)
	// Wake ends the current Wait, or the next.
	Wake()
}

// DetachedParker is a Parker for workers that are detached, see package arbiter/detached.
type DetachedParker interface {
	Parker
	// WaitDetached is Wait. Not served: there is something that only Wait, or GateParker.Serve, sees to.
	WaitDetached(d time.Duration) (served bool)
}

// Gate wakes the requesters that sleep because no answer came while they polled. Its methods
// are called by workers that are detached, too.
type Gate interface {
	// Release wakes the requester that sleeps on a slot, if there is one. It is
	// called right after the slot's word became DONE.
	Release(slot int)
	// Served is Header.Sleeps when nobody is on the way to sleep.
	Served() uint64
}

// GateParker is a Parker that a requester who goes to sleep wakes as well.
type GateParker interface {
	Parker
	// Serve sees to the requesters that are on their way, without blocking.
	Serve()
	// ServeDetached is Serve for workers that are detached, see package arbiter/detached. Not served: there is
	// something that only Serve sees to.
	ServeDetached() (served bool)
}

// New returns the queue in the given memory, with one source per parker. The two
// areas are mapped memory that stays mapped as long as the ring is used, at
// least HeaderBytes and SlotsBytes long. cpus says where each worker is pinned,
// below 0 for nowhere. New initialises both areas: nobody may use them yet.
func New(header, slots []byte, parkers []Parker, cpus []int) (*Ring, error) {
	if len(header) < HeaderBytes || len(slots) < SlotsBytes {
		return nil, fmt.Errorf("mapping the ring: %d and %d bytes, want %d and %d", len(header), len(slots), HeaderBytes, SlotsBytes)
	}
	if n := len(parkers); n == 0 || n > abi.MaxWorkers || n != len(cpus) {
		return nil, fmt.Errorf("mapping the ring: %d workers on %d CPUs, want 1 to %d of each", n, len(cpus), abi.MaxWorkers)
	}
	r := &Ring{header: headerOf(header), slots: slotsOf(slots)}
	h := r.header
	*h = Header{Version: abi.Version, Slots: abi.Slots, Workers: uint32(len(parkers))}
	for i := range r.slots {
		atomic.StoreUint64(&r.slots[i].Word, uint64(abi.MakeWord(abi.FirstGen, abi.Free, 0)))
	}
	for i, p := range parkers {
		if c := cpus[i]; c >= 0 && c < len(h.Pinned) {
			h.Pinned[c] |= 1 << i
		}
		s := &Source{ring: r, index: i, next: i * 64 % abi.Slots}
		s.park.Store(newParking(p))
		r.sources = append(r.sources, s)
	}
	return r, nil
}

// Join returns the queue in memory where somebody else, another process perhaps, has made it
// with New: to ask, so without sources.
func Join(header, slots []byte) (*Ring, error) {
	if len(header) < HeaderBytes || len(slots) < SlotsBytes {
		return nil, fmt.Errorf("mapping the ring: %d and %d bytes, want %d and %d", len(header), len(slots), HeaderBytes, SlotsBytes)
	}
	r := &Ring{header: headerOf(header), slots: slotsOf(slots)}
	if v := r.header.Version; v != abi.Version {
		return nil, fmt.Errorf("mapping the ring: its version is %d, want %d", v, abi.Version)
	}
	return r, nil
}

// SetGate puts a gate in force, with one parker per worker. One caller at a time; it may be
// called while the workers run; those before must go on to work until the ring is not used any more.
func (r *Ring) SetGate(g Gate, parkers []GateParker) {
	r.kept = append(r.kept, r.gate.Swap(&g))
	for i, s := range r.sources {
		before := s.park.Swap(newParking(parkers[i]))
		r.kept = append(r.kept, before)
		before.Wake()
	}
}

// parking is what a worker parks on.
type parking struct {
	Parker
	gate     GateParker     // the same, if it is one
	detached DetachedParker // the same, if it is one
}

func newParking(p Parker) *parking {
	gate, _ := p.(GateParker)
	detached, _ := p.(DetachedParker)
	return &parking{p, gate, detached}
}

// Header returns the shared header.
func (r *Ring) Header() *Header { return r.header }

// Slot returns slot i, for the side that asks.
func (r *Ring) Slot(i int) *Slot { return &r.slots[i] }

// Sources returns one source per worker.
func (r *Ring) Sources() []*Source { return r.sources }

// Source is one worker's view of the ring: an arbiter.Source.
type Source struct {
	ring  *Ring
	index int
	park  atomic.Pointer[parking]
	hot   bool          // our bit in header.Hot is set
	next  int           // slot to look at first: the one after the last that was taken
	slept atomic.Uint64 // answers to a requester that slept
	facts Facts         // scratch of fill
	owes  bool          // ReplyDetached has answered one who slept, who may be on its way still
	left  bool          // there is something that only serve sees to
}

// beatNS is how old the heartbeat may be before a request renews it: a daemon
// whose heart gets no CPU on a busy machine is alive as long as it answers.
const beatNS = 10_000_000

// Next takes a posted slot and copies its facts into q. See arbiter.Source.
func (s *Source) Next(q *abi.Request) bool {
	if s.left {
		s.serve()
	}
	taken, served := s.NextDetached(q)
	if !served {
		s.serve()
	}
	return taken
}

// NextDetached is Next. Not served: there is something at the gate that only Next sees to. See
// arbiter.DetachedSource.
//
//go:nosplit
func (s *Source) NextDetached(q *abi.Request) (taken, served bool) {
	if s.owes {
		s.owes = false
		s.serveDetached()
	}
	if s.left {
		return false, false
	}
	if !s.hot {
		s.setHot()
	}
	posted := &s.ring.header.Posted
	if !anyPosted(posted) {
		return false, s.serveDetached()
	}
	// Once around, from the slot after the last one: requesters that ask again at
	// once are served after all others that wait.
	first, mask := s.next/64, ^uint64(0)<<(uint(s.next)%64)
	for i := range len(posted) + 1 {
		at := (first + i) % len(posted)
		for {
			set := atomic.LoadUint64(&posted[at]) & mask
			if set == 0 {
				break
			}
			bit := bits.TrailingZeros64(set)
			// The bit goes before the word is read: a slot that is posted
			// again meanwhile is either seen here or has its bit set anew.
			atomic.AndUint64(&posted[at], ^(1 << bit))
			if s.take(at*64+bit, q) {
				s.next = (at*64 + bit + 1) % abi.Slots
				return true, true
			}
		}
		mask = ^uint64(0)
	}
	return false, true
}

// anyPosted is what an idle worker does all the time: without a branch but the loop's,
// so that a request is noticed within a few nanoseconds.
//
//go:nosplit
func anyPosted(posted *[abi.Slots / 64]uint64) bool {
	var any uint64
	for i := 0; i < len(posted); i += 4 {
		any |= atomic.LoadUint64(&posted[i]) | atomic.LoadUint64(&posted[i+1]) |
			atomic.LoadUint64(&posted[i+2]) | atomic.LoadUint64(&posted[i+3])
	}
	return any != 0
}

// take copies the facts of slot i and moves it from POSTED to TAKEN. False when
// the slot is not posted: its requester gave up, or another worker was quicker.
//
// The copy comes first, so that the processor fetches the word's cache line and
// those of the facts side by side. The exchange then proves that the copy is the
// posted question's: facts change only under another generation.
//
//go:nosplit
func (s *Source) take(i int, q *abi.Request) bool {
	slot := &s.ring.slots[i]
	word := abi.Word(atomic.LoadUint64(&slot.Word))
	if word.State() != abi.Posted {
		return false
	}
	s.fill(q, slot)
	taken, ok := exchange(slot, word, word.With(abi.Taken))
	if !ok {
		return false
	}
	q.Ticket, q.Word, q.Have = uint64(i), taken, s.ring.have(q, s.facts.Epoch)
	s.ring.beat(uint64(q.PostedNS))
	return true
}

// beat renews a heartbeat that is much older than now. It never goes back: a question
// that waited long would make a living daemon look dead.
//
//go:nosplit
func (r *Ring) beat(now uint64) {
	at := &r.header.HeartbeatNS
	if last := atomic.LoadUint64(at); now > last+beatNS {
		atomic.CompareAndSwapUint64(at, last, now) // else the heart was quicker
	}
}

// fill copies the facts of a slot. The requester may give up and the slot be used
// again while this runs; then the copy is a mixture, and the slot is not taken.
//
//go:nosplit
func (s *Source) fill(q *abi.Request, slot *Slot) {
	loadFacts(&s.facts, &slot.Facts)
	Fill(q, &s.facts)
	loadBytes(q.PathBuf[:q.PathLen], &slot.Path)
	loadBytes(q.DetailBuf[:q.DetailLen], &slot.Detail)
	loadBytes(q.ExeBuf[:q.ExeLen], &slot.Exe)
}

// Fill copies facts into q, all but the texts. A length that does not fit is a
// text that is not known.
//
//go:nosplit
func Fill(q *abi.Request, f *Facts) {
	q.PostedNS = int64(f.PostedNS)
	q.Event, q.Access, q.Flags = abi.Event(f.Event), abi.Access(f.Access), f.Flags
	q.ForgetContent(abi.ContentFields)
	q.TGID, q.TID, q.StartBoottime = f.TGID, f.TID, f.StartBoottime
	q.UID, q.GID, q.EUID, q.EGID = f.UID, f.GID, f.EUID, f.EGID
	q.Dev, q.Ino, q.Size, q.Mode = f.Dev, f.Ino, abi.SizeOf(f.Mode, f.Size), f.Mode
	q.OwnerUID, q.OwnerGID, q.Generation = f.OwnerUID, f.OwnerGID, f.Generation
	q.Comm, q.Cgroup, q.Arg = f.Comm, f.Cgroup, f.Arg
	q.Trees, q.Marks = f.Trees, f.Marks
	q.Credentials = abi.Credentials{Known: f.Credentials != 0, LoginUID: f.LoginUID, Session: f.Session, Capabilities: f.Capabilities, HostNamespaces: abi.Namespaces(f.HostNamespaces)}
	q.PathLen, q.DetailLen, q.ExeLen = f.PathLen, f.DetailLen, f.ExeLen
	if q.PathLen >= abi.PathBytes {
		q.PathLen, q.Flags = 0, q.Flags|abi.FlagPathTruncated
	}
	if q.DetailLen >= abi.PathBytes {
		q.DetailLen, q.Flags = 0, q.Flags|abi.FlagDetailTruncated
	}
	if q.ExeLen >= abi.PathBytes {
		q.ExeLen, q.Flags = 0, q.Flags|abi.FlagNoExe
	}
}

// Reply answers the request in q. See arbiter.Source.
func (s *Source) Reply(q *abi.Request, v abi.Verdict) bool {
	inTime, slept := s.reply(q, v)
	if slept && !s.serveDetached() { // who slept may be on its way still
		s.serve()
	}
	return inTime
}

// ReplyDetached is Reply. See arbiter.DetachedSource.
//
//go:nosplit
func (s *Source) ReplyDetached(q *abi.Request, v abi.Verdict) (inTime bool) {
	inTime, s.owes = s.reply(q, v)
	return inTime
}

// reply answers the request in q, and wakes who has asked if that one slept.
//
//go:nosplit
func (s *Source) reply(q *abi.Request, v abi.Verdict) (inTime, slept bool) {
	if q.Ticket >= abi.Slots {
		return false, false
	}
	word, ok := exchange(&s.ring.slots[q.Ticket], q.Word, q.Word.Answered(v))
	if slept = ok && word&abi.Sleeping != 0; slept {
		s.slept.Add(1)
		if g := s.ring.gate.Load(); g != nil {
			(*g).Release(int(q.Ticket))
		}
	}
	return ok, slept
}

// Hold has nothing to do: a request is its slot's. See arbiter.Source.
func (s *Source) Hold(*abi.Request) bool { return true }

// serveDetached sees to requesters that are on their way to sleep. Not served: serve has to.
//
//go:nosplit
func (s *Source) serveDetached() (served bool) {
	g := s.ring.gate.Load()
	if g == nil || atomic.LoadUint64(&s.ring.header.Sleeps) == (*g).Served() {
		return true
	}
	p := s.park.Load().gate
	s.left = p != nil && !p.ServeDetached()
	return !s.left
}

// serve sees to all that is there at the gate.
func (s *Source) serve() {
	s.left = false
	if p := s.park.Load().gate; p != nil {
		p.Serve()
	}
}

// Asleep reports what becomes of a thread that says that it sleeps on a slot: whether
// it waits there for an answer, and whether there is one.
//
//go:nosplit
func (r *Ring) Asleep(slot int, tid uint32) (waiting, answered bool) {
	s := &r.slots[slot]
	word := abi.Word(atomic.LoadUint64(&s.Word))
	if word&abi.Sleeping == 0 || atomic.LoadUint32(&s.Facts.TID) != tid {
		return false, false
	}
	switch word.State() {
	case abi.Posted, abi.Taken:
		return true, false
	case abi.Done:
		return false, true
	}
	return false, false
}

// Open returns how many requests are under way: who asked has not taken the verdict. A
// verdict that waits for its system call to run again is not among them.
func (r *Ring) Open() (n int) {
	for i := range r.slots {
		switch abi.Word(atomic.LoadUint64(&r.slots[i].Word)).State() {
		case abi.Free, abi.Unwound:
		default:
			n++
		}
	}
	return n
}

// SweepUnwound frees the verdicts whose system call has not come back between two
// calls: their tasks are gone, or were stopped on the way and will ask again. One
// caller at a time, seldom.
func (r *Ring) SweepUnwound() (freed int) {
	for i := range r.slots {
		at := &r.slots[i].Word
		word := atomic.LoadUint64(at)
		if abi.Word(word).State() != abi.Unwound {
			r.swept[i] = 0
			continue
		}
		if r.swept[i] == word && atomic.CompareAndSwapUint64(at, word, uint64(abi.MakeWord(abi.Word(word).Gen(), abi.Free, 0))) {
			freed++
		}
		r.swept[i] = word
	}
	return freed
}

// exchange moves a slot from one word to the next, and returns the next as it is now:
// with the flag Sleeping, if the requester has set that meanwhile. False when the slot
// has another word.
//
//go:nosplit
func exchange(slot *Slot, word, next abi.Word) (abi.Word, bool) {
	if atomic.CompareAndSwapUint64(&slot.Word, uint64(word), uint64(next)) {
		return next, true
	}
	if word&abi.Sleeping != 0 {
		return 0, false
	}
	word, next = word|abi.Sleeping, next|abi.Sleeping
	return next, atomic.CompareAndSwapUint64(&slot.Word, uint64(word), uint64(next))
}

// Park blocks. See arbiter.Source.
func (s *Source) Park(d time.Duration) {
	if s.setCold(); !anyPosted(&s.ring.header.Posted) {
		s.park.Load().Wait(d)
	}
}

// ParkDetached is Park. Not served: there is something that only Park sees to. See
// arbiter.DetachedSource.
//
//go:nosplit
func (s *Source) ParkDetached(d time.Duration) (served bool) {
	// Who puts another parker in force wakes the one before.
	p := s.park.Load().detached
	if p == nil {
		return false
	}
	if s.setCold(); anyPosted(&s.ring.header.Posted) {
		return true
	}
	s.left = !p.WaitDetached(d)
	return !s.left
}

// setCold says that this worker does not poll. One more look has to follow: a requester sets
// its bit first and then looks for hot workers, so one of the two sees the other.
//
//go:nosplit
func (s *Source) setCold() {
	atomic.AndUint64(&s.ring.header.Hot, ^(1 << uint(s.index)))
	s.hot = false
}

// Wake ends the current or the next Park. See arbiter.Source.
func (s *Source) Wake() { s.park.Load().Wake() }

//go:nosplit
func (s *Source) setHot() {
	atomic.OrUint64(&s.ring.header.Hot, 1<<uint(s.index))
	s.hot = true
}
