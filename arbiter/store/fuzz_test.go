// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"testing"
)

func joined(parts [][]byte) []byte { return bytes.Join(parts, nil) }

// FuzzDecodeSet checks that no file makes the decoder panic, and that it accepts
// only what its own bytes vouch for.
func FuzzDecodeSet(f *testing.F) {
	parts, err := encodeSet(Meta{Epoch: 7, Size: 4, Name: "a", Reason: "b"}, []byte("text"))
	if err != nil {
		f.Fatal(err)
	}
	good := joined(parts)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("arbiter-rules 1 sha256=00 length=0\n"))
	f.Add([]byte("arbiter-rules 99999999999999999999 sha256=zz length=-1\n"))
	f.Add(joined(seal(kindRules, []byte("{}\n"))))
	f.Add(joined(seal(kindRules, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, source, err := decodeSet(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want %v", err, ErrCorrupt)
			}
			return
		}
		if m.Size != len(source) || !bytes.HasSuffix(data, source) {
			t.Fatalf("accepted %d bytes of source for size %d", len(source), m.Size)
		}
		// Whoever adds a byte or takes one away is found out.
		for _, bad := range [][]byte{append(bytes.Clone(data), 0), data[:len(data)-1]} {
			if _, _, err := decodeSet(bad); err == nil {
				t.Fatalf("accepted another length of %q", data)
			}
		}
	})
}

// FuzzDecodePointer does the same for the file "current".
func FuzzDecodePointer(f *testing.F) {
	good, err := encodePointer(pointer{Epoch: 3, Last: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(joined(good))
	f.Add(joined(seal(kindCurrent, []byte(`{"epoch":5,"last":3}`))))
	f.Add(joined(seal(kindCurrent, []byte(`[`))))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePointer(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want %v", err, ErrCorrupt)
			}
			return
		}
		if p.Last < p.Epoch {
			t.Fatalf("accepted %+v", p)
		}
	})
}
