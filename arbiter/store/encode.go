// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"
)

// formatVersion is in the first line of every file.
const formatVersion = 1

// The kinds of file, the first word of each.
const (
	kindRules   = "arbiter-rules"
	kindCurrent = "arbiter-current"
)

// maxHeadBytes bounds the first line: kind, version, SHA-256 in hex, length.
const maxHeadBytes = 128

// Meta says when a rule set came and from whom.
type Meta struct {
	Epoch       uint64    `json:"epoch"`
	Fingerprint uint64    `json:"fingerprint"`
	PushedAt    time.Time `json:"pushed_at"`
	Boot        string    `json:"boot,omitempty"` // of the machine, when it was pushed
	UID         uint32    `json:"uid"`            // who pushed
	Reason      string    `json:"reason"`         // UTF-8, as the pusher gave it
	Name        string    `json:"name"`           // of the rule file, UTF-8
	Rules       int       `json:"rules"`          // how many
	// RollbackOf is the epoch whose text this set repeats, 0 when it was no
	// rollback.
	RollbackOf uint64 `json:"rollback_of,omitempty"`
	// Size is the length of the source in bytes; Prepare fills it in.
	Size int `json:"size"`
	// KeyID, Serial and Signature are of who has signed the source, if somebody has. The
	// signature is the file as it came.
	KeyID     string `json:"key_id,omitempty"`
	Serial    uint64 `json:"serial,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	// High is what Store.High is when this set is in force; Prepare fills it in. The file
	// "current" has it too: neither is lost with the other.
	High High `json:"high,omitzero"`
}

// High is the highest serial among the sets that were ever put in force to stay, and the
// SHA-256 of that one's source, in hex. The zero value says that none was signed.
type High struct {
	Serial uint64 `json:"serial"`
	SHA256 string `json:"sha256"`
}

// raisedBy returns h, or what the serial makes of it.
func (h High) raisedBy(serial uint64, source []byte) High {
	if serial <= h.Serial {
		return h
	}
	return High{serial, fmt.Sprintf("%x", sha256.Sum256(source))}
}

// IsOf reports whether the source is the one with the highest serial.
func (h High) IsOf(source []byte) bool {
	return h.Serial != 0 && h.SHA256 == fmt.Sprintf("%x", sha256.Sum256(source))
}

// pointer is the content of the file "current".
type pointer struct {
	Epoch uint64 `json:"epoch"` // in force, 0 for none
	Last  uint64 `json:"last"`  // the highest that was ever given
	High  High   `json:"high,omitzero"`
}

// seal returns a file with that body: a checksum line, and then its parts as they are, for a
// source can be large.
func seal(kind string, parts ...[]byte) [][]byte {
	return append([][]byte{[]byte(head(kind, parts...))}, parts...)
}

// head returns the first line of a file with that body, newline included.
func head(kind string, parts ...[]byte) string {
	sum, size := sha256.New(), 0
	for _, part := range parts {
		sum.Write(part) // never fails
		size += len(part)
	}
	return fmt.Sprintf("%s %d sha256=%x length=%d\n", kind, formatVersion, sum.Sum(nil), size)
}

// unseal returns the body of a file, which aliases data. The error wraps
// ErrCorrupt and says what is wrong.
func unseal(kind string, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	end := bytes.IndexByte(data[:min(len(data), maxHeadBytes)], '\n')
	if end < 0 {
		return nil, fmt.Errorf("%w: it has no first line of at most %d bytes", ErrCorrupt, maxHeadBytes)
	}
	line, body := data[:end+1], data[end+1:]
	if string(line) == head(kind, body) {
		return body, nil
	}
	// Slow path: say as much as can be known of what happened.
	var gotKind string
	var version, length int
	var sum []byte
	if _, err := fmt.Sscanf(string(line), "%s %d sha256=%x length=%d\n", &gotKind, &version, &sum, &length); err != nil || gotKind != kind {
		return nil, fmt.Errorf("%w: its first line is not that of %s", ErrCorrupt, kind)
	}
	if version != formatVersion {
		return nil, fmt.Errorf("%w: its format is %d, this program reads %d", ErrCorrupt, version, formatVersion)
	}
	if length != len(body) {
		return nil, fmt.Errorf("%w: it holds %d bytes, not the %d that were written", ErrCorrupt, len(body), length)
	}
	return nil, fmt.Errorf("%w: its checksum does not fit", ErrCorrupt)
}

// encodeSet returns the file of a rule set.
func encodeSet(m Meta, source []byte) ([][]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return seal(kindRules, append(line, '\n'), source), nil
}

// decodeSet returns what encodeSet wrote. The source aliases data. Errors wrap
// ErrCorrupt.
func decodeSet(data []byte) (Meta, []byte, error) {
	body, err := unseal(kindRules, data)
	if err != nil {
		return Meta{}, nil, err
	}
	line, source, ok := bytes.Cut(body, []byte{'\n'})
	if !ok {
		return Meta{}, nil, fmt.Errorf("%w: it has no second line", ErrCorrupt)
	}
	var m Meta
	if err := json.Unmarshal(line, &m); err != nil {
		return Meta{}, nil, fmt.Errorf("%w: its second line: %w", ErrCorrupt, err)
	}
	if m.Size != len(source) || m.Epoch == 0 {
		return Meta{}, nil, fmt.Errorf("%w: epoch %d with %d bytes says it has %d", ErrCorrupt, m.Epoch, len(source), m.Size)
	}
	return m, source, nil
}

// encodePointer returns the file "current".
func encodePointer(p pointer) ([][]byte, error) {
	line, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return seal(kindCurrent, append(line, '\n')), nil
}

// decodePointer returns what encodePointer wrote. Errors wrap ErrCorrupt.
func decodePointer(data []byte) (pointer, error) {
	body, err := unseal(kindCurrent, data)
	if err != nil {
		return pointer{}, err
	}
	var p pointer
	if err := json.Unmarshal(body, &p); err != nil {
		return pointer{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if p.Last < p.Epoch {
		return pointer{}, fmt.Errorf("%w: epoch %d is in force but only %d were given", ErrCorrupt, p.Epoch, p.Last)
	}
	return p, nil
}
