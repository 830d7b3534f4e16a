// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"fmt"
	"strconv"
	"strings"
)

// ModeBits are those of a file's mode that say who may do what with it, and as whom it runs.
const ModeBits = 0o7777

// NoOwner stands for an owner or a group that is not known: no file has it.
const NoOwner = ^uint32(0)

// Attributes are the owner, the group and the mode of a file. The zero value is that of no file: the
// mode of one says what kind it is.
type Attributes struct{ UID, GID, Mode uint32 }

// Known reports whether they are those of a file.
func (a Attributes) Known() bool { return a.Mode&modeFormat != 0 }

// String returns what "stat -c %u:%g:0o%a" prints, "" when they are not known.
func (a Attributes) String() string {
	if !a.Known() {
		return ""
	}
	return fmt.Sprintf("%d:%d:0o%o", a.UID, a.GID, a.Mode&ModeBits)
}

// ParseAttributes returns what String has written, for a regular file, and false for anything else and
// for "".
func ParseAttributes(s string) (a Attributes, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return a, false
	}
	uid, err1 := strconv.ParseUint(parts[0], 10, 32)
	gid, err2 := strconv.ParseUint(parts[1], 10, 32)
	digits, octal := strings.CutPrefix(parts[2], "0o")
	mode, err3 := strconv.ParseUint(digits, 8, 32)
	if err1 != nil || err2 != nil || err3 != nil || !octal || mode&^ModeBits != 0 {
		return a, false
	}
	return Attributes{uint32(uid), uint32(gid), modeRegular | uint32(mode)}, true
}

// HasAttributes reports whether OwnerUID, OwnerGID and Mode are those of a file. They are not where
// there is no object, or one that is about to be created.
func (r *Request) HasAttributes() bool { return r.Mode&modeFormat != 0 && r.Flags&FlagNoObject == 0 }

// Attributes returns those of the object's file, none where it has none.
func (r *Request) Attributes() (a Attributes) {
	if r.HasAttributes() {
		a = Attributes{r.OwnerUID, r.OwnerGID, r.Mode}
	}
	return a
}

// SetAttributes gives r those of a file.
func (r *Request) SetAttributes(a Attributes) { r.OwnerUID, r.OwnerGID, r.Mode = a.UID, a.GID, a.Mode }
