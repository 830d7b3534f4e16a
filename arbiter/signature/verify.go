// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

// Signed is what a signature that was verified says.
type Signed struct {
	KeyID   string // 16 hexadecimal digits, in capitals as minisign prints them
	Serial  uint64 // above 0
	Comment string // the whole trusted comment, the serial in it; bytes of the signer
}

// Verify says who has signed text. The error is an *Error. An id tells a key from others
// and proves nothing: whoever signs can write any, and the signature fits one of the
// trusted keys or none.
func (k *Keys) Verify(text, signature []byte) (Signed, error) {
	if k == nil || len(k.keys) == 0 {
		return Signed{}, NoKeys()
	}
	s, err := parse(signature)
	if err != nil {
		return Signed{}, err
	}
	id := idText(s.KeyID)
	failed := &Error{ErrUnknownKey, fmt.Sprintf("it is %s, trusted are %s", id, strings.Join(k.IDs(), ", ")),
		"sign them with a trusted key, or have an administrator put this one among trusted_keys"}
	for _, key := range k.keys {
		if key.ID() != s.KeyID {
			continue
		}
		if !minisign.Verify(key, text, signature) {
			failed = diagnose(key, s)
			continue
		}
		serial, err := serialIn(s.TrustedComment)
		if err != nil {
			return Signed{}, err
		}
		return Signed{KeyID: id, Serial: serial, Comment: s.TrustedComment}, nil
	}
	return Signed{}, failed
}

// parse decodes a signature without looking at what it signs.
func parse(signature []byte) (s minisign.Signature, err error) {
	if len(signature) > MaxBytes {
		return s, malformed("it has more than %d bytes", MaxBytes)
	}
	if err := s.UnmarshalText(signature); err != nil {
		return s, malformed("%s", libraryText(err))
	}
	return s, nil
}

// diagnose says what of a signature that does not verify was changed. Nothing is accepted
// here: the comment has a signature of its own, over that of the text and itself.
func diagnose(key minisign.PublicKey, s minisign.Signature) *Error {
	raw, _ := base64.StdEncoding.DecodeString(key.String()) // of the library, algorithm and id before the key
	signed := slices.Concat(s.Signature[:], []byte(s.TrustedComment))
	if ed25519.Verify(raw[len(raw)-ed25519.PublicKeySize:], signed, s.CommentSignature[:]) {
		return &Error{ErrText, "they were changed after they were signed, or it belongs to others",
			"look at what has changed, then sign again: " + signHint}
	}
	return &Error{ErrComment, "it does not fit its own second signature",
		"take the signature from where it was made, or sign again: " + signHint}
}

// serialWord begins the word of the trusted comment that is the serial.
const serialWord = "serial:"

// serialIn returns the serial of a trusted comment: exactly one word serial:N with a
// decimal number above 0.
func serialIn(comment string) (serial uint64, err error) {
	wrong := func(detail string) error {
		return &Error{ErrSerial, detail, `sign again with one word serial:N in the trusted comment, counted up each time: minisign -S -t "serial:42" -m FILE`}
	}
	found := 0
	for _, word := range strings.Fields(comment) {
		digits, ok := strings.CutPrefix(word, serialWord)
		if !ok {
			continue
		}
		found++
		serial, err = strconv.ParseUint(digits, 10, 64)
		if err != nil || serial == 0 {
			return 0, wrong(fmt.Sprintf("%q is no number above 0", word))
		}
	}
	if found != 1 {
		return 0, wrong(fmt.Sprintf("%q has %d words serial:N, not one", comment, found))
	}
	return serial, nil
}
