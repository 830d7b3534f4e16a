// SPDX-License-Identifier: Apache-2.0

package abi

import "testing"

func TestAttributes(t *testing.T) {
	f := func(text string, want Attributes) {
		t.Helper()
		got, ok := ParseAttributes(text)
		if got != want || ok != want.Known() {
			t.Errorf("%q: got %+v, %t, want %+v", text, got, ok, want)
		}
		if ok && got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	f("0:0:0o4755", Attributes{Mode: 0o104755})
	f("1000:100:0o0", Attributes{1000, 100, 0o100000})
	f("4294967295:4294967295:0o7777", Attributes{^uint32(0), ^uint32(0), 0o107777})
	for _, bad := range []string{"", "0:0", "0:0:755", "0:0:0o", "0:0:0o8", "0:0:0o10000", "-1:0:0o0", "4294967296:0:0o0", "0:0:0o0:0", "root:0:0o0"} {
		f(bad, Attributes{})
	}
	if got := (Attributes{5, 6, 0o040755}).String(); got != "5:6:0o755" {
		t.Errorf("a directory: got %s, want its bits alone", got)
	}
	if got := (Attributes{5, 6, 0o755}).String(); got != "" {
		t.Errorf("no file: got %s, want nothing", got)
	}
}

// A request has attributes when its object is a file, and only then.
func TestRequestAttributes(t *testing.T) {
	want := Attributes{1, 2, 0o100644}
	var r Request
	if r.HasAttributes() || r.Attributes() != (Attributes{}) {
		t.Error("without an object: it has attributes")
	}
	r.SetAttributes(want)
	if !r.HasAttributes() || r.Attributes() != want {
		t.Errorf("got %+v, want %+v", r.Attributes(), want)
	}
	if r.SetNoContent(); r.Attributes() != want || !r.NoContent() {
		t.Errorf("without content: got %+v, want %+v", r.Attributes(), want)
	}
	if r.Flags |= FlagNoObject; r.HasAttributes() || r.Attributes() != (Attributes{}) {
		t.Error("with the flag: it has attributes")
	}
}
