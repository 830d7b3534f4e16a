// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"strings"
	"testing"
)

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

// Every result of a scan has a word that leads back to it, and nothing else has one.
func TestScanNames(t *testing.T) {
	for s := ScanUnknown + 1; s < ScanCount; s++ {
		if got, ok := ParseScan(s.String()); !ok || got != s {
			t.Errorf("ParseScan(%q): got %d, want %d", s, got, s)
		}
	}
	for _, word := range []string{"", "Clean", "unknown", "malicious"} {
		if s, ok := ParseScan(word); ok {
			t.Errorf("ParseScan(%q): got %d, want none", word, s)
		}
	}
	if ScanUnknown.String() != "" || ScanCount.String() != "unknown" {
		t.Errorf("%q and %q, want nothing and unknown", ScanUnknown, ScanCount)
	}
}

// A result of a scan has the name of what was found, as far as there is room, and of nothing
// that was found before.
func TestSetScan(t *testing.T) {
	long := strings.Repeat("x", SignatureBytes)
	var c Content
	for _, tc := range []struct {
		found, kept string
		want        Scan
	}{{"Eicar", "Eicar", ScanInfected}, {"a", "a", ScanInfected}, {long, long, ScanInfected}, {long + "y", long, ScanInfected}, {"", "", ScanClean}} {
		c.SetScan(tc.found)
		if got := strings.TrimRight(string(c.Signature[:]), "\x00"); c.Known != FieldScan || c.Scan != tc.want || got != tc.kept {
			t.Errorf("found %q: %v, the name %q, known %v", tc.found, c.Scan, got, c.Known.Names())
		}
		var r Request
		if r.Learn(&c); r.Content() != FieldScan || r.Scan != c.Scan || r.Signature != c.Signature {
			t.Errorf("found %q: a request learns %v", tc.found, r.Scan)
		}
		if r.ForgetContent(FieldScan); r.Content() != 0 || r.Signature != (Request{}).Signature {
			t.Errorf("found %q: a request remembers %q", tc.found, r.Signature)
		}
	}
	if c.ForgetScan(); c != (Content{}) {
		t.Errorf("forgotten: %+v", c)
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
		{"a scan", Content{Known: FieldScan, Format: FormatScript, Scan: ScanClean}, Request{Format: FormatELF, Scan: ScanClean, Have: FieldPath | FieldScan}},
		{"all", Content{Known: ContentFields, Format: FormatScript, Verity: none, Scan: ScanClean, Digest: sum}, Request{Format: FormatScript, Verity: none, Scan: ScanClean, Digest: sum, Flags: FlagDigest, Have: FieldPath | ContentFields}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Request{Format: FormatELF, Have: FieldPath}
			r.Learn(&tc.c)
			if r.Format != tc.want.Format || r.Digest != tc.want.Digest || r.Verity != tc.want.Verity || r.Scan != tc.want.Scan || r.Flags != tc.want.Flags || r.Have != tc.want.Have {
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
