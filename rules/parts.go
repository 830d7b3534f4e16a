// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// parseParts reads a large file as everybody else would, but in parts: what is around the
// rules, and the rules some hundreds at a time, side by side. So the nodes of the whole file are
// never there at once. Nil when there is anything unusual about it, or wrong with it: then it
// has to be read as a whole, which is where all problems are reported. It takes no file for
// another one than the whole would be: the key above a cut must be one of the file, with
// nothing below it in the rest, and a cut in a wrong place between rules leaves a quote or a
// bracket open, which no part can be read with.
func parseParts(v version, name string, src []byte) *File {
	if _, bad := firstBadByte(src); bad != "" || oddBreaks(src) {
		return nil
	}
	frame, items, key := cut(src)
	if len(items) == 0 {
		return nil
	}
	p := newParser(v, name)
	f := &File{settings: settings{name: name}, source: string(src)}
	root := p.document(frame)
	if root == nil || !rulesOn(root, key) {
		return nil
	}
	if p.readFile(root, f); len(p.problems) > 0 || f.rules != nil {
		return nil
	}
	total := len(items)
	if total > v.rulesMax {
		return nil
	}
	var parts []part
	for first := 0; first < total; {
		n := 1
		for first+n < total && items[first+n].end-items[first].from <= v.partBytes {
			n++
		}
		of := items[first : first+n]
		parts = append(parts, part{src: f.source[of[0].from:of[n-1].end], line: of[0].line, first: first, count: n})
		first += n
	}
	f.rules = make([]rule, total)
	if !readParts(p, parts, f) {
		return nil
	}
	ids := make(map[string]struct{}, total)
	for i := range f.rules {
		ids[f.rules[i].id] = struct{}{}
	}
	if len(ids) < total {
		return nil // some are there twice
	}
	return f
}

// part is some rules of a file.
type part struct {
	src          string
	line         int // in the file, from 1
	first, count int // of its rules
}

// readParts reads the parts into f.rules, by what the frame has read, and reports whether each could be read.
func readParts(frame *parser, parts []part, f *File) bool {
	var (
		mu     sync.Mutex
		failed bool
		wg     sync.WaitGroup
	)
	next := func() *part {
		mu.Lock()
		defer mu.Unlock()
		if failed || len(parts) == 0 {
			return nil
		}
		p := &parts[0]
		parts = parts[1:]
		return p
	}
	// One CPU is left alone, for a worker of the daemon that polls there: a thread that waits
	// behind it does little, and keeps what the worker waits for from that CPU when it has a turn.
	for range max(1, min(runtime.NumCPU()-1, runtime.GOMAXPROCS(0), len(parts))) {
		wg.Go(func() {
			var s simple
			for {
				p := next()
				if p == nil {
					return
				}
				if !p.read(&s, frame, f) {
					mu.Lock()
					failed = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return !failed
}

// list reads a part that is not simple. Nil: it is no list.
func (pt *part) list(p *parser) *yaml.Node {
	d := yaml.NewDecoder(strings.NewReader(pt.src))
	var doc, second yaml.Node
	if decode(d, &doc) != nil || !errors.Is(decode(d, &second), io.EOF) {
		return nil
	}
	list := doc.Content[0]
	if p.refuseAnchors(list); list.Kind != yaml.SequenceNode || len(p.problems) > 0 {
		return nil
	}
	shift(list, pt.line-1)
	return list
}

// read reads a part into its place in f.rules.
func (pt *part) read(s *simple, frame *parser, f *File) bool {
	p := newParser(frame.version, frame.file)
	p.whens, p.sets = frame.whens, frame.sets
	list := s.read(pt.src, pt.line)
	if list == nil {
		list = pt.list(p)
	}
	if list == nil || len(list.Content) != pt.count {
		return false
	}
	for i, n := range list.Content {
		p.oneRule(n, pt.first+i, f)
		p.rule = ""
	}
	return len(p.problems) == 0
}

// oddBreaks reports whether there is a break of a line that is one to YAML alone.
func oddBreaks(src []byte) bool {
	for i := range src {
		if src[i] == '\r' && (i+1 == len(src) || src[i+1] != '\n') {
			return true
		}
	}
	return bytes.Contains(src, []byte("\u0085")) || bytes.Contains(src, []byte("\u2028")) || bytes.Contains(src, []byte("\u2029"))
}

// shift moves the lines of all nodes.
func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}

// item is one rule: src[from:end], and the line, from 1, that it begins on.
type item struct{ from, end, line int }

// cut finds the rules in a file that has them as a block sequence below a key of their own, and
// returns the file without them, their lines left empty, so that all others keep their numbers,
// and the line, from 1, of what looks like the key. No items: it is written otherwise.
func cut(src []byte) (frame []byte, items []item, key int) {
	begin, line := -1, 0 // of the sequence
	lineNumber, indent := 0, -1
	at := 0
	const ruleBytes = 100 // of a typical rule
	items = make([]item, 0, len(src)/ruleBytes)
	for at < len(src) {
		end := at + bytes.IndexByte(src[at:], '\n') + 1
		if end == at {
			end = len(src)
		}
		lineNumber++
		text := bytes.TrimRight(src[at:end], " \t\r\n")
		blank := bytes.TrimLeft(text, " ")
		depth := len(text) - len(blank)
		switch {
		case begin < 0:
			if bytes.HasPrefix(text, []byte("rules:")) && comment(text[len("rules:"):]) {
				begin, line = end, lineNumber+1
			}
		case len(blank) == 0 || blank[0] == '#':
		case indent < 0 || depth == indent && isItem(blank):
			if !isItem(blank) {
				return nil, nil, 0
			}
			indent = depth
			if len(items) > 0 {
				items[len(items)-1].end = at
			}
			items = append(items, item{from: at, line: lineNumber})
		case depth <= indent: // the sequence is over
			items[len(items)-1].end = at
			return slices.Concat(src[:begin], bytes.Repeat([]byte{'\n'}, lineNumber-line), src[at:]), items, line - 1
		}
		at = end
	}
	if len(items) == 0 {
		return nil, nil, 0
	}
	items[len(items)-1].end = len(src)
	return src[:begin], items, line - 1
}

// rulesOn reports whether a file has the key rules on that line, with nothing there.
func rulesOn(root *yaml.Node, line int) bool {
	for i := 0; root.Kind == yaml.MappingNode && i+1 < len(root.Content); i += 2 {
		if k, v := root.Content[i], root.Content[i+1]; k.Value == "rules" && k.Line == line {
			return v.ShortTag() == "!!null"
		}
	}
	return false
}

func isItem(text []byte) bool {
	return text[0] == '-' && (len(text) == 1 || text[1] == ' ')
}

// comment reports whether there is nothing in the rest of a line.
func comment(rest []byte) bool {
	rest = bytes.TrimLeft(rest, " \t")
	return len(rest) == 0 || rest[0] == '#'
}
