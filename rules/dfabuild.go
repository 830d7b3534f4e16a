// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// compileDFA makes the table of a pattern in the syntax of RE2. The error ends a sentence
// that begins with the pattern.
func compileDFA(pattern string) (*dfa, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		var se *syntax.Error
		if errors.As(err, &se) {
			return nil, errors.New("is no regular expression: " + se.Code.String())
		}
		return nil, errors.New("is no regular expression")
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(prog.Inst) > maxDFASteps {
		return nil, errDFASize
	}
	b := &dfaBuilder{prog: prog, dfa: &dfa{}, states: map[string]int{}, seen: make([]int, len(prog.Inst))}
	if !b.classify() {
		return nil, errDFASize
	}
	if !b.build() {
		return nil, errDFASize
	}
	b.finish()
	return b.dfa, nil
}

// dfaBuilder follows all threads of a program at once: a state is the set of steps that
// they wait at, and what stood before.
type dfaBuilder struct {
	prog   *syntax.Prog
	dfa    *dfa
	looks  syntax.EmptyOp // what steps between characters look at
	chars  []rune         // one character of each class
	states map[string]int // numbers of the states by what they are
	sets   []dfaSet       // what the states are
	seen   []int          // by step: the last walk that came by
	walk   int
}

type dfaSet struct {
	before rune // a character like the one that stood before, -1 for the beginning
	steps  []uint32
}

const wordLooks = syntax.EmptyWordBoundary | syntax.EmptyNoWordBoundary
const lineLooks = syntax.EmptyBeginLine | syntax.EmptyEndLine

// classify puts the characters that no step tells apart into one class.
func (b *dfaBuilder) classify() bool {
	firsts := []rune{0, utf8.RuneSelf}
	span := func(lo, hi rune) { firsts = append(firsts, lo, hi+1) }
	var readers []*syntax.Inst
	for i := range b.prog.Inst {
		in := &b.prog.Inst[i]
		switch in.Op {
		case syntax.InstEmptyWidth:
			b.looks |= syntax.EmptyOp(in.Arg)
		case syntax.InstRuneAnyNotNL:
			span('\n', '\n')
			readers = append(readers, in)
		case syntax.InstRune, syntax.InstRune1:
			readers = append(readers, in)
			if len(in.Rune) == 1 {
				span(in.Rune[0], in.Rune[0])
				for r := unicode.SimpleFold(in.Rune[0]); r != in.Rune[0]; r = unicode.SimpleFold(r) {
					span(r, r)
				}
			}
			for j := 0; j+1 < len(in.Rune); j += 2 {
				span(in.Rune[j], in.Rune[j+1])
			}
		}
	}
	if b.looks&lineLooks != 0 {
		span('\n', '\n')
	}
	if b.looks&wordLooks != 0 {
		span('0', '9')
		span('A', 'Z')
		span('_', '_')
		span('a', 'z')
	}
	slices.Sort(firsts)
	firsts = slices.Compact(firsts)
	byTraits := map[string]uint8{}
	traits := make([]byte, len(readers)+1)
	for i, first := range firsts {
		if first > unicode.MaxRune {
			break
		}
		for j, in := range readers {
			traits[j] = 0
			if in.MatchRune(first) {
				traits[j] = 1
			}
		}
		traits[len(readers)] = byte(b.like(first) & 0x7f)
		class, known := byTraits[string(traits)]
		if !known {
			if len(byTraits) > 255 {
				return false
			}
			class = uint8(len(byTraits))
			byTraits[string(traits)] = class
			b.chars = append(b.chars, first)
		}
		last := rune(unicode.MaxRune)
		if i+1 < len(firsts) {
			last = firsts[i+1] - 1
		}
		for r := first; r <= last && r < utf8.RuneSelf; r++ {
			b.dfa.ascii[r] = class
		}
		if n := len(b.dfa.beyond); first >= utf8.RuneSelf && (n == 0 || b.dfa.beyond[n-1].class != class) {
			b.dfa.beyond = append(b.dfa.beyond, classFrom{first, class})
		}
	}
	b.dfa.classes = len(b.chars)
	return true
}

// like returns the character that stands for all that look the same to what comes behind.
func (b *dfaBuilder) like(r rune) rune {
	switch {
	case b.looks&lineLooks != 0 && r == '\n':
		return r
	case b.looks&wordLooks != 0 && syntax.IsWordChar(r):
		return 'a'
	}
	return ' '
}

// build finds all states and where they lead.
func (b *dfaBuilder) build() bool {
	d := b.dfa
	b.sets = make([]dfaSet, dfaStart) // the states that end the search have no set
	d.ends = []bool{dfaNever: false, dfaFound: true}
	d.next = make([]uint16, dfaStart*d.classes)
	for c := range d.classes {
		d.next[dfaFound*d.classes+c] = dfaFound
	}
	b.state(dfaSet{before: -1})
	for s := dfaStart; s < len(b.sets); s++ {
		if (s+1)*d.classes > maxDFACells {
			return false
		}
		for _, c := range b.chars {
			d.next = append(d.next, uint16(b.step(b.sets[s], c)))
		}
		_, found := b.waiting(b.sets[s], -1)
		d.ends = append(d.ends, found)
	}
	return true
}

// state returns the number of a state.
func (b *dfaBuilder) state(s dfaSet) int {
	slices.Sort(s.steps)
	key := make([]byte, 0, 2+2*len(s.steps))
	key = append(key, byte(s.before))
	for _, pc := range s.steps {
		key = append(key, byte(pc), byte(pc>>8))
	}
	n, known := b.states[string(key)]
	if !known {
		n = len(b.sets)
		b.states[string(key)] = n
		b.sets = append(b.sets, s)
	}
	return n
}

// step returns the state behind a character.
func (b *dfaBuilder) step(s dfaSet, c rune) int {
	steps, found := b.waiting(s, c)
	if found {
		return dfaFound
	}
	next := dfaSet{before: b.like(c)}
	b.walk++
	for _, pc := range steps {
		in := &b.prog.Inst[pc]
		if in.MatchRune(c) && b.seen[in.Out] != b.walk {
			b.seen[in.Out] = b.walk
			next.steps = append(next.steps, in.Out)
		}
	}
	return b.state(next)
}

// waiting returns the steps that wait for a character when the next one is c, -1 for the
// end, and whether the pattern has matched already. One thread begins at each place.
func (b *dfaBuilder) waiting(s dfaSet, c rune) (steps []uint32, found bool) {
	holds := syntax.EmptyOpContext(s.before, c)
	b.walk++
	todo := append(slices.Clone(s.steps), uint32(b.prog.Start))
	for len(todo) > 0 {
		pc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if b.seen[pc] == b.walk {
			continue
		}
		b.seen[pc] = b.walk
		switch in := &b.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^holds == 0 {
				todo = append(todo, in.Out)
			}
		case syntax.InstMatch:
			return nil, true
		case syntax.InstFail:
		default:
			steps = append(steps, pc)
		}
	}
	return steps, false
}

// finish lets states from which nothing can match any more be dfaNever, so that a search
// ends there, and turns numbers of states into rows.
func (b *dfaBuilder) finish() {
	d := b.dfa
	n := len(d.ends)
	// Which states lead to one.
	from := make([][]int, n)
	for s := dfaStart; s < n; s++ {
		for _, to := range d.next[s*d.classes : (s+1)*d.classes] {
			from[to] = append(from[to], s)
		}
	}
	alive := slices.Clone(d.ends)
	var todo []int
	for s, ends := range d.ends {
		if ends {
			todo = append(todo, s)
		}
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, f := range from[s] {
			if !alive[f] {
				alive[f] = true
				todo = append(todo, f)
			}
		}
	}
	for i, to := range d.next {
		if !alive[to] {
			to = dfaNever
		}
		d.next[i] = to * uint16(d.classes)
	}
}
