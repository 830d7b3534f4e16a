// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// The longest record there is fits in a line, however its bytes are written.
func TestLongestLine(t *testing.T) {
	for _, unit := range []string{"\x01", "\xff", "\U000e0041", "\u202e"} {
		long := strings.Repeat(unit, abi.PathBytes/len(unit)-1)
		e := sample()
		e.Event, e.Access, e.Path, e.Detail, e.Exe = abi.EventRename, 0, "/"+long, "/"+long, "/"+long
		for len(e.InTrees) < rules.MaxTrees {
			e.InTrees = append(e.InTrees, "/"+long)
		}
		e.NotInTrees = nil
		e.Message = strings.Repeat("\u2028", 341)
		line := AppendEvent(nil, &e)
		if len(line) > MaxLineBytes/2 {
			t.Errorf("%q: a line of %d bytes, want at most half of MaxLineBytes", unit, len(line))
		}
		checkDecode(t, &e, line)
	}
}

func TestDecodeRefuses(t *testing.T) {
	e := sample()
	good := string(bytes.TrimSuffix(AppendEvent(nil, &e), []byte("\n")))
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatalf("the line that is spoilt below: %v", err)
	}
	for _, tc := range []struct {
		name, old, now string
		want           string // in the error
	}{
		{"nothing", good, "", "column 1: the line is cut off"},
		{"no JSON", good, "exec denied", "column 1: it is no JSON"},
		{"a line for people", good, "2026-11-24T12:30:15.123Z 1 exec", "a record cannot be a JSON number"},
		{"a number", good, "7", "cannot be a JSON number"},
		{"cut off", good[len(good)-40:], "", "the line is cut off"},
		{"a field that nobody knows", `"unmapped":{`, `"unmapped":{"x":1,`, `unknown field "x"`},
		{"a wrong kind", `"euid":1001`, `"euid":"1001"`, "cannot be a JSON string"},
		{"a number that does not fit", `"euid":1001`, `"euid":4294967296`, "cannot be a JSON number"},
		{"an event of no daemon", `"event":"exec"`, `"event":"exce"`, `unmapped.event cannot be "exce"`},
		{"an access", `"access":["exec"]`, `"access":["\u001b[2J"]`, `unmapped.access cannot be "\\x1b[2J"`},
		{"a verdict", `"verdict":"deny"`, `"verdict":"maybe"`, `unmapped.verdict cannot be "maybe"`},
		{"an errno", `"status_code":"EACCES"`, `"status_code":"EWHAT"`, `status_code cannot be "EWHAT"`},
		{"a fact", `"facts":["path"`, `"facts":["paths"`, `unmapped.facts cannot be "paths"`},
		{"a size that no file has", `"euid":1001`, `"size":9223372036854775808,"euid":1001`, `unmapped.size cannot be "9223372036854775808"`},
		{"a size below nothing", `"euid":1001`, `"size":-1,"euid":1001`, "cannot be a JSON number"},
		{"nine cgroups", `"cgroups":[12,345]`, `"cgroups":[1,2,3,4,5,6,7,8,9]`, `unmapped.cgroups cannot be "9"`},
		{"process trees in another order", `"in":true}`, `"in":false},{"path":"/x","in":true}`, "from here on"},
		{"a program in no base64", `{"path":"/usr/sbin/sshd",`, `{"path":"/usr/sbin/sshd","path_b64":"?",`, `a text in base64 cannot be "?"`},
		{"a time", `"time_dt":"2026`, `"time_dt":"26`, "time_dt cannot be"},
		{"the other time is another", `"time":1795523415123`, `"time":1795523415124`, "column 105: from here on it is not what such a record is written as"},
		{"an outcome that is not the verdict's", `"action_id":2`, `"action_id":1`, "from here on"},
		{"written by others", `"verdict":"deny"`, `"verdict": "deny"`, "from here on"},
		{"a field twice", `"euid":1001`, `"euid":1,"euid":1001`, "from here on"},
		{"something behind it", good, good + "{}", "from here on"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			line := strings.Replace(good, tc.old, tc.now, 1)
			_, err := Decode([]byte(line))
			var at *LineError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), tc.want) || !strings.HasSuffix(err.Error(), hintLine) {
				t.Errorf("got %v\nwant %s ... %s", err, tc.want, hintLine)
			}
		})
	}
}

// A reader goes on behind a line that is no record, however long that is, and counts lines.
func TestReader(t *testing.T) {
	e := sample()
	line := string(AppendEvent(nil, &e))
	text := line + "\n" + "no record\n" + strings.Repeat("x", 3*MaxLineBytes) + "\n" + line + line[:90]
	for name, in := range map[string]io.Reader{"at once": strings.NewReader(text), "in parts": iotest.HalfReader(strings.NewReader(text))} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(in)
			for _, want := range []struct {
				line int
				bad  string
			}{{1, ""}, {3, "it is no JSON"}, {4, "has more than 3145728 bytes"}, {5, ""}, {6, "the line is cut off"}} {
				got, err := r.Next()
				if r.Line() != want.line {
					t.Errorf("line %d, want %d", r.Line(), want.line)
				}
				if want.bad != "" {
					var bad *LineError
					if !errors.As(err, &bad) || !strings.Contains(err.Error(), want.bad) {
						t.Errorf("line %d: got %v, want %s", r.Line(), err, want.bad)
					}
					continue
				}
				if err != nil || got.Seq != e.Seq {
					t.Errorf("line %d: got %+v, %v", r.Line(), got, err)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("behind the last line: got %v, want EOF", err)
			}
		})
	}
	broken := errors.New("disk gone")
	r := NewReader(io.MultiReader(strings.NewReader(line+line[:90]), iotest.ErrReader(broken)))
	if _, err := r.Next(); err != nil {
		t.Errorf("before the error: %v", err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

// Whatever is read as a record is written as the very same line.
func FuzzDecode(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "events.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(golden) {
		f.Add(line)
	}
	f.Add([]byte("{}"))
	f.Add([]byte(`{"unmapped":{"verdict":"allow"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) > MaxLineBytes {
			return
		}
		e, err := Decode(line)
		if err != nil {
			var bad *LineError
			if !errors.As(err, &bad) || bad.Column < 1 || bad.Column > len(line)+1 {
				t.Errorf("%q: error %v, want one with a column of the line", line, err)
			}
			return
		}
		if again := AppendEvent(nil, e); !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(line, []byte("\n"))) {
			t.Errorf("%q becomes %q", line, again)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e := sample()
	line := AppendEvent(nil, &e)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}
