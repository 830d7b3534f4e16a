// SPDX-License-Identifier: Apache-2.0

package abi

import "strconv"

// Size is how long a regular file is. The zero value is that of what is none, or is not known.
type Size struct {
	Known bool
	Bytes uint64
}

// SizeOf returns the size of a file with that mode, of which the kernel says it is size: of a directory
// and other things that are no regular files it says what it likes.
func SizeOf(mode uint32, size int64) Size {
	if mode&modeFormat != modeRegular || size < 0 {
		return Size{}
	}
	return Size{true, uint64(size)}
}

// String returns the number of bytes, "" when it is not known.
func (s Size) String() string {
	if !s.Known {
		return ""
	}
	return strconv.FormatUint(s.Bytes, 10)
}

// ParseSize returns what String has written, false for anything else and for "".
func ParseSize(text string) (s Size, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || text != strconv.FormatInt(n, 10) {
		return s, false
	}
	return Size{true, uint64(n)}, true
}
