// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/google/go-cmp/cmp"
)

// TestRuleSetsInDocuments loads every rule set that README.md and docs show.
func TestRuleSetsInDocuments(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, name := range append(docs, "../README.md") {
		doc, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range yamlBlock.FindAllSubmatch(doc, -1) {
			if !bytes.Contains(b[1], []byte("version: 1\n")) {
				continue // not a rule set
			}
			seen[filepath.Base(name)]++
			if _, err := Load(fmt.Sprintf("%s-%d", name, i+1), b[1], Options{CgroupID: fakeCgroups}); err != nil {
				t.Errorf("%v\nin:\n%s", err, b[1])
			}
		}
	}
	if seen["README.md"] == 0 || seen["policy.md"] == 0 {
		t.Errorf("rule sets found in %v, want some in README.md and policy.md", seen)
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestEventsInPolicyDocument compares the tables of events and their arguments with the
// catalogue.
func TestEventsInPolicyDocument(t *testing.T) {
	const file = "../docs/policy.md"
	type argument struct{ name, doc string }
	var events, args []string
	var order []argument
	of := map[argument][]string{}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		ev := catalogue.Of(e)
		var names []string
		for _, a := range ev.Args {
			names = append(names, "`"+a.Name+"`")
			key := argument{a.Name, a.Doc}
			if of[key] == nil {
				order = append(order, key)
			}
			of[key] = append(of[key], "`"+e.String()+"`")
		}
		events = append(events, row("`"+e.String()+"`", ev.Doc, ev.Object, ev.Detail, strings.Join(names, ", ")))
	}
	for _, a := range order {
		args = append(args, row("`"+a.name+"`", strings.Join(of[a], ", "), a.doc))
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := string(doc)
	for _, table := range []struct {
		head string
		rows []string
	}{{"| event | when | object.path | detail | args |\n|---|---|---|---|---|\n", events}, {"| arg | of | number |\n|---|---|---|\n", args}} {
		before, rest, found := strings.Cut(got, table.head)
		there, after, ended := strings.Cut(rest, "\n\n")
		if !found || !ended {
			t.Fatalf("%s has no table with the head\n%s", file, table.head)
		}
		want := strings.Join(table.rows, "\n")
		if diff := cmp.Diff(want, there); diff != "" && !*update {
			t.Errorf("%s differs from the catalogue (-catalogue +document); rewrite it with -update:\n%s", file, diff)
		}
		got = before + table.head + want + "\n\n" + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// row returns a row of a table of Markdown.
func row(cells ...string) string {
	var b strings.Builder
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(c, "|", "\\|"))
		if c != "" {
			b.WriteByte(' ')
		}
	}
	return b.String() + "|"
}

// TestPolicyDocument loads the examples of docs/policy.md, decides what its text
// claims about the first, and looks for every key and limit in the tables.
func TestPolicyDocument(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(doc, -1)
	if len(blocks) < 5 {
		t.Fatalf("got %d examples, want at least 5", len(blocks))
	}
	var sets []*RuleSet
	for i, b := range blocks {
		rs, err := Load(fmt.Sprintf("example-%d", i+1), b[1], Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatalf("%v\nin:\n%s", err, b[1])
		}
		sets = append(sets, rs)
	}
	asRoot := func(r *abi.Request) { r.Access = abi.AccessWrite }
	asUser := func(r *abi.Request) { r.Access, r.UID = abi.AccessWrite, 1000 }
	tests := []struct {
		name string
		set  string // a rule of it
		r    *abi.Request
		want string
	}{
		{"a shell", "no-shells", request(abi.EventExec, "/srv/app/x/bash", "", nil), "no-shells"},
		{"a shell at the top", "no-shells", request(abi.EventExec, "/srv/app/sh", "", nil), "no-shells"},
		{"no shell", "no-shells", request(abi.EventExec, "/srv/app/zsh", "", nil), "default"},
		{"writing", "no-shells", request(abi.EventOpen, "/srv/app/etc/a", "/usr/bin/vi", asRoot), "config-is-read-only"},
		{"writing by dpkg", "no-shells", request(abi.EventOpen, "/srv/app/etc/a", "/usr/bin/dpkg", asRoot), "default"},
		{"writing by a user's dpkg", "no-shells", request(abi.EventOpen, "/srv/app/etc/a", "/usr/bin/dpkg", asUser), "config-is-read-only"},
		{"a key", "no-shells", request(abi.EventOpen, "/srv/app/keys/a.pem", "", nil), "watch-keys"},
		{"backup by root", "data-is-private", request(abi.EventOpen, "/srv/data/a", "/usr/sbin/backup", asRoot), "default"},
		{"backup by a user", "data-is-private", request(abi.EventOpen, "/srv/data/a", "/usr/sbin/backup", asUser), "data-is-private"},
		{"an outgoing connection", "no-web", request(abi.EventConnect, "", "/bin/x", func(r *abi.Request) { r.Arg, r.Flags = [8]uint64{10, 1, 6, 443}, abi.FlagNoObject }), "no-web"},
		{"one that may", "no-web", request(abi.EventConnect, "", "/srv/app/bin/fetch", func(r *abi.Request) { r.Arg, r.Flags = [8]uint64{10, 1, 6, 443}, abi.FlagNoObject }), "default"},
		{"an address inside", "no-web", request(abi.EventConnect, "", "/bin/x", func(r *abi.Request) {
			r.Arg, r.Flags = [8]uint64{2, 1, 6, 22, 0, 0xffffc0a80001}, abi.FlagNoObject
		}), "not-the-inside"},
		{"a setuid program", "no-web", request(abi.EventChmod, "/srv/app/a", "", func(r *abi.Request) { r.Arg[0] = 0o104755 }), "no-setuid-programs"},
		{"a new name", "no-web", request(abi.EventRename, "/srv/app/a", "", func(r *abi.Request) { r.DetailLen = uint32(copy(r.DetailBuf[:], "/srv/app/bin/a")) }), "nothing-into-bin"},
		{"a label", "no-web", request(abi.EventSetXattr, "/srv/app/a", "", func(r *abi.Request) { r.DetailLen = uint32(copy(r.DetailBuf[:], "security.capability")) }), "no-labels"},
		{"memory", "no-web", request(abi.EventMProtectExec, "", "", func(r *abi.Request) { r.Arg[0], r.Flags = 7, abi.FlagNoObject }), "writable-and-executable"},
		{"a newline", "odd-names", request(abi.EventOpen, "/srv/with\na newline", "", nil), "odd-names"},
		{"a byte", "odd-names", request(abi.EventOpen, "/srv/\xff", "", nil), "odd-names"},
		{"a restore", "one-restore", request(abi.EventExec, "/srv/db/bin/restore", "", nil), "one-restore"},
		{"an unknown program", "no-others", hashed("/srv/app/x", 0), "no-others"},
		{"a program of its own", "unknown-programs", request(abi.EventExec, "/srv/app/bin/x", "", nil), "default"},
		{"another one", "unknown-programs", request(abi.EventExec, "/srv/app/x", "", nil), "unknown-programs"},
		{"a program of a package", "nothing-else-runs", formatted("/usr/bin/x", abi.FormatELF), "programs-of-packages"},
		{"a script of a package", "nothing-else-runs", formatted("/usr/bin/x", abi.FormatScript), "nothing-else-runs"},
		{"a script in its place", "nothing-else-runs", formatted("/opt/scripts/x", abi.FormatScript), "scripts-in-their-place"},
		{"a program there", "nothing-else-runs", formatted("/opt/scripts/x", abi.FormatELF), "nothing-else-runs"},
		{"braces", "odd-names", request(abi.EventOpen, "/srv/{braces}/x", "", nil), "odd-names"},
	}
	with := func(id string) *RuleSet {
		for _, rs := range sets {
			for i := range rs.Len() {
				if rs.RuleID(int32(i)) == id {
					return rs
				}
			}
		}
		t.Fatalf("no example has the rule %s", id)
		return nil
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			rs := with(tc.set)
			if got := rs.RuleID(rs.Decide(tc.r).Rule); got != tc.want {
				t.Errorf("got %s, want %s\n%s", got, tc.want, rs.Explain(tc.r))
			}
		})
	}
	words := strings.Fields("version default deadline on_fail scope mute invert unmute sets rules paths cgroups uids exes mounts process_trees id events object subject access detail args not when verdict ask within message owner reason ticket lifespan expires times " +
		"sha256 format elf script other exe uid gid euid egid cgroup literal prefix glob 1,024 4,095 1,000,000")
	words = append(words, EventNames()...)
	for _, a := range accessNames {
		words = append(words, a.name)
	}
	for _, m := range catalogue.Mutes() {
		row := "| `" + m.Name + "` | " + m.What
		if len(m.Cgroups) > 0 {
			row += ": " + strings.Join(m.Cgroups, ", ")
		}
		if !strings.Contains(string(doc), row+" |\n") {
			t.Errorf("the document does not have the row\n%s |", row)
		}
	}
	for _, w := range words {
		if !regexp.MustCompile(`\b` + w + `\b`).Match(doc) {
			t.Errorf("the document does not mention %s", w)
		}
	}
}
