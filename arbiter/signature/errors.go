// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"errors"
	"fmt"
)

// Why a signature is not accepted; an *Error wraps one of these.
var (
	// ErrMissing: a signature is required, and there is none.
	ErrMissing = errors.New("the rules are not signed")
	// ErrNoKeys: there is a signature, and nothing to verify it by.
	ErrNoKeys = errors.New("no key is trusted")
	// ErrMalformed: what should be a signature is none, or is cut short, or is of an
	// algorithm that minisign does not have.
	ErrMalformed = errors.New("the signature is damaged")
	// ErrUnknownKey: it is a signature of somebody who is not trusted.
	ErrUnknownKey = errors.New("the signing key is not trusted")
	// ErrText: the rules were changed after they were signed, or the signature is of
	// others.
	ErrText = errors.New("the signature is not of these rules")
	// ErrComment: the trusted comment was changed after it was signed, or the signature
	// itself was.
	ErrComment = errors.New("the signature or its trusted comment was changed")
	// ErrSerial: the trusted comment has no serial, or more than one.
	ErrSerial = errors.New("the trusted comment does not say which serial")
	// ErrReplayed: rules with a higher serial, or others with the same, were in force
	// already.
	ErrReplayed = errors.New("the signed rules are replayed")
)

// Error is why a signature is not accepted.
type Error struct {
	Reason error  // one of the above
	Detail string // what is wrong with this one; may be empty
	Next   string // what to do
}

// Error says why, in detail, and not what to do.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Reason.Error()
	}
	return e.Reason.Error() + ": " + e.Detail
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

// signHint shows how to sign with the tool of the format's author.
const signHint = `minisign -S -t "serial:N" -m FILE`

// Missing is the error of rules that need a signature and have none.
func Missing() *Error {
	return &Error{ErrMissing, "", "sign them with a trusted key: " + signHint + "; then push FILE with FILE.minisig beside it"}
}

// NoKeys is the error of a signature where no key is trusted.
func NoKeys() *Error {
	return &Error{ErrNoKeys, "there is a signature, and nothing to verify it by",
		"set trusted_keys in the daemon's configuration and restart it; or leave the signature out: arbiterctl rules push --no-signature"}
}

func malformed(format string, args ...any) *Error {
	return &Error{ErrMalformed, fmt.Sprintf(format, args...), "take the whole file that minisign has written, or sign again: " + signHint}
}

// Follows returns nil when s may come after rules with the highest serial so far: its own
// is higher, or equal and the text is the same. The error wraps ErrReplayed.
func (s Signed) Follows(highest uint64, sameText bool) error {
	switch {
	case s.Serial > highest || s.Serial == highest && sameText:
		return nil
	case s.Serial == highest:
		return &Error{ErrReplayed, fmt.Sprintf("serial %d was in force already, with another text", s.Serial),
			fmt.Sprintf("sign them with a higher serial, %d or above", highest+1)}
	}
	return &Error{ErrReplayed, fmt.Sprintf("their serial is %d, and %d was in force already", s.Serial, highest),
		fmt.Sprintf("sign them with a serial above %d; to go back to rules that are kept: arbiterctl rules rollback EPOCH", highest)}
}
