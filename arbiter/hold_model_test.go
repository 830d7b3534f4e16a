// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// modelled is a source whose requests the model makes and whose answers it checks.
type modelled struct {
	t       *rapid.T
	waiting []uint64
	open    map[uint64]bool // taken and not answered
	errno   map[uint64]uint16
	event   map[uint64]abi.Event
	gone    map[uint64]bool // the requester has given up
	keep    int             // how many may be held
}

func (m *modelled) Next(r *abi.Request) bool {
	if len(m.waiting) == 0 {
		return false
	}
	r.Ticket, m.waiting = m.waiting[0], m.waiting[1:]
	r.Event, r.Flags, r.Format, r.PostedNS = m.event[r.Ticket], 0, abi.FormatUnknown, 1<<62 // in the future: it has not waited
	r.PathLen = uint32(copy(r.PathBuf[:], fmt.Sprint("/t/", r.Ticket)))
	m.open[r.Ticket] = true
	return true
}

func (m *modelled) Reply(r *abi.Request, v abi.Verdict) bool {
	if !m.open[r.Ticket] || string(r.Path()) != fmt.Sprint("/t/", r.Ticket) {
		m.t.Fatalf("an answer to request %d, which is not open, of path %q", r.Ticket, r.Path())
	}
	delete(m.open, r.Ticket)
	m.errno[r.Ticket] = v.Errno
	return !m.gone[r.Ticket]
}

func (m *modelled) Hold(*abi.Request) bool { return len(m.open) <= m.keep }
func (m *modelled) Park(time.Duration)     {}
func (m *modelled) Wake()                  {}

// TestHoldsAreTheModel: whatever comes in whatever order, each request gets one verdict, the
// right one, and the counters add up after each step.
func TestHoldsAreTheModel(t *testing.T) {
	sets := []string{bothRules, // each with its own errno for what is refused, and what fails
		strings.NewReplacer("EACCES", "ENOENT", "EIO", "EBUSY").Replace(bothRules),
		"version: 1\ndefault: {deny: EROFS}\non_fail: {deny: ENXIO}\nscope: {paths: [/t]}\n",
	}
	refused := []unix.Errno{unix.EACCES, unix.ENOENT, unix.EROFS}
	failed := []unix.Errno{unix.EIO, unix.EBUSY, unix.ENXIO}
	tb := t
	rapid.Check(t, func(t *rapid.T) {
		m := &modelled{t: t, open: map[uint64]bool{}, errno: map[uint64]uint16{}, event: map[uint64]abi.Event{}, gone: map[uint64]bool{},
			keep: rapid.SampledFrom([]int{2, abi.MaxHeld}).Draw(t, "keep")}
		w := one(tb, mustRules(tb, sets[0], 1), rapid.SampledFrom([]int{-1, 64}).Draw(t, "cache"), m)
		held := map[uint64]Held{} // of what is held now
		wanted := map[uint64]abi.Fields{}
		var old []Held // of what is not any more
		var asked uint64
		room := true
		w.arbiter.cfg.Contents = wantingFunc(func(h Held, r *abi.Request, want abi.Fields) bool {
			if want != abi.FieldDigest && (want != abi.FieldFormat || r.Event != abi.EventMMapExec || r.Format != abi.FormatUnknown) {
				t.Fatalf("%v of request %d is asked for, an %v of format %q", want.Names(), r.Ticket, r.Event, r.Format)
			}
			if room {
				if before, ok := held[r.Ticket]; ok {
					old = append(old, before)
				}
				held[r.Ticket], wanted[r.Ticket] = h, want
			}
			return room
		})
		set := 0
		// expect checks the verdict of a request that has ended.
		expect := func(id uint64, want unix.Errno) {
			t.Helper()
			if got, ok := m.errno[id]; !ok || got != uint16(want) {
				t.Fatalf("request %d: errno %d (answered: %t), want %d", id, got, ok, want)
			}
			if h, ok := held[id]; ok {
				old = append(old, h)
				delete(held, id)
			}
		}
		pick := func() (uint64, Held, bool) {
			if len(held) == 0 {
				return 0, Held{}, false
			}
			id := rapid.SampledFrom(sorted(held)).Draw(t, "request")
			return id, held[id], true
		}
		ask := func(e abi.Event) uint64 {
			asked++
			m.event[asked] = e
			m.waiting = append(m.waiting, asked)
			w.taken, w.missing, w.patience = true, 0, 0
			w.source.Next(w.req)
			w.counters.requests.Add(1)
			w.answer()
			return asked
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				want := unix.Errno(0)
				if set == 2 {
					want = refused[2]
				}
				expect(ask(abi.EventOpen), want)
			},
			"by content": func(t *rapid.T) {
				room = rapid.IntRange(0, 4).Draw(t, "room") > 0
				full := len(held) >= m.keep || len(held) == abi.MaxHeld
				id := ask(rapid.SampledFrom([]abi.Event{abi.EventExec, abi.EventMMapExec}).Draw(t, "event"))
				switch {
				case set == 2:
					expect(id, refused[2])
				case full || !room:
					expect(id, failed[set])
				default:
					if _, ok := held[id]; !ok || !m.open[id] {
						t.Fatalf("request %d is not held", id)
					}
				}
			},
			"content": func(t *rapid.T) {
				id, h, ok := pick()
				if !ok {
					t.Skip("nothing is held")
				}
				// The one that is listed, another, or it cannot be had.
				kind := rapid.IntRange(0, 2).Draw(t, "kind")
				want, full := wanted[id], len(held) > m.keep
				c := abi.Content{Digest: [][32]byte{goodSum, otherSum, goodSum}[kind], Format: []abi.Format{abi.FormatELF, abi.FormatOther, abi.FormatELF}[kind]}
				if kind < 2 {
					c.Known = want
				}
				room = rapid.IntRange(0, 4).Draw(t, "room") > 0
				h.Content(c)
				if rapid.Bool().Draw(t, "twice") {
					h.Content(digest(goodSum, true))
				}
				if !w.tend() {
					t.Fatalf("request %d does not come back", id)
				}
				switch {
				case set == 2:
					expect(id, refused[2])
				case kind == 2:
					expect(id, failed[set])
				case kind == 1:
					expect(id, refused[set])
				case want == abi.FieldDigest:
					expect(id, 0)
				case full || !room:
					expect(id, failed[set])
				default:
					if wanted[id] != abi.FieldDigest || !m.open[id] {
						t.Fatalf("request %d is not held for its digest", id)
					}
				}
			},
			"stale": func(t *rapid.T) {
				if len(old) == 0 {
					t.Skip("nothing has ended")
				}
				rapid.SampledFrom(old).Draw(t, "request").Content(abi.Content{Known: abi.ContentFields, Format: abi.FormatELF, Digest: goodSum})
				before := len(m.errno)
				if w.tend() || len(m.errno) != before {
					t.Fatal("a note for a request that has ended has had an effect")
				}
			},
			"give up": func(t *rapid.T) {
				if id, _, ok := pick(); ok {
					m.gone[id] = true
				}
			},
			"expire": func(t *rapid.T) {
				all := sorted(held)
				n := 0
				for w.expire(math.MaxInt64) {
					n++
				}
				if n != len(all) {
					t.Fatalf("%d expire, want %d", n, len(all))
				}
				for _, id := range all {
					expect(id, failed[set])
				}
			},
			"push": func(t *rapid.T) {
				set = rapid.IntRange(0, 2).Draw(t, "set")
				number := w.live.number + 1
				w.adopt(&installed{rules: mustRules(tb, sets[set], number), reason: cache.RulesPushed, number: number})
			},
			"stop": func(t *rapid.T) {
				all := sorted(held)
				w.letGo()
				for _, id := range all {
					expect(id, failed[set])
				}
			},
			"": func(t *rapid.T) {
				s := w.arbiter.Stats()
				sum := s.Hits + s.Decided + s.InFlight
				for _, n := range s.Failed {
					sum += n
				}
				if s.Requests != asked || sum != asked || s.InFlight != uint64(len(held)) || s.Held != uint64(len(held)) || s.Allowed+s.Denied != asked-s.InFlight {
					t.Fatalf("%+v with %d asked, %d held", s, asked, len(held))
				}
				if len(m.open) != len(held) || w.holds.open != len(held) {
					t.Fatalf("%d open, the worker has %d, want %d", len(m.open), w.holds.open, len(held))
				}
			},
		})
	})
}

func sorted(held map[uint64]Held) (ids []uint64) {
	for id := range held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
