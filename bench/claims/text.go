// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Unlisted returns the figures of the file's documents that are in no quote, "path:line: figure" each, and
// the documents or sections that are not there. read returns a document by its path, false for none.
func Unlisted(f *File, read func(path string) (string, bool)) []string {
	var out []string
	for _, d := range f.Documents {
		path, anchor, _ := strings.Cut(d, "#")
		text, ok := read(path)
		if !ok {
			out = append(out, d+": no such document")
			continue
		}
		p := proseOf(text, anchor)
		if p == nil {
			out = append(out, d+": no such section")
			continue
		}
		var covered [][2]int
		for _, q := range f.quotes() {
			if q.In == path {
				covered = append(covered, p.find(q.Text)...)
			}
		}
		for _, m := range figure.FindAllStringIndex(p.text, -1) {
			if !slices.ContainsFunc(covered, func(c [2]int) bool { return c[0] <= m[0] && m[1] <= c[1] }) {
				out = append(out, fmt.Sprintf("%s:%d: %q", path, p.line(m[0]), p.text[m[0]:m[1]]))
			}
		}
	}
	return out
}

// Gone returns the quotes that their document does not have, and those without a figure, which back nothing.
func Gone(f *File, read func(path string) (string, bool)) []string {
	var out []string
	for _, q := range f.quotes() {
		text, ok := read(q.In)
		switch {
		case !ok:
			out = append(out, q.In+": no such document")
		case len(proseOf(text, "").find(q.Text)) == 0:
			out = append(out, fmt.Sprintf("%s: does not say %q", q.In, q.Text))
		case !figure.MatchString(q.Text):
			out = append(out, fmt.Sprintf("%s: no figure in %q", q.In, q.Text))
		}
	}
	return out
}

func (f *File) quotes() []Quote {
	var out []Quote
	for _, c := range f.Claims {
		out = append(out, c.Quotes...)
	}
	for _, e := range f.Excluded {
		out = append(out, e.Quotes...)
	}
	return out
}

// figure is a time, a factor, or the bytes that something takes: a number and what makes it a figure of
// performance. "1,024 slots" is none.
var figure = regexp.MustCompile(number + `(?: (?:to|and|or) ` + number + `)? ?(?:ns|µs|μs|us|ms|s|×|x)(?:[^\w]|$)` +
	`|(?:` + number + `(?: (?:to|and|or) ` + number + `)?|\b(?:two|three|four|five|six|ten|twenty|a hundred|a thousand)) times\b` +
	`|\bfactors? of ` + number +
	`|` + number + ` (?:bytes|B|KiB|MiB) (?:each|a rule|resident)\b`)

const number = `\d(?:[\d.,]*\d)?`

// prose is the text of a document without what programs printed, line breaks turned into blanks.
type prose struct {
	text   string
	starts []int // offset of each line's text
	lines  []int // and its number in the document
}

var (
	heading     = regexp.MustCompile(`^(#+) (.*)$`)
	notInAnchor = regexp.MustCompile(`[^\w-]`)
)

// proseOf returns the prose of the section with the anchor, up to the next heading of its level; "" is all.
// It is nil when there is no such section. What is fenced was printed by a program and claims nothing.
func proseOf(text, anchor string) *prose {
	p := new(prose)
	fenced, level, found := false, 0, anchor == ""
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil && !fenced && anchor != "" {
			title := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(m[2])), " ", "-")
			switch {
			case notInAnchor.ReplaceAllString(title, "") == anchor:
				level, found = len(m[1]), true
			case len(m[1]) <= level:
				level = 0
			}
		}
		if fenced || anchor != "" && level == 0 {
			continue
		}
		p.starts, p.lines = append(p.starts, b.Len()), append(p.lines, i+1)
		b.WriteString(strings.Join(strings.Fields(line), " ") + " ")
	}
	if !found {
		return nil
	}
	p.text = b.String()
	return p
}

// find returns where the quote is.
func (p *prose) find(quote string) [][2]int {
	quote = strings.Join(strings.Fields(quote), " ")
	var out [][2]int
	for from := 0; ; {
		i := strings.Index(p.text[from:], quote)
		if i < 0 {
			return out
		}
		// A figure takes the sign behind it along.
		out = append(out, [2]int{from + i, min(from+i+len(quote)+1, len(p.text))})
		from += i + max(len(quote), 1)
	}
}

func (p *prose) line(offset int) int {
	i, exact := slices.BinarySearch(p.starts, offset)
	if !exact {
		i--
	}
	return p.lines[i]
}
