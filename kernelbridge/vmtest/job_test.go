// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitter(t *testing.T) {
	const nonce = "NONCE"
	m := func(word, payload string) string { return string(marker(nonce, word, payload)) }
	f := func(name, in, wantOut string, wantMarks ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			// Each piece length cuts the stream at other places.
			for piece := 1; piece <= max(len(in), 1); piece++ {
				var out bytes.Buffer
				var marks []string
				s := newSplitter(nonce, &out, func(word, payload string) { marks = append(marks, word+"|"+payload) })
				for b := []byte(in); len(b) > 0; {
					n := min(piece, len(b))
					if _, err := s.Write(b[:n]); err != nil {
						t.Fatal(err)
					}
					b = b[n:]
				}
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
				if got := out.String(); got != wantOut {
					t.Fatalf("in pieces of %d: output: got %q, want %q", piece, got, wantOut)
				}
				if diff := cmp.Diff(wantMarks, marks); diff != "" {
					t.Fatalf("in pieces of %d: markers (-want +got):\n%s", piece, diff)
				}
			}
		})
	}
	f("nothing", "", "")
	f("output alone", "PASS\nok\n", "PASS\nok\n")
	f("a whole run", m(markStart, `{"CPUs":2}`)+"PASS\n"+m(markExit, "0"), "PASS\n", `start|{"CPUs":2}`, "exit|0")
	f("a marker within a line", "no newline"+m(markExit, "1"), "no newline", "exit|1")
	f("another nonce is output", "\x1eOTHER exit 0\n", "\x1eOTHER exit 0\n")
	f("the byte alone is output", "a\x1e\x1eb\x1e", "a\x1e\x1eb\x1e")
	f("the byte before a marker", "\x1e"+m(markExit, "0"), "\x1e", "exit|0")
	f("an unfinished marker is output", "x\x1eNONCE exit 0", "x\x1eNONCE exit 0")
	f("a payload with spaces", m(markFail, "loading fuse: no"), "", "fail|loading fuse: no")
	f("no payload", "\x1eNONCE exit\n", "", "exit|")
}

func TestSplitterBoundsAMarker(t *testing.T) {
	var out bytes.Buffer
	s := newSplitter("N", &out, func(word, payload string) { t.Errorf("got marker %q %q, want none", word, payload) })
	in := "\x1eN " + strings.Repeat("x", 2*maxMarker)
	if _, err := s.Write([]byte(in)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != in {
		t.Errorf("output: got %d bytes, want all %d", len(got), len(in))
	}
}

func TestExitStatus(t *testing.T) {
	f := func(payload string, want int, ok bool) {
		t.Helper()
		got, err := exitStatus(payload)
		if got != want || (err == nil) != ok {
			t.Errorf("exitStatus(%q): got %d, %v; want %d, success %t", payload, got, err, want, ok)
		}
	}
	f("0", 0, true)
	f("137", 137, true)
	f("-1", 0, false)
	f("256", 0, false)
	f("", 0, false)
	f("0 ", 0, false)
}

func TestSplitSeries(t *testing.T) {
	got := SplitSeries(" 6.1, 6.12 newest,6.1 ")
	if diff := cmp.Diff([]string{"6.1", "6.12", "newest"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
