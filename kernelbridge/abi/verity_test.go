// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"strings"
	"testing"
)

// What is written is read again, and nothing else is.
func TestParseVerity(t *testing.T) {
	f := func(text string, alg VerityAlg) {
		t.Helper()
		v, ok := ParseVerity(text)
		if !ok || v.Alg != alg || v.String() != strings.ToLower(text) || len(v.Bytes()) != alg.Size() {
			t.Errorf("%q: got %v (%t) of the hash %q, want it of %q", text, v, ok, v.Alg, alg)
		}
	}
	f("none", VerityNone)
	f("sha256:"+strings.Repeat("0a", 32), VeritySHA256)
	f("sha256:"+strings.Repeat("0A", 32), VeritySHA256)
	f("sha512:"+strings.Repeat("f0", 64), VeritySHA512)
	for _, text := range []string{"", ":", "None", "none:", "none:00", "sha256", "sha256:", "any", "sha1:" + strings.Repeat("0a", 20), strings.Repeat("0a", 32), ":" + strings.Repeat("0a", 32),
		"sha256:" + strings.Repeat("0a", 31), "sha256:" + strings.Repeat("0a", 64), "sha512:" + strings.Repeat("0a", 32), "sha256:" + strings.Repeat("0g", 32), "sha256:" + strings.Repeat("0a", 32) + " "} {
		if v, ok := ParseVerity(text); ok || v != (Verity{}) {
			t.Errorf("%q: got %v, want none", text, v)
		}
	}
	if got := (Verity{}).String() + VerityCount.String(); got != "unknown" || VerityCount.Size() != 0 {
		t.Errorf("got %q, and a size of %d", got, VerityCount.Size())
	}
}

// FuzzParseVerity: what is read is written as the same text, but for capitals.
func FuzzParseVerity(f *testing.F) {
	for _, text := range []string{"", "none", "sha256:", "sha256:" + strings.Repeat("0A", 32), "sha512:" + strings.Repeat("f0", 64), "sha512:" + strings.Repeat("é", 32)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, ok := ParseVerity(text)
		if ok && v.String() != strings.ToLower(text) || !ok && v != (Verity{}) {
			t.Errorf("%q: got %v, %t", text, v, ok)
		}
		for _, b := range v.Sum[v.Alg.Size():] {
			if b != 0 {
				t.Fatalf("%q: %v has something behind its end", text, v)
			}
		}
	})
}
