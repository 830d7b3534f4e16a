// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math/bits"
	"slices"
)

// MaxTrees is how many programs the rules of a file may name process trees by: the kernel side
// has room for those of two rule sets, which are in force together during a push.
const MaxTrees = 32

// Tree is a process tree that rules name: who has executed the program, and all that descend
// from who did.
type Tree struct {
	Path     string
	Dev, Ino uint64 // of the program; 0 when Options.Program was nil
}

// Trees returns the process trees that rules name, each once, in the order of the file. They
// are not to be changed.
func (rs *RuleSet) Trees() []Tree { return rs.trees }

// WithMarks returns the same rule set for requests whose Trees has these bits, one for each of
// the trees, from the count of Marks on that is since. Without it tree i has bit i, from 0 on.
// It tells of no other trees.
func (rs *RuleSet) WithMarks(of []uint64, since uint32) *RuleSet {
	if len(rs.trees) == 0 && rs.told == nil {
		return rs
	}
	c := *rs
	c.whole, c.told = rs.Whole(), nil
	c.marks, c.marksSince = slices.Clone(of), since
	c.treeBits = make([]uint64, len(rs.treeSets))
	for i, set := range rs.treeSets {
		for ; set != 0; set &= set - 1 {
			c.treeBits[i] |= of[bits.TrailingZeros64(set)]
		}
	}
	return &c
}

// Telling returns the same rule set, which decides the same, whose records tell of other trees
// beside those that its rules name, by their marks as of WithMarks. Nil: of none.
func (rs *RuleSet) Telling(trees []Tree, marks []uint64, since uint32) *RuleSet {
	c := *rs
	c.whole, c.told = rs.Whole(), nil
	for i, t := range trees {
		if !slices.ContainsFunc(rs.trees, func(own Tree) bool { return own.Path == t.Path }) {
			c.told = append(c.told, toldTree{t.Path, marks[i], since})
		}
	}
	if c.told == nil && rs.told == nil {
		return rs
	}
	return &c
}

// toldTree is a process tree that records tell of, though no rule names it.
type toldTree struct {
	path  string
	mark  uint64
	since uint32
}

// Mark returns the bit of tree i.
func (rs *RuleSet) Mark(i int) uint64 {
	if rs.marks == nil {
		return 1 << i
	}
	return rs.marks[i]
}

// MarksSince returns from which count of Request.Marks on Request.Trees says whether a subject
// is in a tree that rules name.
func (rs *RuleSet) MarksSince() uint32 { return rs.marksSince }

// Marks returns the bits of all trees that rules name.
func (rs *RuleSet) Marks() (all uint64) {
	for i := range rs.trees {
		all |= rs.Mark(i)
	}
	return all
}

// InTrees says in which trees a subject is by Request.Trees and Request.Marks, and in which it is
// not, by their programs: of those that rules name and those that the set was made to tell of, as
// far as they say.
func (rs *RuleSet) InTrees(trees uint64, marks uint32) (in, notIn []string) {
	add := func(path string, mark uint64, since uint32) {
		switch {
		case marks < since:
		case trees&mark != 0:
			in = append(in, path)
		default:
			notIn = append(notIn, path)
		}
	}
	for i, t := range rs.trees {
		add(t.Path, rs.Mark(i), rs.marksSince)
	}
	for _, t := range rs.told {
		add(t.path, t.mark, t.since)
	}
	return in, notIn
}

// MarksOf returns the marks of a subject that is in the trees of some programs, and in those of
// others not. Not known: rules name a tree that is among neither.
func (rs *RuleSet) MarksOf(in, notIn []string) (marks uint64, known bool) {
	known = true
	for i, t := range rs.trees {
		switch {
		case slices.Contains(in, t.Path):
			marks |= rs.Mark(i)
		case !slices.Contains(notIn, t.Path):
			known = false
		}
	}
	return marks, known
}

// treeSet returns the number of a set of process trees in the pool.
func (c *compiler) treeSet(r *rule, programs []programPath) uint32 {
	var set uint64
	for _, p := range programs {
		problem := Problem{File: c.file.name, Line: p.line, Column: p.column, Rule: r.id}
		i, ok := c.trees[p.path]
		if !ok {
			t := Tree{Path: p.path}
			var err error
			if c.options.Program != nil {
				t.Dev, t.Ino, err = c.options.Program(p.path)
			}
			switch {
			case err != nil:
				problem.Message = "the program " + quote(p.path) + " of a process tree: " + err.Error()
				problem.Hint = "install it first, or take it out of subject.process_tree"
				c.problems = append(c.problems, problem)
				continue
			case len(c.pool.trees) == MaxTrees:
				problem.Message = "the program " + quote(p.path) + " of a process tree is one too many"
				problem.Hint = "name at most 32 in all rules together: the kernel keeps a mark for each"
				c.problems = append(c.problems, problem)
				continue
			}
			i = len(c.pool.trees)
			c.trees[p.path] = i
			c.pool.trees = append(c.pool.trees, t)
		}
		set |= 1 << i
	}
	return index(c.treeSets, &c.pool.treeSets, set)
}

// trees writes the process trees, for rules that have some.
func (e *encoder) trees(rs []rule) {
	e.blocks(rs, "process_tree", func(b *block) bool { return len(b.tree) > 0 }, func(b *block) {
		e.number(uint64(len(b.tree)))
		for _, t := range b.tree {
			e.text(t.path)
		}
	})
}
