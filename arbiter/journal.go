// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// noRule marks a record that no rule set had a part in.
const noRule = int32(-2)

// record is what the worker knows of a decision beside the request.
type record struct {
	decision int32 // rule index, -1 default, noRule
	verdict  rules.Verdict
	reason   abi.Reason
	cached   bool
	inTime   bool
	waited   int64  // nanoseconds
	asked    uint64 // Asked, and above it the uid of who has answered: one more would not fit into registers
}

const (
	// journalBytes holds about 1,100 records with usual paths.
	journalBytes = 256 << 10
	// fixedBytes is the size of a record's fixed part: see append.
	fixedBytes = 200
	// maxRecords is how many records a journal holds at most.
	maxRecords = journalBytes / (8 + fixedBytes)
	// journalStart is near overflow, so that the wrap-around of the positions
	// is exercised by every run.
	journalStart = ^uint64(0) - 4*journalBytes + 1
)

// journal is a byte queue from one worker to the collector. Each record is
// contiguous: a u32 length (a multiple of 8), the fixed part, the numbers up to the last
// that is not 0, the cgroups, the digest if there is one, the fs-verity digest if there is one, who
// was asked if somebody was, the path, the detail, the exe, the name of what a scanner has found.
// A length of 0 means that the rest up to the end of the buffer is unused.
//
// The worker alone writes tail; head is written by whoever holds stream.mu, mostly
// the collector. The worker may write bytes [tail, head+journalBytes); the other may
// read [head, tail) after it has loaded tail.
type journal struct {
	buf   []byte
	asked [8]byte // scratch of append
	_     [64]byte
	tail  atomic.Uint64
	_     [64]byte
	head  atomic.Uint64
	_     [64]byte
}

func newJournal() *journal {
	j := &journal{buf: make([]byte, journalBytes)}
	j.tail.Store(journalStart)
	j.head.Store(journalStart)
	return j
}

// append copies the worker's current request and rec into the journal. False
// when there is no room. It runs detached, with all that it calls: see hits.go.
//
//go:nosplit
func (j *journal) append(w *worker, rec *record) bool {
	r := w.req
	args := abi.Args
	for args > 0 && r.Arg[args-1] == 0 {
		args--
	}
	levels := 0
	for levels < abi.CgroupLevels && r.Cgroup[levels] != 0 {
		levels++
	}
	var digest []byte
	if r.Flags&abi.FlagDigest != 0 {
		digest = r.Digest[:]
	}
	var asked []byte
	if rec.asked != 0 {
		asked = j.asked[:]
		binary.LittleEndian.PutUint64(asked, rec.asked)
	}
	found := 0
	if r.Scan == abi.ScanInfected {
		found = clen(r.Signature[:])
	}
	need := uint64(8+fixedBytes+8*(args+levels)+len(digest)+r.Verity.Alg.Size()+len(asked)+int(r.PathLen)+int(r.DetailLen)+int(r.ExeLen)+found+7) &^ 7
	b, end := j.place(need)
	if b == nil {
		return false
	}
	binary.LittleEndian.PutUint32(b, uint32(need))
	f, rest := (*fixed)(b[8:]), b[8+fixedBytes:]
	f[13], f[14], f[15] = flag(rec.cached)|byte(found)<<1, flag(rec.inTime)|flag(digest != nil)<<1|flag(asked != nil)<<2|byte(r.Scan)<<3, byte(args)
	f[137] = byte(levels)
	w.putDecision(f, rec)
	putEvent(f, r)
	putTask(f, r)
	rest = putNumbers(rest, r.Arg[:args])
	rest = putNumbers(rest, r.Cgroup[:levels])
	rest = rest[copy(rest, digest):]
	rest = rest[copy(rest, r.Verity.Bytes()):]
	rest = rest[copy(rest, asked):]
	putTexts(rest, r, found)
	j.tail.Store(end) // publishes: the collector may read everything before it
	return true
}

// place returns need contiguous bytes to write a record into, and the tail that publishes
// it; nil when there is no room.
//
//go:nosplit
func (j *journal) place(need uint64) (b []byte, end uint64) {
	tail, head := j.tail.Load(), j.head.Load()
	free := journalBytes - (tail - head)
	at := tail % journalBytes
	if toEnd := journalBytes - at; toEnd < need {
		if free < toEnd+need {
			return nil, 0
		}
		binary.LittleEndian.PutUint32(j.buf[at:], 0)
		tail += toEnd
		at = 0
	} else if free < need {
		return nil, 0
	}
	return j.buf[at : at+need], tail + need
}

// fixed is the fixed part of a record: an array, so that no index into it has to be checked.
type fixed [fixedBytes]byte

// putDecision writes what is decided into the fixed part of a record.
//
//go:nosplit
func (w *worker) putDecision(f *fixed, rec *record) {
	le := binary.LittleEndian
	le.PutUint32(f[8:], uint32(rec.decision))
	f[12] = byte(rec.verdict.Action)
	le.PutUint16(f[16:], rec.verdict.Errno)
	le.PutUint32(f[20:], uint32(rec.reason))
	le.PutUint64(f[24:], uint64(rec.waited))
	le.PutUint64(f[104:], w.rules.Epoch())
	le.PutUint64(f[112:], w.counters.dropped.Load())
	le.PutUint64(f[120:], w.live.number)
}

// putEvent writes what is asked, and about what, into the fixed part of a record.
//
//go:nosplit
func putEvent(f *fixed, r *abi.Request) {
	le := binary.LittleEndian
	le.PutUint32(f[0:], uint32(r.Event))
	le.PutUint32(f[4:], uint32(r.Access))
	le.PutUint16(f[18:], uint16(r.DetailLen)) // below abi.PathBytes
	le.PutUint64(f[56:], r.Dev)
	le.PutUint64(f[64:], r.Ino)
	le.PutUint32(f[88:], r.PathLen)
	le.PutUint32(f[92:], r.ExeLen)
	le.PutUint64(f[96:], uint64(r.PostedNS))
	f[136], f[138], f[139] = byte(r.Flags&abi.AllFlags), byte(r.Format), byte(r.Verity.Alg)
	le.PutUint32(f[140:], uint32(known(r)))
	a := r.Attributes()
	le.PutUint32(f[160:], a.UID)
	le.PutUint32(f[164:], a.GID)
	le.PutUint32(f[168:], a.Mode)
	le.PutUint64(f[192:], r.Size.Bytes|uint64(flag(r.Size.Known))<<63) // no file is that long
}

// putTask writes who asks into the fixed part of a record.
//
//go:nosplit
func putTask(f *fixed, r *abi.Request) {
	le := binary.LittleEndian
	le.PutUint32(f[32:], r.TGID)
	le.PutUint32(f[36:], r.TID)
	le.PutUint32(f[40:], r.UID)
	le.PutUint32(f[44:], r.GID)
	le.PutUint64(f[48:], r.StartBoottime)
	copy(f[72:88], r.Comm[:])
	le.PutUint32(f[128:], r.EUID)
	le.PutUint32(f[132:], r.EGID)
	le.PutUint64(f[144:], r.Trees)
	le.PutUint64(f[152:], uint64(r.Marks))
	le.PutUint32(f[172:], r.Credentials.LoginUID)
	le.PutUint64(f[176:], r.Credentials.Capabilities)
	le.PutUint32(f[184:], uint32(r.Credentials.HostNamespaces&abi.AllNamespaces)|uint32(flag(r.Credentials.Known))<<31)
	le.PutUint32(f[188:], r.Credentials.Session)
}

// putTexts writes the texts of r into rest, with found bytes of what a scanner has named.
//
//go:nosplit
func putTexts(rest []byte, r *abi.Request, found int) {
	rest = rest[copy(rest, r.Path()):]
	rest = rest[copy(rest, r.Detail()):]
	rest = rest[copy(rest, r.Exe()):]
	copy(rest, r.Signature[:found])
}

// putNumbers writes v and returns what is left of b.
//
//go:nosplit
func putNumbers(b []byte, v []uint64) []byte {
	for _, n := range v {
		binary.LittleEndian.PutUint64(b, n)
		b = b[8:]
	}
	return b
}

// known returns the facts that a record of r has. What is no file is known to have no content,
// which its flags say where there is no object at all.
//
//go:nosplit
func known(r *abi.Request) abi.Fields {
	have := r.Have & abi.AllFields
	if r.NoContent() && r.Flags&abi.FlagNoObject == 0 {
		have |= abi.ContentFields
	}
	return have
}

// empty reports whether there is no record. Anyone may ask.
func (j *journal) empty() bool { return j.head.Load() == j.tail.Load() }

// filling reports whether the records take more than a quarter of the journal: what is left is
// for those that come while the collector is woken. Anyone may ask.
//
//go:nosplit
func (j *journal) filling() bool {
	head := j.head.Load() // first: it never passes the tail
	return j.tail.Load()-head > journalBytes/4
}

// clen returns how many bytes stand before the first NUL.
//
//go:nosplit
func clen(b []byte) int {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		return n
	}
	return len(b)
}

//go:nosplit
func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// origin is what a record says beside its event.
type origin struct {
	decision int32  // as in record
	dropped  uint64 // records that the journal had no room for before this one
	set      uint64 // number of the installed set
	trees    uint64 // as in abi.Request
	marks    uint32 // likewise
}

// next decodes the oldest record into e and reports its origin; false when the
// journal is empty. Rule, line, message and process trees are left to the caller, who
// knows the rule sets.
func (j *journal) next(e *Event) (o origin, ok bool) {
	le := binary.LittleEndian
	for {
		head := j.head.Load()
		if head == j.tail.Load() {
			return origin{}, false
		}
		at := head % journalBytes
		need := uint64(le.Uint32(j.buf[at:]))
		if need == 0 {
			j.head.Store(head + journalBytes - at)
			continue
		}
		b := j.buf[at : at+need]
		o = decode((*fixed)(b[8:]), b[8+fixedBytes:], e)
		j.head.Store(head + need)
		return o, true
	}
}

// decode reads a record's fixed part f and what is behind it.
func decode(f *fixed, rest []byte, e *Event) origin {
	le := binary.LittleEndian
	args, rest := rest[:8*int(f[15])], rest[8*int(f[15]):]
	cgroup, text := rest[:8*int(f[137])], rest[8*int(f[137]):]
	sum := text[:f[14]>>1&1*32]
	text = text[len(sum):]
	verity := abi.Verity{Alg: abi.VerityAlg(f[139])}
	text = text[copy(verity.Bytes(), text):]
	asked := text[:f[14]>>2&1*8]
	text = text[len(asked):]
	path, detail, exe := le.Uint32(f[88:]), uint32(le.Uint16(f[18:])), le.Uint32(f[92:])
	*e = Event{
		Event:   abi.Event(le.Uint32(f[0:])),
		Access:  abi.Access(le.Uint32(f[4:])),
		Verdict: rules.Action(f[12]).String(),
		Cached:  f[13]&1 != 0,
		Errno:   le.Uint16(f[16:]),
		Reason:  abi.Reason(le.Uint32(f[20:])),
		TGID:    le.Uint32(f[32:]), TID: le.Uint32(f[36:]),
		UID: le.Uint32(f[40:]), GID: le.Uint32(f[44:]),
		StartBoottime: le.Uint64(f[48:]),
		Dev:           le.Uint64(f[56:]), Ino: le.Uint64(f[64:]),
		Comm:   unix.ByteSliceToString(f[72:88]),
		Path:   string(text[:path]),
		Detail: string(text[path : path+detail]),
		Exe:    string(text[path+detail : path+detail+exe]),
		Epoch:  le.Uint64(f[104:]),
		EUID:   le.Uint32(f[128:]), EGID: le.Uint32(f[132:]),
		Flags:       uint32(f[136]),
		Facts:       abi.Fields(le.Uint32(f[140:])),
		SHA256:      hex.EncodeToString(sum),
		Format:      abi.Format(f[138]),
		Verity:      verity,
		Scan:        abi.Scan(f[14] >> 3),
		Attributes:  abi.Attributes{UID: le.Uint32(f[160:]), GID: le.Uint32(f[164:]), Mode: le.Uint32(f[168:])},
		Size:        abi.Size{Known: f[199]>>7 != 0, Bytes: le.Uint64(f[192:]) &^ (1 << 63)},
		Credentials: abi.Credentials{LoginUID: le.Uint32(f[172:]), Session: le.Uint32(f[188:]), Capabilities: le.Uint64(f[176:]), HostNamespaces: abi.Namespaces(le.Uint32(f[184:])) & abi.AllNamespaces, Known: f[187]>>7 != 0},
	}
	e.Signature = string(text[path+detail+exe:][:f[13]>>1])
	if len(asked) > 0 {
		e.Asked, e.AnsweredBy = Asked(le.Uint32(asked)).String(), le.Uint32(asked[4:])
	}
	for i := range len(args) / 8 {
		e.Args[i] = le.Uint64(args[8*i:])
	}
	for i := range len(cgroup) / 8 {
		e.Cgroup[i] = le.Uint64(cgroup[8*i:])
	}
	e.Latency, e.Late = time.Duration(le.Uint64(f[24:])), f[14]&1 == 0
	e.postedNS = int64(le.Uint64(f[96:]))
	return origin{decision: int32(le.Uint32(f[8:])), dropped: le.Uint64(f[112:]), set: le.Uint64(f[120:]), trees: le.Uint64(f[144:]), marks: uint32(le.Uint64(f[152:]))}
}
