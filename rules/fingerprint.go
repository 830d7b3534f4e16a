// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/cespare/xxhash/v2"
)

// encodingVersion is the first number of the canonical form; it changes with it.
const encodingVersion = 2

// fingerprint hashes the canonical form of f: what it says after everything
// inherited is filled in, without positions and without its text.
func fingerprint(f *File) uint64 {
	e := newEncoder()
	e.number(encodingVersion)
	e.verdict(f.def)
	e.number(uint64(f.deadline))
	e.verdict(f.onFail)
	e.list(f.scope.Paths)
	e.list(f.scope.Cgroups)
	e.number(uint64(f.listed))
	e.number(uint64(len(f.rules)))
	for i := range f.rules {
		r := &f.rules[i]
		if r.match.hasLater() || r.not != nil && r.not.hasLater() {
			e.later = append(e.later, i)
		}
		e.text(r.id)
		e.number(uint64(r.events))
		e.block(&r.match)
		if r.not == nil {
			e.number(0)
		} else {
			e.number(1)
			e.block(r.not)
		}
		e.verdict(r.verdict)
		e.text(r.note.Message)
		e.number(uint64(r.deadline))
		e.verdict(r.onFail)
	}
	// What came later stands behind, and only where there is some: a file without it
	// keeps its fingerprint.
	s, m := &f.scope, &f.mute
	if len(s.UIDs)+len(s.Exes)+len(s.Mounts)+len(s.ProcessTrees)+len(m.Named())+len(m.Unmute) > 0 {
		e.dimensions(s)
		e.dimensions(&m.Scope)
		e.list(m.Invert)
		e.list(m.Unmute)
	}
	if len(m.Events) > 0 {
		e.number(uint64(setOf(m.Events...)))
	}
	e.digests(f.rules)
	e.trees(f.rules)
	e.formats(f.rules)
	e.verities(f.rules)
	e.attributes(f.rules)
	e.sizes(f.rules)
	e.credentials(f.rules)
	e.scans(f.rules)
	for i := range f.rules {
		if r := &f.rules[i]; r.when != nil || r.only != 0 || !r.life.always() || r.note != (Note{Message: r.note.Message}) {
			e.number(uint64(i))
			e.number(uint64(r.only))
			e.list([]string{r.note.Owner, r.note.Reason, r.note.Ticket})
			e.life(&r.life)
			if r.when != nil {
				e.text(r.when.String())
			}
		}
	}
	return e.sum()
}

// encoder writes the canonical form into a hash. Numbers have a fixed width and
// texts and lists their length in front, so that no two forms are the same
// bytes.
type encoder struct {
	d     xxhash.Digest
	buf   []byte         // what is not in d yet
	sums  map[any]uint64 // of long lists, by their first value's place
	later []int          // rules with something that blocks writes
}

func newEncoder() *encoder {
	e := &encoder{sums: map[any]uint64{}}
	e.d.Reset()
	return e
}

func (e *encoder) number(n uint64) { e.room(binary.LittleEndian.AppendUint64(e.buf, n)) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.room(append(e.buf, s...))
}

// bytes writes some of which each list has the same number.
func (e *encoder) bytes(b []byte) { e.room(append(e.buf, b...)) }

// room keeps the buffer, and empties it when it is full: the hash is quick where it gets much.
func (e *encoder) room(buf []byte) {
	if e.buf = buf; len(buf) >= 4<<10 {
		e.d.Write(buf) // never fails
		e.buf = buf[:0]
	}
}

func (e *encoder) sum() uint64 {
	e.d.Write(e.buf)
	e.buf = e.buf[:0]
	return e.d.Sum64()
}

func (e *encoder) list(ss []string) {
	e.number(uint64(len(ss)))
	for _, s := range ss {
		e.text(s)
	}
}

func (e *encoder) dimensions(s *Scope) {
	for _, ss := range [...][]string{s.Paths, s.Cgroups, s.Exes, s.Mounts, s.ProcessTrees} {
		e.list(ss)
	}
	e.number(uint64(len(s.UIDs)))
	for _, r := range s.UIDs {
		e.number(uint64(r.First)<<32 | uint64(r.Last))
	}
}

func (e *encoder) life(l *lifespan) {
	e.number(uint64(l.kind))
	e.number(uint64(l.long))
	if l.expires.IsZero() {
		e.number(0)
	} else {
		e.text(l.expires.UTC().Format(time.RFC3339Nano))
	}
	e.number(uint64(len(l.times)))
	for _, w := range l.times {
		e.number(uint64(w.days))
		e.number(uint64(w.from))
		e.number(uint64(w.to))
		e.text(w.zone.String())
	}
}

func (e *encoder) verdict(v Verdict) { e.number(uint64(v.Action)<<16 | uint64(v.Errno)) }

func (e *encoder) block(b *block) {
	e.number(uint64(b.access))
	for _, rs := range [...][]numberRange{b.uid, b.gid, b.euid, b.egid} {
		long(e, rs, func(e *encoder, r numberRange) { e.number(r.lo<<32 | r.hi) })
	}
	e.number(uint64(len(b.cgroup)))
	for _, c := range b.cgroup {
		e.text(c.path)
	}
	for _, ps := range [...][]pattern{b.path, b.detail, b.exe} {
		long(e, ps, func(e *encoder, p pattern) {
			e.number(uint64(p.kind))
			e.text(p.text)
		})
	}
	e.number(uint64(len(b.args)))
	for _, a := range b.args {
		e.text(a.name)
		e.number(a.all)
		e.number(a.any)
		long(e, a.ranges, func(e *encoder, r numberRange) {
			e.number(r.lo)
			e.number(r.hi)
		})
	}
	long(e, b.addr, func(e *encoder, n netip.Prefix) { e.text(n.String()) })
}

// hasLater reports whether there is something in the block that blocks appends.
func (b *block) hasLater() bool {
	return b.contentFields() != 0 || len(b.tree)+len(b.size)+len(b.credentials.session) > 0 || b.attributes.given() || b.credentials.given()
}

// blocks appends something that came later than the rest of the form, of the blocks that have it.
func (e *encoder) blocks(rs []rule, word string, has func(*block) bool, write func(*block)) {
	for _, i := range e.later {
		for in, b := range [...]*block{&rs[i].match, rs[i].not} {
			if b == nil || !has(b) {
				continue
			}
			e.text(word)
			e.number(uint64(i))
			e.number(uint64(in))
			write(b)
		}
	}
}

// longEncoded is from how many values on a list has a hash of its own.
const longEncoded = 64

// long writes a list of values that can be a set which many rules name: the hash of a long one
// is made once.
func long[T any](e *encoder, vs []T, write func(*encoder, T)) {
	e.number(uint64(len(vs)))
	to := e
	if len(vs) >= longEncoded {
		if sum, ok := e.sums[&vs[0]]; ok {
			e.number(sum)
			return
		}
		to = newEncoder()
	}
	for _, v := range vs {
		write(to, v)
	}
	if to != e {
		sum := to.sum()
		e.sums[&vs[0]] = sum
		e.number(sum)
	}
}
