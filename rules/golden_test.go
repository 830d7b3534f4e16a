// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

var errNoCgroup = errors.New("no such file or directory")

// TestGolden runs every testdata/*.txtar: rules.yaml is loaded, its problems are
// compared with the file problems; or each line of requests is decided and
// compared with decisions, and explained and compared with explained, when the
// archive has those.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/*.txtar: got %d files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a := parseArchive(data)
	rs, err := Load("rules.yaml", a.get("rules.yaml"), Options{CgroupID: fakeCgroups})
	var problems string
	if err != nil {
		for _, p := range err.(Problems) {
			problems += p.Error() + "\n"
		}
	}
	check := func(name, got string) {
		if *update {
			a.set(name, got)
			return
		}
		if diff := cmp.Diff(string(a.get(name)), got); diff != "" {
			t.Errorf("%s of %s (-want +got); rewrite with -update:\n%s", name, file, diff)
		}
	}
	check("problems", problems)
	if rs != nil && a.get("requests") != nil {
		var decisions, explained strings.Builder
		for line := range strings.Lines(string(a.get("requests"))) {
			line = strings.TrimSpace(line)
			r := parseRequest(t, rs, line)
			d := rs.Decide(r)
			fmt.Fprintf(&decisions, "%s => %v by %s line %d, within %v else %v\n", line, d.Verdict, rs.RuleID(d.Rule), rs.Line(d.Rule), d.Deadline, d.OnFail)
			fmt.Fprintf(&explained, "%s\n%s", line, rs.Explain(r))
		}
		check("decisions", decisions.String())
		if a.get("explained") != nil {
			check("explained", explained.String())
		}
	}
	if *update {
		if err := os.WriteFile(file, a.format(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// parseRequest reads one line: an event and key=value words, where a value in
// quotes is a Go string. The subject is in the process trees that are named, and in no other.
func parseRequest(t *testing.T, rs *RuleSet, line string) *abi.Request {
	t.Helper()
	word := regexp.MustCompile(`^\s*([\w.]+)(?:=("(?:[^"\\]|\\.)*"|\S*))?`)
	r := &abi.Request{}
	for rest := line; strings.TrimSpace(rest) != ""; {
		m := word.FindStringSubmatch(rest)
		if m == nil {
			t.Fatalf("request %q: cannot read %q", line, rest)
		}
		rest = rest[len(m[0]):]
		value := m[2]
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				t.Fatalf("request %q: %v", line, err)
			}
		}
		number, _ := strconv.ParseUint(value, 10, 32)
		switch m[1] {
		case "path":
			r.PathLen = uint32(copy(r.PathBuf[:], value))
		case "exe":
			r.ExeLen = uint32(copy(r.ExeBuf[:], value))
		case "noexe":
			r.Flags |= abi.FlagNoExe
		case "noobject":
			r.Flags |= abi.FlagNoObject
		case "format":
			if err := SetFormat(r, value); err != nil {
				t.Fatal(err)
			}
		case "fsverity":
			if err := SetVerity(r, value); err != nil {
				t.Fatal(err)
			}
		case "attributes":
			if err := SetAttributes(r, value); err != nil {
				t.Fatal(err)
			}
		case "size":
			if err := SetSize(r, value); err != nil {
				t.Fatal(err)
			}
		case "credentials":
			if err := SetCredentials(r, value); err != nil {
				t.Fatal(err)
			}
		case "scan":
			if err := SetScan(r, value); err != nil {
				t.Fatal(err)
			}
		case "directory":
			r.Mode = 0o40755
		case "detail":
			r.DetailLen = uint32(copy(r.DetailBuf[:], value))
		case "nodetail":
			r.Flags |= abi.FlagDetailTruncated
		case "nopath":
			r.Flags |= abi.FlagPathTruncated
		case "uid":
			r.UID = uint32(number)
		case "gid":
			r.GID = uint32(number)
		case "euid":
			r.EUID = uint32(number)
		case "egid":
			r.EGID = uint32(number)
		case "cgroup":
			for i, s := range strings.Split(value, ",") {
				r.Cgroup[i], _ = strconv.ParseUint(s, 10, 64)
			}
		case "trees":
			r.Trees, _ = rs.MarksOf(strings.Split(value, ","), nil)
		case "access":
			for s := range strings.SplitSeq(value, ",") {
				for _, a := range accessNames {
					if a.name == s {
						r.Access |= a.bit
					}
				}
			}
		default:
			if name, ok := strings.CutPrefix(m[1], "args."); ok {
				v, err := ParseArg(r.Event, name, value)
				if err != nil {
					t.Fatalf("request %q: %v", line, err)
				}
				r.Arg[catalogue.Of(r.Event).Arg(name)] = v
				continue
			}
			if e, ok := abi.ParseEvent(m[1]); ok && r.Event == abi.EventNone {
				if r.Event = e; e == abi.EventExec {
					r.Access = abi.AccessExec
				}
				continue
			}
			t.Fatalf("request %q: unknown word %q", line, m[1])
		}
	}
	return r
}

// archive is a txtar file: a comment and named files behind "-- name --" lines.
type archive struct {
	comment []byte
	names   []string
	files   map[string][]byte
}

var marker = regexp.MustCompile(`(?m)^-- (.+) --\n`)

func parseArchive(data []byte) *archive {
	a := &archive{files: map[string][]byte{}}
	marks := marker.FindAllSubmatchIndex(data, -1)
	end := len(data)
	for i := len(marks) - 1; i >= 0; i-- {
		m := marks[i]
		name := string(data[m[2]:m[3]])
		a.names = append([]string{name}, a.names...)
		a.files[name] = data[m[1]:end]
		end = m[0]
	}
	a.comment = data[:end]
	return a
}

func (a *archive) get(name string) []byte { return a.files[name] }

func (a *archive) set(name, text string) {
	if _, ok := a.files[name]; !ok {
		if text == "" {
			return
		}
		a.names = append(a.names, name)
	}
	a.files[name] = []byte(text)
}

func (a *archive) format() []byte {
	var b bytes.Buffer
	b.Write(a.comment)
	for _, n := range a.names {
		fmt.Fprintf(&b, "-- %s --\n", n)
		b.Write(a.files[n])
	}
	return b.Bytes()
}
