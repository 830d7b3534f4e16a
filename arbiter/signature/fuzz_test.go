// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"bytes"
	"errors"
	"testing"

	"aead.dev/minisign"
)

// FuzzSignature wants that no file makes the decoder panic, that what it reads it writes
// again, and that nothing but the signature of the key is accepted.
func FuzzSignature(f *testing.F) {
	key, dir := newKey(f)
	keys := readKeys(f, dir)
	good := sign(f, key, text, 42, "ticket 7")
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(legacy(key, text, "serial:1"))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n"))
	f.Add(bytes.Repeat([]byte{'\n'}, MaxBytes+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("parse(%q): %v, want %v", data, err, ErrMalformed)
			}
			return
		}
		var again minisign.Signature
		if err := again.UnmarshalText([]byte(s.String())); err != nil || !again.Equal(s) {
			t.Fatalf("parse(%q) = %+v, written and read again %+v, %v", data, s, again, err)
		}
		signed, err := keys.Verify([]byte(text), data)
		if err == nil && !bytes.HasPrefix([]byte(s.TrustedComment), []byte("serial:")) {
			t.Fatalf("accepted %+v", signed)
		}
		// The comment and the signature are the seeds' own, or it is a forgery.
		if err == nil && (signed.KeyID != key.ID() || signed.Comment != "serial:42 ticket 7" && signed.Comment != "serial:1") {
			t.Fatalf("accepted %+v", signed)
		}
	})
}

// FuzzKey does the same for public keys.
func FuzzKey(f *testing.F) {
	key, _ := newKey(f)
	f.Add(key.Public())
	f.Add(key.Public()[:50])
	f.Add([]byte("untrusted comment: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKey(data)
		if err != nil {
			return
		}
		again, err := parseKey([]byte(k.String()))
		if err != nil || !again.Equal(k) || len(data) > MaxBytes {
			t.Fatalf("parseKey(%q) = %v, written and read again %v, %v", data, k, again, err)
		}
	})
}

// FuzzSerial wants no panic, and a number above 0 from exactly one word.
func FuzzSerial(f *testing.F) {
	for _, s := range []string{"serial:42", "a serial:1 b", "serial:", "serial:1 serial:2", "serial:+1", "serial:99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, comment string) {
		if len(comment) > MaxBytes {
			return
		}
		n, err := serialIn(comment)
		if (n == 0) != (err != nil) {
			t.Fatalf("serialIn(%q) = %d, %v", comment, n, err)
		}
		if err != nil && !errors.Is(err, ErrSerial) {
			t.Fatalf("serialIn(%q): %v, want %v", comment, err, ErrSerial)
		}
	})
}
