// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"unicode/utf8"
)

// globProblem is what is wrong with a pattern and what to write instead.
type globProblem struct{ message, hint string }

// globParser compiles a pattern while it reads it.
type globParser struct {
	src     []byte
	at      int
	code    []inst
	classes []class
	// target is the furthest instruction that a jump or split leads to.
	target int
}

// compileGlob compiles a pattern. The caller has checked that it is an absolute
// and clean path.
func compileGlob(text string) (*glob, *globProblem) {
	p := globParser{src: []byte(text)}
	if err := p.sequence(0, false); err != nil {
		return nil, err
	}
	code := p.code
	// Only whole characters are compared as bytes: at their edges the text has
	// a symbol's edge as well.
	plain := func(in inst) bool { return in.op == opSymbol && in.x <= utf8.MaxRune }
	from := 0
	for from < len(code) && plain(code[from]) {
		from++
	}
	to := len(code)
	for to > max(from, p.target) && plain(code[to-1]) {
		to--
	}
	g := &glob{head: spell(code[:from]), tail: spell(code[to:]), classes: p.classes, code: make([]inst, 0, to-from)}
	for _, in := range code[from:to] {
		if in.op == opSplit || in.op == opJump {
			in.x -= int32(from)
		}
		g.code = append(g.code, in)
	}
	if len(g.code) > globStates {
		return nil, &globProblem{fmt.Sprintf("the pattern is too complicated: %d steps between its first and its last wildcard, at most %d",
			len(g.code), globStates), "write several patterns in a list"}
	}
	if len(g.code) < 64 {
		g.follow()
	}
	return g, nil
}

// spell returns the text of literal instructions.
func spell(code []inst) string {
	b := make([]byte, 0, len(code))
	for _, in := range code {
		b = utf8.AppendRune(b, in.x)
	}
	return string(b)
}

func (p *globParser) emit(o op, x int32) int {
	p.code = append(p.code, inst{o, x})
	return len(p.code) - 1
}

// land makes instruction i lead to the next one that will be emitted.
func (p *globParser) land(i int) {
	p.code[i].x = int32(len(p.code))
	p.target = len(p.code)
}

func (p *globParser) next() byte {
	if p.at < len(p.src) {
		return p.src[p.at]
	}
	return 0
}

// sequence reads up to the end, or up to the ',' or '}' that ends an
// alternative. slash says whether a '/' stands right before it.
func (p *globParser) sequence(depth int, slash bool) *globProblem {
	for p.at < len(p.src) {
		c := p.src[p.at]
		switch {
		case depth > 0 && (c == ',' || c == '}'):
			return nil
		case c == '*':
			var err *globProblem
			if slash, err = p.star(slash); err != nil {
				return err
			}
			continue
		case c == '?':
			p.at++
			p.emit(opAny, 0)
		case c == '[':
			if err := p.class(); err != nil {
				return err
			}
		case c == '{':
			if err := p.alternatives(depth, slash); err != nil {
				return err
			}
		case c == ']' || c == '}':
			return &globProblem{fmt.Sprintf("the pattern has a %q that closes nothing", c),
				fmt.Sprintf(`write \%c in a glob for the character itself, or {literal: "..."} for a path without wildcards`, c)}
		default:
			s, err := p.symbol()
			if err != nil {
				return err
			}
			p.emit(opSymbol, s)
			slash = s == '/'
			continue
		}
		slash = false
	}
	return nil
}

// star reads * or **.
func (p *globParser) star(slash bool) (nowSlash bool, err *globProblem) {
	n := 0
	for p.next() == '*' {
		n++
		p.at++
	}
	switch {
	case n > 2:
		return false, &globProblem{fmt.Sprintf("the pattern has %d asterisks in a row", n),
			"write * for anything within one directory or ** for anything below"}
	case n == 1:
		p.emit(opStar, 0)
		return false, nil
	case slash && p.next() == '/': // any number of whole directories, also none
		p.at++
		split := p.emit(opSplit, 0)
		p.emit(opDeep, 0)
		p.emit(opSymbol, '/')
		p.land(split)
		return true, nil
	}
	p.emit(opDeep, 0)
	return false, nil
}

// symbol reads one character, or the one behind a backslash.
func (p *globParser) symbol() (int32, *globProblem) {
	if p.src[p.at] == '\\' {
		p.at++
		if p.at == len(p.src) {
			return 0, &globProblem{"the pattern ends in a backslash", `write \\ for a backslash`}
		}
	}
	s, n := symbol(p.src[p.at:])
	p.at += n
	return s, nil
}

// alternatives reads {a,b,c}.
func (p *globParser) alternatives(depth int, slash bool) *globProblem {
	const deepest = 16
	if depth == deepest {
		return &globProblem{fmt.Sprintf("the pattern nests braces more than %d deep", deepest), "write several patterns in a list"}
	}
	var jumps []int
	open := p.at
	for {
		p.at++ // the '{' or ','
		split := p.emit(opSplit, 0)
		if err := p.sequence(depth+1, slash); err != nil {
			return err
		}
		switch p.next() {
		case ',':
			jumps = append(jumps, p.emit(opJump, 0))
			p.land(split)
		case '}':
			if p.at == open+1 {
				return &globProblem{"the pattern has an empty {}", "write the alternatives as {a,b}, or \\{ for the character itself"}
			}
			p.at++
			p.code[split].x = int32(split + 1) // the last one has no other
			for _, j := range jumps {
				p.land(j)
			}
			return nil
		default:
			return &globProblem{"the pattern has a { without its }", `close it, or write \{ for the character itself`}
		}
	}
}

// class reads [a-z] or [!a-z].
func (p *globParser) class() *globProblem {
	unclosed := &globProblem{"the pattern has a [ without its ]", `close it, or write \[ for the character itself`}
	p.at++
	var c class
	if p.next() == '!' {
		c.not = true
		p.at++
	}
	if p.next() == '^' {
		return &globProblem{"the pattern has a [^", `write [!a-z] for any character but these, or [\^] for the character itself`}
	}
	for {
		if p.at >= len(p.src) {
			return unclosed
		}
		if p.src[p.at] == ']' {
			break
		}
		lo, err := p.classSymbol()
		if err != nil {
			return err
		}
		hi := lo
		if p.next() == '-' && p.at+1 < len(p.src) && p.src[p.at+1] != ']' {
			p.at++
			if hi, err = p.classSymbol(); err != nil {
				return err
			}
		}
		if hi < lo {
			return &globProblem{fmt.Sprintf("the pattern has a range from %+q to %+q, which is empty", lo, hi), "write the smaller character first"}
		}
		c.ranges = append(c.ranges, symbolRange{lo, hi})
	}
	if len(c.ranges) == 0 {
		return &globProblem{"the pattern has an empty []", `write the characters between [ and ], a ] among them as \]`}
	}
	p.at++
	p.classes = append(p.classes, c)
	p.emit(opClass, int32(len(p.classes)-1))
	return nil
}

func (p *globParser) classSymbol() (int32, *globProblem) {
	s, err := p.symbol()
	switch {
	case err != nil:
		return 0, err
	case s == '/':
		return 0, &globProblem{"the pattern has a / between [ and ], where it never matches", "take it out; / is matched by itself and by ** only"}
	case s >= badByte:
		return 0, &globProblem{"the pattern has a byte that is not UTF-8 between [ and ]", "write it outside of the brackets, or use ? for any one character"}
	}
	return s, nil
}
