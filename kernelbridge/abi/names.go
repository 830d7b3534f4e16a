// SPDX-License-Identifier: Apache-2.0

package abi

import "math/bits"

// fieldNames are the words for the facts, by bit.
var fieldNames = [...]string{"path", "exe", "uid", "gid", "cgroup", "access", "detail", "args", "sha256", "process_tree", "format", "fsverity", "attributes", "credentials", "scan", "size"}

// flagNames are the words for the flags of a Request, by bit.
var flagNames = [...]string{"path_truncated", "no_exe", "no_object", "detail_truncated"}

// AllFields are the facts that can be consulted, without FieldKeep; AllFlags are the flags
// that have a meaning.
const (
	AllFields Fields = 1<<len(fieldNames) - 1
	AllFlags  uint32 = 1<<len(flagNames) - 1
)

// Names returns the words for the facts in f, in the order of their bits; nil for none.
func (f Fields) Names() []string { return names(uint32(f&AllFields), fieldNames[:]) }

// ParseField returns the fact with that name, false when there is none.
func ParseField(name string) (Fields, bool) {
	bit, ok := parse(name, fieldNames[:])
	return Fields(bit), ok
}

// FlagNames returns the words for the flags of a Request; nil for none.
func FlagNames(flags uint32) []string { return names(flags&AllFlags, flagNames[:]) }

// ParseFlag returns the flag with that name, false when there is none.
func ParseFlag(name string) (uint32, bool) { return parse(name, flagNames[:]) }

func names(set uint32, words []string) (out []string) {
	for ; set != 0; set &= set - 1 {
		out = append(out, words[bits.TrailingZeros32(set)])
	}
	return out
}

func parse(name string, words []string) (uint32, bool) {
	for i, w := range words {
		if w == name {
			return 1 << i, true
		}
	}
	return 0, false
}
