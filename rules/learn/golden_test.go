// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// TestGolden runs every testdata/*.txtar: from the files options, facts and disk come the
// files proposal and review.
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
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	part := func(name string) *txtar.File {
		for i := range a.Files {
			if a.Files[i].Name == name {
				return &a.Files[i]
			}
		}
		t.Fatalf("%s has no file %s", file, name)
		return nil
	}
	opt := parseOptions(t, string(part("options").Data))
	opt.Disk = tree(strings.Fields(string(part("disk").Data)))
	var o Observed
	var facts []Fact
	for line := range strings.Lines(string(part("facts").Data)) {
		f, n := parseFact(t, strings.TrimSpace(line))
		facts = append(facts, f)
		for range n {
			o.Add(f)
		}
	}
	p, err := Propose(&o, opt)
	if err != nil {
		t.Fatal(err)
	}
	var review strings.Builder
	fmt.Fprintf(&review, "%d rules, %d requests\n", p.Rules, p.Requests)
	for _, price := range p.Prices {
		fmt.Fprintf(&review, "%s %s\n", price.Rule, price)
	}
	for _, u := range p.Uncounted {
		fmt.Fprintf(&review, "uncounted %s\n", u)
	}
	for _, u := range p.Unexpressed {
		fmt.Fprintf(&review, "unexpressed %s\n", u)
	}
	for name, got := range map[string]string{"proposal": string(p.Source), "review": review.String()} {
		if *update {
			part(name).Data = []byte(got)
		} else if diff := cmp.Diff(string(part(name).Data), got); diff != "" {
			t.Errorf("%s of %s (-want +got); rewrite with -update:\n%s", name, file, diff)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := rules.Load("p", p.Source, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if found := rs.Lint(nil); len(found) > 0 {
		t.Errorf("lint of the proposal: %v, want nothing", found)
	}
	for _, f := range facts {
		if f.unfit(opt.Starter != "" && f.Exe == opt.Starter) == "" && rs.Decide(request(f)).Verdict.Action != rules.Allow {
			t.Errorf("%+v is not allowed", f)
		}
	}
}

func parseOptions(t *testing.T, text string) (o Options) {
	t.Helper()
	o.Level, o.Default = Low, rules.Audit
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "scope":
			o.Scope = append(o.Scope, value)
		case "events":
			for name := range strings.SplitSeq(value, ",") {
				e, ok := abi.ParseEvent(name)
				if !ok {
					t.Fatalf("no event %s", name)
				}
				o.Events = append(o.Events, e)
			}
		case "level":
			o.Level = Level(value)
		case "deny":
			o.Default = rules.Deny
		case "starter":
			o.Starter = value
		default:
			t.Fatalf("unknown option %s", line)
		}
	}
	return o
}

// parseFact reads one line: how often, an event, and key=value words, where a value in
// quotes is a Go string and other keys are arguments.
func parseFact(t *testing.T, line string) (f Fact, n int) {
	t.Helper()
	word := regexp.MustCompile(`([\w.]+)(?:=("(?:[^"\\]|\\.)*"|\S*))?`)
	words := word.FindAllStringSubmatch(line, -1)
	n, err := strconv.Atoi(words[0][1])
	event, ok := abi.ParseEvent(words[1][1])
	if err != nil || !ok {
		t.Fatalf("fact %q: %v, event %v", line, err, ok)
	}
	f = Fact{Event: event, Exe: "/bin/app"}
	for _, m := range words[2:] {
		value := m[2]
		if strings.HasPrefix(value, `"`) {
			if value, err = strconv.Unquote(value); err != nil {
				t.Fatalf("fact %q: %v", line, err)
			}
		}
		number, _ := strconv.ParseUint(value, 10, 32)
		switch m[1] {
		case "path":
			f.Path = value
		case "detail":
			f.Detail = value
		case "exe":
			f.Exe = value
		case "uid":
			f.UID = uint32(number)
		case "gid":
			f.GID = uint32(number)
		case "access":
			for name := range strings.SplitSeq(value, ",") {
				bit, _ := rules.ParseAccess(name)
				f.Access |= bit
			}
		case "addr":
			high, low, err := rules.ParseAddr(value)
			if err != nil {
				t.Fatalf("fact %q: %v", line, err)
			}
			at := catalogue.Of(event).Arg("addr_high")
			f.Args[at], f.Args[at+1] = high, low
		default:
			v, err := rules.ParseArg(event, m[1], value)
			if err != nil {
				t.Fatalf("fact %q: %v", line, err)
			}
			f.Args[catalogue.Of(event).Arg(m[1])] = v
		}
	}
	return f, n
}
