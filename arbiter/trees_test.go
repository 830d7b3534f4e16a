// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// treeRules refuse by process tree, with an errno of their own, and by nothing else.
func treeRules(t *testing.T, epoch uint64, errno int, program string, mark uint64, since uint32) *rules.RuleSet {
	t.Helper()
	rs := mustRules(t, fmt.Sprintf("version: 1\ndefault: allow\nscope: {paths: [/t]}\non_fail: {deny: EIO}\nevents: [exec]\nrules:\n"+
		"- {id: r, events: [open], subject: {process_tree: %s}, verdict: {deny: %d}}\n", program, errno), epoch)
	return rs.WithMarks([]uint64{mark}, since)
}

// outcome is what the last request came to.
func (w *worker) outcome(t *testing.T) string {
	t.Helper()
	var e Event
	o, ok := w.journal.next(&e)
	if !ok {
		return "allow"
	}
	w.arbiter.stream.name(&e, o)
	return fmt.Sprintf("%s %d %s cached=%t %v in %v not in %v", e.Verdict, e.Errno, e.Reason, e.Cached, e.Facts&abi.FieldTree != 0, e.InTrees, e.NotInTrees)
}

// A mark decides if it was read when the marks of the rule set were given, is in the key of
// the cache, and in the record by its program.
func TestProcessTrees(t *testing.T) {
	g := &given{r: abi.Request{Event: abi.EventOpen, Have: abi.AllFields}}
	w := one(t, treeRules(t, 1, 7, "/p", 1<<40, 3), 64, g)
	w.arbiter.stream.allowed.Store(1) // so that allows are recorded, too
	f := func(name string, event abi.Event, trees uint64, marks uint32, want string) {
		t.Helper()
		g.r.Event, g.r.Trees, g.r.Marks = event, trees, marks
		w.step()
		if got := w.outcome(t); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	f("in the tree", abi.EventOpen, 1<<40, 3, "deny 7 none cached=false true in [/p] not in []")
	f("in another one", abi.EventOpen, 1<<41, 3, "allow 0 none cached=false true in [] not in [/p]")
	f("in none", abi.EventOpen, 0, 4, "allow 0 none cached=true true in [] not in [/p]")
	f("in both", abi.EventOpen, 3<<40, 5, "deny 7 none cached=true true in [/p] not in []")
	f("asked before that was marked", abi.EventOpen, 0, 2, "deny 5 facts_truncated cached=false true in [] not in []")
	f("asked before, marked by another program", abi.EventOpen, 1<<40, 2, "deny 5 facts_truncated cached=false true in [] not in []")
	f("not looked for", abi.EventOpen, 0, 0, "deny 5 facts_truncated cached=false true in [] not in []")
	f("where no rule looks at it", abi.EventExec, 0, 0, "allow 0 none cached=false true in [] not in []")

	// Another set in force gives the same bit to another program.
	w.adopt(w.arbiter.put(treeRules(t, 2, 8, "/q", 1<<40, 9), nil, cache.RulesPushed))
	f("in the other set's tree", abi.EventOpen, 1<<40, 9, "deny 8 none cached=false true in [/q] not in []")
	f("asked under the set before", abi.EventOpen, 1<<40, 8, "deny 5 facts_truncated cached=false true in [] not in []")

	// A canary beside it has bits of its own, and its records its own programs.
	canary := &Canary{Rules: treeRules(t, 3, 9, "/r", 1, 10), Part: Part{Cgroup: 5}}
	w.adopt(w.arbiter.put(w.live.rules, canary, cache.RulesPushed))
	f("decided by the set in force", abi.EventOpen, 1<<40|1, 10, "deny 8 none cached=false true in [/q] not in []")
	g.r.Cgroup[0] = 5
	f("decided by the canary", abi.EventOpen, 1<<40|1, 10, "deny 9 none cached=false true in [/r] not in []")
	f("decided by the canary, not in its tree", abi.EventOpen, 1<<40, 10, "allow 0 none cached=false true in [] not in [/r]")
	f("decided by the canary, asked before", abi.EventOpen, 1<<40|1, 9, "deny 5 facts_truncated cached=false true in [] not in []")
}

// A set can be made to tell of trees that its rules do not name; it decides the same.
func TestTellingOfTrees(t *testing.T) {
	g := &given{r: abi.Request{Event: abi.EventOpen, Have: abi.AllFields}}
	own := treeRules(t, 1, 7, "/p", 1, 2)
	telling := own.Telling([]rules.Tree{{Path: "/p"}, {Path: "/q"}, {Path: "/r"}}, []uint64{1, 2, 4}, 5)
	w := one(t, telling, -1, g)
	w.arbiter.stream.allowed.Store(1)
	f := func(trees uint64, marks uint32, want string) {
		t.Helper()
		g.r.Trees, g.r.Marks = trees, marks
		w.step()
		if got := w.outcome(t); got != want {
			t.Errorf("marks %#x of %d: %s, want %s", trees, marks, got, want)
		}
	}
	f(1|4, 5, "deny 7 none cached=false true in [/p /r] not in [/q]")
	f(2, 6, "allow 0 none cached=false true in [/q] not in [/p /r]")
	f(1|2, 4, "deny 7 none cached=false true in [/p] not in []") // those were not looked for
	f(2, 1, "deny 5 facts_truncated cached=false true in [] not in []")
	if again := telling.Telling(nil, nil, 0); again.Whole() != own.Whole() || own.Telling(nil, nil, 0) != own {
		t.Error("a set that tells of no other trees is another set")
	}
	w.adopt(w.arbiter.put(telling.WithMarks([]uint64{8}, 2), nil, cache.Told))
	f(8|2, 9, "deny 7 none cached=false true in [/p] not in []")
}

// The record of a set that is not remembered any more claims nothing of process trees.
func TestTreesOfForgottenSet(t *testing.T) {
	g := &given{r: abi.Request{Event: abi.EventOpen, Have: abi.AllFields, Trees: 1, Marks: 1}}
	w := one(t, treeRules(t, 1, 7, "/p", 1, 1), -1, g)
	w.step()
	w.arbiter.stream.sets = nil
	if got, want := w.outcome(t), "deny 7 none cached=false false in [] not in []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A rule about a process tree and a format looks into the files of those alone who are in the
// tree. One that is held meanwhile is decided by the rules in force then, if they can tell of it.
func TestTreeAndFormat(t *testing.T) {
	text := "version: 1\ndefault: allow\nscope: {paths: [/t]}\non_fail: {deny: EIO}\nrules:\n" +
		"- {id: r, events: [open], object: {format: elf}, subject: {process_tree: /p}, verdict: {deny: EXDEV}}\n" +
		"- {id: s, events: [open], object: {path: /t/s}, not: {object: {format: script}, subject: {process_tree: /p}}, verdict: {deny: EROFS}}\n"
	rs := mustRules(t, text, 1)
	h := newHasher()
	a, k := start(t, 1, func(c *Config) { c.Rules, c.Contents = rs.WithMarks([]uint64{4}, 1), h })
	ask := func(path string, trees uint64) *asking {
		f := facts(abi.EventOpen, 0)
		f.Trees, f.Marks = trees, 1
		return askWith(t, k, f, path)
	}
	known := func(f abi.Format) { h.next(t).Content(abi.Content{Known: abi.FieldFormat, Format: f}) }
	ask("/t/x", 2).want(0) // without a look
	ask("/t/s", 2).want(unix.EROFS)
	for _, tc := range []struct {
		path   string
		format abi.Format
		want   unix.Errno
	}{{"/t/x", abi.FormatELF, unix.EXDEV}, {"/t/x", abi.FormatScript, 0}, {"/t/s", abi.FormatScript, 0}, {"/t/s", abi.FormatOther, unix.EROFS}} {
		r := ask(tc.path, 6)
		known(tc.format)
		r.want(tc.want)
	}
	held := ask("/t/x", 4)
	one := h.next(t)
	if err := a.Install(t.Context(), rs.WithEpoch(2).WithMarks([]uint64{8}, 2), cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	one.Content(abi.Content{Known: abi.FieldFormat, Format: abi.FormatELF})
	held.want(unix.EIO) // its marks were read before the tree had that bit
}
