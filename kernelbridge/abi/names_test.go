// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"strings"
	"testing"
)

// Every fact and every flag has a word that leads back to it, and nothing else has one.
func TestNamesOfSets(t *testing.T) {
	if got, want := strings.Join((AllFields|FieldKeep).Names(), " "), "path exe uid gid cgroup access detail args sha256 process_tree format fsverity attributes credentials scan size"; got != want {
		t.Errorf("facts: got %s, want %s", got, want)
	}
	if got, want := strings.Join(FlagNames(^uint32(0)), " "), "path_truncated no_exe no_object detail_truncated"; got != want {
		t.Errorf("flags: got %s, want %s", got, want)
	}
	for f := Fields(1); f <= AllFields; f <<= 1 {
		if got, ok := ParseField(f.Names()[0]); !ok || got != f {
			t.Errorf("ParseField(%q): got %#x, %t, want %#x", f.Names()[0], got, ok, f)
		}
	}
	for f := uint32(1); f <= AllFlags; f <<= 1 {
		if got, ok := ParseFlag(FlagNames(f)[0]); !ok || got != f {
			t.Errorf("ParseFlag(%q): got %#x, %t, want %#x", FlagNames(f)[0], got, ok, f)
		}
	}
	if AllFields&FieldArgs == 0 || AllFlags&FlagDetailTruncated == 0 {
		t.Errorf("all facts are %#x and all flags %#x: the last ones are missing", AllFields, AllFlags)
	}
	for _, word := range []string{"", "nothing", "keep", "Path"} {
		if f, ok := ParseField(word); ok {
			t.Errorf("ParseField(%q): got %#x, want none", word, f)
		}
		if f, ok := ParseFlag(word); ok {
			t.Errorf("ParseFlag(%q): got %#x, want none", word, f)
		}
	}
}
