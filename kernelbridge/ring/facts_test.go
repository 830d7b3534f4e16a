// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// A length that no text can have is a text that is not known, and says so.
func TestFillLengths(t *testing.T) {
	for _, tc := range []struct {
		name                       string
		path, exe, flags           uint32
		wantPath, wantExe, wantSet uint32
	}{
		{"empty", 0, 0, 0, 0, 0, 0},
		{"the longest", abi.PathBytes - 1, abi.PathBytes - 1, 0, abi.PathBytes - 1, abi.PathBytes - 1, 0},
		{"a path without room for its NUL", abi.PathBytes, 1, 0, 0, 1, abi.FlagPathTruncated},
		{"an exe without room for its NUL", 1, abi.PathBytes, 0, 1, 0, abi.FlagNoExe},
		{"garbage", 1<<32 - 1, 1 << 31, 0, 0, 0, abi.FlagPathTruncated | abi.FlagNoExe},
		{"flags of its own stay", 5, 6, abi.FlagNoExe | 1<<28, 5, 6, abi.FlagNoExe | 1<<28},
		{"it knows nothing of the content", 5, 6, abi.FlagDigest | abi.FlagNoContent, 5, 6, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := abi.Request{PathLen: 99, ExeLen: 99, Flags: 1<<29 | abi.FlagDigest, Format: abi.FormatELF, Verity: abi.Verity{Alg: abi.VeritySHA256}} // of the question before
			ring.Fill(&q, &ring.Facts{PathLen: tc.path, ExeLen: tc.exe, Flags: tc.flags})
			if q.PathLen != tc.wantPath || q.ExeLen != tc.wantExe || q.Flags != tc.wantSet || q.Content() != 0 {
				t.Errorf("got lengths %d, %d, flags %#x and %v of the content, want %d, %d, %#x and nothing", q.PathLen, q.ExeLen, q.Flags, q.Content().Names(), tc.wantPath, tc.wantExe, tc.wantSet)
			}
		})
	}
}

// A text longer than there is room for is cut, in every build.
func TestStoreBytes(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), abi.PathBytes/4)
	for _, n := range []int{0, 1, 7, 8, 9, abi.PathBytes - 1, abi.PathBytes, abi.PathBytes + 1, len(text)} {
		var dst [abi.PathBytes]byte
		ring.StoreBytes(&dst, text[:n])
		if want := min(n, abi.PathBytes); !bytes.Equal(dst[:want], text[:want]) {
			t.Errorf("%d bytes were not stored as they are", n)
		}
	}
}

// FuzzFacts fills a request from arbitrary bytes. Its texts can be read, its events
// and reasons printed, and nothing that does not fit gets in silently.
func FuzzFacts(f *testing.F) {
	size := binary.Size(ring.Facts{})
	f.Add(make([]byte, size))
	f.Add(bytes.Repeat([]byte{0xff}, size))
	for _, n := range []uint32{abi.PathBytes - 1, abi.PathBytes, abi.PathBytes + 1} {
		b, err := binary.Append(nil, binary.NativeEndian, ring.Facts{PathLen: n, ExeLen: n, Event: uint32(abi.EventExec)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts ring.Facts
		if _, err := binary.Decode(append(bytes.Clone(b), make([]byte, size)...), binary.NativeEndian, &facts); err != nil {
			t.Fatal(err)
		}
		var q abi.Request
		ring.Fill(&q, &facts)
		if len(q.Path()) >= abi.PathBytes || len(q.Exe()) >= abi.PathBytes || q.Event.String() == "" {
			t.Errorf("path of %d, exe of %d bytes, event %q", len(q.Path()), len(q.Exe()), q.Event)
		}
		if q.PathLen != facts.PathLen && q.Flags&abi.FlagPathTruncated == 0 {
			t.Errorf("a path of %d bytes became %d and nothing says so", facts.PathLen, q.PathLen)
		}
		if q.ExeLen != facts.ExeLen && q.Flags&abi.FlagNoExe == 0 {
			t.Errorf("an exe of %d bytes became %d and nothing says so", facts.ExeLen, q.ExeLen)
		}
		if want := abi.SizeOf(facts.Mode, facts.Size); q.Size != want || q.Size.Bytes > 1<<63-1 {
			t.Errorf("mode %o, size %d became %+v, want %+v", facts.Mode, facts.Size, q.Size, want)
		}
		if ours := abi.FlagDigest | abi.FlagNoContent; q.Flags&^facts.Flags&^abi.AllFlags != 0 || facts.Flags&^q.Flags != facts.Flags&ours {
			t.Errorf("flags %#x became %#x", facts.Flags, q.Flags)
		}
	})
}

// FuzzMemory writes arbitrary words, bits and facts into the shared memory and lets
// a worker run over it. It takes what is posted, once, answers only that, and leaves
// everything else as it is.
func FuzzMemory(f *testing.F) {
	const slots = 8
	f.Add([]byte{}, byte(0), []byte{})
	f.Add(bytes.Repeat([]byte{byte(abi.Posted)}, 8*slots), byte(0xff), bytes.Repeat([]byte{0xff}, 200))
	f.Add(bytes.Repeat([]byte{2, 0, 0, 0, 0, 0xff, 0xff, 0xff}, slots), byte(0x81), bytes.Repeat([]byte{0x10, 0}, 100))
	r := newRing(f, 1)
	h := r.Header()
	clean := *h
	s := r.Sources()[0]
	size := binary.Size(ring.Facts{})
	f.Fuzz(func(t *testing.T, words []byte, posted byte, facts []byte) {
		words = append(bytes.Clone(words), make([]byte, 8*slots)...)
		*h = clean
		for i := range h.Posted {
			h.Posted[i] = 0
		}
		h.Posted[0] = uint64(posted)
		h.Posted[7] = uint64(posted) << 56 // free slots: garbage bits
		var w [slots]abi.Word
		waiting := 0
		for i := range slots {
			w[i] = abi.Word(binary.NativeEndian.Uint64(words[i*8:]))
			set(r, i, w[i])
			b := append(bytes.Clone(facts), make([]byte, size)...)
			b[0] ^= byte(i)
			if _, err := binary.Decode(b, binary.NativeEndian, &r.Slot(i).Facts); err != nil {
				t.Fatal(err)
			}
			if posted>>i&1 == 1 && w[i].State() == abi.Posted {
				waiting++
			}
		}
		var q abi.Request
		for s.Next(&q) {
			i := q.Ticket
			if i >= slots || posted>>i&1 == 0 || w[i].State() != abi.Posted {
				t.Fatalf("slot %d was handed out", i)
			}
			waiting--
			if len(q.Path()) >= abi.PathBytes || len(q.Exe()) >= abi.PathBytes {
				t.Errorf("slot %d: path of %d, exe of %d bytes", i, len(q.Path()), len(q.Exe()))
			}
			if !s.Reply(&q, abi.Verdict{Errno: 13}) || s.Reply(&q, abi.Verdict{}) {
				t.Errorf("slot %d: not answered exactly once", i)
			}
			w[i] = w[i].Answered(abi.Verdict{Errno: 13}) // a sleeper stays one
		}
		if waiting != 0 || flagged(r) {
			t.Errorf("%d questions were not handed out, bits left: %t", waiting, flagged(r))
		}
		for i := range slots {
			checkWord(t, r, i, w[i])
		}
	})
}
