// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const treeRules = head + `rules:
- {id: a, events: [open], subject: {process_tree: [/q, /p]}, verdict: deny}
- {id: b, events: [exec], subject: {process_tree: /p}, not: {subject: {process_tree: /r}}, times: {hours: 08:00-18:00, zone: UTC}, verdict: deny}
`

// A bit is what it was said to be, in the rule set that it was said of and in no other.
func TestWithMarks(t *testing.T) {
	rs := mustLoad(t, treeRules)
	var paths []string
	for _, tree := range rs.Trees() {
		paths = append(paths, tree.Path)
	}
	if got := strings.Join(paths, " "); got != "/q /p /r" {
		t.Fatalf("the trees are %s, want each once in the order of the file", got)
	}
	first := rs.WithMarks([]uint64{1 << 9, 1 << 63, 1 << 4}, 7)
	second := first.WithMarks([]uint64{1 << 63, 1 << 9, 1 << 9}, 8) // two files of one program
	f := func(rs *RuleSet, e abi.Event, marks uint64, rule string) {
		t.Helper()
		r := request(e, "/x", "/y", func(r *abi.Request) { r.Trees = marks })
		if got := rs.RuleID(rs.Decide(r).Rule); got != rule {
			t.Errorf("%v by marks %#x: rule %s, want %s", e, marks, got, rule)
		}
	}
	f(rs, abi.EventOpen, 1, "a")
	f(rs, abi.EventOpen, 1<<9, "default")
	f(rs, abi.EventExec, 1<<1, "b")
	f(rs, abi.EventExec, 1<<1|1<<2, "default")
	f(first, abi.EventOpen, 1<<9, "a")
	f(first, abi.EventOpen, 1<<4|1, "default")
	f(first, abi.EventExec, 1<<63, "b")
	f(first, abi.EventExec, 1<<63|1<<4, "default")
	f(first, abi.EventExec, 1<<9, "default")
	f(second, abi.EventOpen, 1<<9, "a")
	f(second, abi.EventExec, 1<<9, "default")
	if first.Whole() != rs || second.Whole() != rs || first.MarksSince() != 7 || rs.MarksSince() != 0 || first.Fingerprint() != rs.Fingerprint() {
		t.Error("the set with marks is not the same set")
	}
	if got := first.Marks(); got != 1<<9|1<<63|1<<4 {
		t.Errorf("all marks are %#x", got)
	}
	noon, _ := first.At(Moment{Now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)})
	night, _ := noon.At(Moment{Now: time.Date(2026, 1, 5, 23, 0, 0, 0, time.UTC)})
	f(noon, abi.EventExec, 1<<63, "b")
	f(night, abi.EventExec, 1<<63, "default")
	f(night, abi.EventOpen, 1<<9, "a")

	in, notIn := first.InTrees(1<<63|1<<4|1<<20, 7)
	if got := fmt.Sprint(in, notIn); got != "[/p /r] [/q]" {
		t.Errorf("in and not in: got %s", got)
	}
	if in, notIn := first.InTrees(1<<63, 6); in != nil || notIn != nil {
		t.Errorf("by marks of an older count: in %v, not in %v, want neither known", in, notIn)
	}
	known := func(rs *RuleSet, in, notIn []string, want uint64, wantKnown bool) {
		t.Helper()
		if got, known := rs.MarksOf(in, notIn); got != want && wantKnown || known != wantKnown {
			t.Errorf("in %v, not in %v: marks %#x, known %v; want %#x, %v", in, notIn, got, known, want, wantKnown)
		}
	}
	known(first, in, notIn, 1<<63|1<<4, true)
	known(rs, in, notIn, 1<<1|1<<2, true)
	known(first, []string{"/p", "/other"}, []string{"/q", "/r", "/more"}, 1<<63, true)
	known(first, []string{"/p"}, []string{"/q"}, 0, false)
	known(mustLoad(t, head), nil, nil, 0, true)
	if none := mustLoad(t, head); none.WithMarks(nil, 9) != none {
		t.Error("a set without process trees has another one with marks")
	}
}

// Programs are looked up once each, and what is wrong with one is said where it stands.
func TestCompilePrograms(t *testing.T) {
	var asked []string
	find := func(path string) (dev, ino uint64, err error) {
		asked = append(asked, path)
		if path == "/gone" {
			return 0, 0, errors.New("no such file or directory")
		}
		return 1, uint64(len(path)), nil
	}
	rs, err := Load("f.yaml", []byte(treeRules), Options{Program: find})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"/q", "/p", "/r"}) || rs.Trees()[1] != (Tree{"/p", 1, 2}) {
		t.Errorf("looked up %v; the trees are %v", asked, rs.Trees())
	}
	var many []string
	for i := range MaxTrees + 1 {
		many = append(many, fmt.Sprintf("/%d", i))
	}
	f := func(trees, want string) {
		t.Helper()
		_, err := Load("f.yaml", []byte(head+"rules:\n- {id: a, events: [open], subject: {process_tree: ["+trees+"]}, verdict: deny}\n"), Options{Program: find})
		if got := fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	f("/p, /gone, /gone", `f.yaml:5:56: rule a: the program "/gone" of a process tree: no such file or directory; install it first`)
	f(strings.Join(many, ", "), `the program "/32" of a process tree is one too many; name at most 32 in all rules together`)
	f(strings.Join(append(many[1:], many[1:]...), ", "), "<nil>")
}
