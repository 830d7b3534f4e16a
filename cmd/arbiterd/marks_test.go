// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// markingBackend gives process trees their marks, and counts how often it is configured.
type markingBackend struct {
	fakeBackend
	configured *int
}

func (b markingBackend) configure(policy) error {
	*b.configured++
	return nil
}

func (markingBackend) marked(rs *rules.RuleSet) (*rules.RuleSet, error) {
	return rs.WithMarks(marksOf(rs), 1), nil
}

func (markingBackend) telling(rs, also *rules.RuleSet) (*rules.RuleSet, error) {
	if also == nil {
		return rs.Telling(nil, nil, 0), nil
	}
	return rs.Telling(also.Trees(), marksOf(also), 1), nil
}

// marksOf gives the program /a the first bit, /b the second one, and so on.
func marksOf(rs *rules.RuleSet) (bits []uint64) {
	for _, t := range rs.Trees() {
		bits = append(bits, 1<<(t.Path[1]-'a'))
	}
	return bits
}

// treeSet returns rules that refuse by a process tree.
func treeSet(t *testing.T, epoch uint64, program string) *rules.RuleSet {
	t.Helper()
	rs, err := rules.Load("r", []byte("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n"+
		"- {id: r, events: [open], subject: {process_tree: "+program+"}, verdict: deny}\n"), rules.Options{Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// Records of a canary tell of the process trees that the set in force names, which is asked
// about them: else nothing that it refuses because of one could be compared.
func TestCanaryTellsOfTrees(t *testing.T) {
	k, err := ringtest.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	d := &daemon{log: slog.New(slog.DiscardHandler), backend: markingBackend{configured: new(int)}}
	d.hurry, d.abort = context.WithCancel(t.Context())
	defer d.abort()
	if d.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(), Workers: []arbiter.Worker{{Source: k.Sources()[0], CPU: -1}}}); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer d.engine.Close()
	if _, err := d.Apply(t.Context(), treeSet(t, 1, "/a"), cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	if err := d.Canary(t.Context(), &arbiter.Canary{Rules: treeSet(t, 2, "/b"), Part: arbiter.Part{Share: arbiter.ShareOf(100)}}); err != nil {
		t.Fatal(err)
	}
	sub := d.engine.Subscribe(1, arbiter.SubscribeOptions{})
	defer sub.Close()
	k.Ask(ring.Facts{Event: uint32(abi.EventOpen), TGID: 7, Trees: 3, Marks: 1}, "/t/x", "/bin/sh")
	if e := next(t, "the record", sub.C); e.Epoch != 2 || !slices.Equal(e.InTrees, []string{"/b", "/a"}) || len(e.NotInTrees) != 0 {
		t.Errorf("the record of epoch %d says in %s and not in %s, want in /b, its own, and /a", e.Epoch, e.InTrees, e.NotInTrees)
	}
}

// While records tell of the process trees of a candidate, their marks are given to no others.
func TestMarksStayWhileTold(t *testing.T) {
	configured := 0
	d := &daemon{log: slog.New(slog.DiscardHandler), backend: markingBackend{configured: &configured}}
	var err error
	if d.engine, err = arbiter.New(arbiter.Config{Rules: treeSet(t, 1, "/a"), Workers: []arbiter.Worker{{Source: stuckSource{}, CPU: -1}}}); err != nil {
		t.Fatal(err)
	}
	f := func(also *rules.RuleSet, ok bool, want int) {
		t.Helper()
		if err := d.Collect(also); (err == nil) != ok || configured != want {
			t.Errorf("configured %d times, %v; want %d times, %t", configured, err, want, ok)
		}
	}
	f(treeSet(t, 2, "/b"), true, 1)
	f(nil, true, 2)
	f(treeSet(t, 2, "/b"), true, 3)
	if err := d.engine.Close(); err != nil {
		t.Fatal(err)
	}
	f(nil, false, 3) // records tell of them still
}
