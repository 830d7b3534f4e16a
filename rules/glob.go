// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// A glob is matched as an automaton whose set of states is a few machine words:
// the time is at most (states × bytes of the path), whatever the pattern and
// whoever chose the path. There is no backtracking, and nothing is allocated.
//
// Text is seen as symbols: a character, or one byte that is part of none. So '?'
// takes an é whole, and a pattern can still spell any byte.

// globStates bounds the automaton: what lies between the first and the last
// wildcard of a pattern. The literal text around it is compared as bytes and
// costs no states. 1,024 states on 4,095 bytes are 4 ms at the very worst.
const globStates = 1024

const globWords = globStates / 64

// op is what an instruction does with the next symbol.
type op uint8

const (
	opSymbol op = iota // takes the symbol x
	opAny              // takes any symbol but '/'
	opClass            // takes a symbol of class x, never '/'
	opStar             // takes any number of symbols but '/'
	opDeep             // takes any number of symbols
	opSplit            // takes nothing, goes on here and at x
	opJump             // takes nothing, goes on at x
)

// inst is one instruction. Jumps and splits only lead forward, which lets one
// pass over the states in rising order follow them all.
type inst struct {
	op op
	x  int32
}

// class is a set of symbols.
type class struct {
	not    bool
	ranges []symbolRange
}

type symbolRange struct{ lo, hi int32 }

func (c *class) has(s int32) bool {
	for _, r := range c.ranges {
		if r.lo <= s && s <= r.hi {
			return !c.not
		}
	}
	return c.not
}

// glob is a compiled pattern: head and tail are literal, code is what may
// match between them. It is immutable.
type glob struct {
	head, tail string
	code       []inst
	classes    []class
	// For automata of one word, see runSmall.
	start uint64
	leads []uint64
}

// badByte is the symbol of byte 0 that is part of no character; the 256 of them
// follow the last code point.
const badByte = utf8.MaxRune + 1

// symbol returns the first symbol of b, which is not empty, and its length.
func symbol(b []byte) (int32, int) {
	// Fast path: ASCII.
	if c := b[0]; c < utf8.RuneSelf {
		return int32(c), 1
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 {
		return badByte + int32(b[0]), 1
	}
	return r, n
}

// match reports whether the whole of b matches.
func (g *glob) match(b []byte) bool {
	if len(b) < len(g.head)+len(g.tail) || string(b[:len(g.head)]) != g.head ||
		string(b[len(b)-len(g.tail):]) != g.tail {
		return false
	}
	mid := b[len(g.head) : len(b)-len(g.tail)]
	// Fast path: one wildcard, by far the most patterns.
	if len(g.code) == 1 {
		switch g.code[0].op {
		case opStar:
			return bytes.IndexByte(mid, '/') < 0
		case opDeep:
			return true
		}
	}
	ok, _ := g.run(mid)
	return ok
}

// run matches the automaton against the whole of b. The number is how many
// instructions it looked at: what the promise of linear time is tested by.
func (g *glob) run(b []byte) (ok bool, steps int) {
	if len(g.code) < 64 {
		return g.runSmall(b)
	}
	var sets [2][globWords + 1]uint64
	cur, next := &sets[0], &sets[1]
	words := len(g.code)/64 + 1
	cur[0] = 1
	for {
		sym, n := int32(-1), 0
		if len(b) > 0 {
			sym, n = symbol(b)
		}
		alive := false
		for w := range words {
			for cur[w] != 0 {
				i := w*64 + bits.TrailingZeros64(cur[w])
				cur[w] &= cur[w] - 1
				steps++
				if i == len(g.code) {
					if n == 0 {
						return true, steps
					}
					continue
				}
				skip, to := g.step(i, sym)
				for _, s := range skip {
					if s != 0 {
						cur[s>>6] |= 1 << (s & 63)
					}
				}
				if to >= 0 {
					next[to>>6] |= 1 << (to & 63)
					alive = true
				}
			}
		}
		if n == 0 || !alive {
			return false, steps
		}
		b = b[n:]
		cur, next = next, cur
	}
}

// runSmall is run for an automaton that fits one word. Jumps and splits have been
// followed when the pattern was compiled: every instruction that takes a symbol
// knows the set it leads to.
func (g *glob) runSmall(b []byte) (ok bool, steps int) {
	end := uint64(1) << len(g.code)
	cur := g.start
	for len(b) > 0 {
		sym, n := symbol(b)
		next := uint64(0)
		for cur &^= end; cur != 0; cur &= cur - 1 {
			i := bits.TrailingZeros64(cur)
			steps++
			in := &g.code[i]
			var takes bool
			switch in.op {
			case opSymbol:
				takes = sym == in.x
			case opAny, opStar:
				takes = sym != '/'
			case opClass:
				takes = sym != '/' && g.classes[in.x].has(sym)
			case opDeep:
				takes = true
			}
			if takes {
				next |= g.leads[i]
			}
		}
		if next == 0 {
			return false, steps
		}
		b = b[n:]
		cur = next
	}
	return cur&end != 0, steps
}

// share takes head and tail from the text of the pattern, where they stand there as they are.
func (g *glob) share(text string) {
	if strings.HasPrefix(text, g.head) {
		g.head = text[:len(g.head)]
	}
	if strings.HasSuffix(text, g.tail) {
		g.tail = text[len(text)-len(g.tail):]
	}
}

// follow fills start and leads for runSmall.
func (g *glob) follow() {
	// reach[i] is what instruction i stands for when nothing is taken.
	reach := make([]uint64, len(g.code)+1)
	reach[len(g.code)] = 1 << len(g.code)
	g.leads = make([]uint64, len(g.code))
	for i := len(g.code) - 1; i >= 0; i-- { // everything leads forward
		switch in := g.code[i]; in.op {
		case opSplit:
			reach[i] = reach[i+1] | reach[in.x]
		case opJump:
			reach[i] = reach[in.x]
		case opStar, opDeep:
			reach[i] = 1<<i | reach[i+1]
			g.leads[i] = reach[i]
		default:
			reach[i] = 1 << i
			g.leads[i] = reach[i+1]
		}
	}
	g.start = reach[0]
}

// step says where instruction i leads: to the instructions in skip without
// taking a symbol (0 is none: nothing leads back to the first), and to the
// instruction to by taking sym (-1 is none). sym is -1 at the end of the text.
func (g *glob) step(i int, sym int32) (skip [2]int, to int) {
	in := g.code[i]
	switch in.op {
	case opSymbol:
		if sym == in.x {
			return skip, i + 1
		}
	case opAny:
		if sym >= 0 && sym != '/' {
			return skip, i + 1
		}
	case opClass:
		if sym >= 0 && sym != '/' && g.classes[in.x].has(sym) {
			return skip, i + 1
		}
	case opStar:
		if sym >= 0 && sym != '/' {
			return [2]int{i + 1}, i
		}
		return [2]int{i + 1}, -1
	case opDeep:
		if sym >= 0 {
			return [2]int{i + 1}, i
		}
		return [2]int{i + 1}, -1
	case opSplit:
		return [2]int{i + 1, int(in.x)}, -1
	case opJump:
		return [2]int{int(in.x)}, -1
	}
	return skip, -1
}
