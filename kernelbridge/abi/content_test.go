// SPDX-License-Identifier: Apache-2.0

package abi

import "testing"

func TestFormatOf(t *testing.T) {
	for head, want := range map[string]Format{
		"":                   FormatOther,
		"\x7f":               FormatOther,
		"\x7fEL":             FormatOther,
		"\x7fELF":            FormatELF,
		"\x7fELF\x02\x01":    FormatELF,
		"\x7fELf":            FormatOther,
		"ELF\x7f":            FormatOther,
		"\x00\x7fELF":        FormatOther,
		"#":                  FormatOther,
		"#!":                 FormatScript,
		"#!/bin/sh\n":        FormatScript,
		"# !":                FormatOther,
		" #!/bin/sh":         FormatOther,
		"\xef\xbb\xbf#!/bin": FormatOther, // a byte order mark
		"!#":                 FormatOther,
		"\x7f#!F":            FormatOther,
	} {
		if got := FormatOf([]byte(head)); got != want {
			t.Errorf("%q: got %s, want %s", head, got, want)
		}
	}
}

// Every format has a word that leads back to it, and nothing else has one.
func TestFormatNames(t *testing.T) {
	for f := FormatUnknown + 1; f < FormatCount; f++ {
		if got, ok := ParseFormat(f.String()); !ok || got != f {
			t.Errorf("ParseFormat(%q): got %d, want %d", f, got, f)
		}
	}
	for _, word := range []string{"", "ELF", "unknown", "executable"} {
		if f, ok := ParseFormat(word); ok {
			t.Errorf("ParseFormat(%q): got %d, want none", word, f)
		}
	}
	if FormatUnknown.String() != "" || FormatCount.String() != "unknown" {
		t.Errorf("%q and %q, want nothing and unknown", FormatUnknown, FormatCount)
	}
}

// A request learns what is known, and keeps what it knew of the rest.
func TestLearn(t *testing.T) {
	sum, none := [32]byte{1}, Verity{Alg: VerityNone}
	for _, tc := range []struct {
		name string
		c    Content
		want Request
	}{
		{"nothing", Content{Format: FormatScript, Digest: [32]byte{2}}, Request{Format: FormatELF, Have: FieldPath}},
		{"a format", Content{Known: FieldFormat, Format: FormatScript, Digest: [32]byte{2}}, Request{Format: FormatScript, Have: FieldPath | FieldFormat}},
		{"a digest", Content{Known: FieldDigest, Format: FormatScript, Digest: sum}, Request{Format: FormatELF, Digest: sum, Flags: FlagDigest, Have: FieldPath | FieldDigest}},
		{"an fs-verity digest", Content{Known: FieldVerity, Verity: none, Digest: [32]byte{2}}, Request{Format: FormatELF, Verity: none, Have: FieldPath | FieldVerity}},
		{"all", Content{Known: ContentFields, Format: FormatScript, Verity: none, Digest: sum}, Request{Format: FormatScript, Verity: none, Digest: sum, Flags: FlagDigest, Have: FieldPath | ContentFields}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Request{Format: FormatELF, Have: FieldPath}
			r.Learn(&tc.c)
			if r.Format != tc.want.Format || r.Digest != tc.want.Digest || r.Verity != tc.want.Verity || r.Flags != tc.want.Flags || r.Have != tc.want.Have {
				t.Errorf("got the format %q, %v, digest %x, flags %#x, facts %v", r.Format, r.Verity, r.Digest, r.Flags, r.Have.Names())
			}
			has := FieldFormat | tc.c.Known
			if r.Content() != has {
				t.Errorf("it has %v, want %v", r.Content().Names(), has.Names())
			}
			for f := Fields(1); f < AllFields; f <<= 1 {
				forgets := r
				if forgets.ForgetContent(f); forgets.Content() != has&^f || forgets.Have != r.Have {
					t.Errorf("without %v it has %v, facts %v", f.Names(), forgets.Content().Names(), forgets.Have.Names())
				}
			}
			if r.ForgetContent(ContentFields); r.Content() != 0 {
				t.Errorf("it still has %v", r.Content().Names())
			}
		})
	}
}

func TestNoContent(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Request
		want bool
	}{
		{"nothing is known", Request{}, false},
		{"a file", Request{Mode: 0o100755}, false},
		{"a directory", Request{Mode: 0o40755}, true},
		{"a fifo", Request{Mode: 0o10600}, true},
		{"no object", Request{Flags: FlagNoObject, Mode: 0o100755}, true},
	} {
		if got := tc.r.NoContent(); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
	var r Request
	if r.SetNoContent(); !r.NoContent() {
		t.Error("it has a content still")
	}
}
