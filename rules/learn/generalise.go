// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Level says how far a proposal goes beyond what was observed.
type Level string

// The levels.
const (
	None Level = "none" // nothing but what was observed
	Low  Level = "low"  // a pattern replaces 4 paths, and allows at most one unobserved for each observed
	High Level = "high" // it replaces 2, and allows at most 256 for each
)

// Levels are their names.
var Levels = []string{string(None), string(Low), string(High)}

// says is what a reader of the file has to know of the level.
func (l Level) says() string {
	switch l {
	case High:
		return "Generalised high: patterns and networks beside what was observed, each with its price; ids are not looked at."
	case Low:
		return "Generalised low: patterns beside what was observed, each with its price; group ids are not looked at."
	}
	return "Not generalised: only what was observed is allowed."
}

// budget is when a pattern pays.
type budget struct {
	replaces int    // entries of a list, at least
	ratio    uint64 // unobserved paths for each observed one, at most
}

func (l Level) budget() budget {
	if l == High {
		return budget{2, 256}
	}
	return budget{4, 1}
}

// Price is what a generalisation costs.
type Price struct {
	Rule       string // its id
	Pattern    string // as rules write it
	Observed   uint64
	Unobserved uint64
	AtLeast    bool   // the count of the unobserved reached its bound, or could not be made whole
	Of         string // what is counted: "paths", "addresses"
}

// item is an entry of a list of paths, with the observed ones that it stands for.
type item struct {
	pattern
	covered []string
}

// generaliser makes fewer patterns of many paths.
type generaliser struct {
	budget
	counter
	scope  []string
	prices []Price
	// uncounted are patterns whose price could not be counted, so that they were not made.
	uncounted map[string]error
}

// paths returns patterns that match all of the paths, and what they cost.
func (g *generaliser) paths(in []string) ([]item, []Price) {
	var items []item
	g.prices = nil
	for _, p := range in {
		items = append(items, item{literal(p), []string{p}})
	}
	items = g.groups(items, volatileKey, volatile, budget{1, ^uint64(0)})
	items = g.groups(items, numberedKey, numbered, g.budget)
	items = g.groups(items, extensionKey, affixed, g.budget)
	items = g.groups(items, stemKey, affixed, g.budget)
	items = g.groups(items, item.directory, wholeDirectory, g.budget)
	return g.trees(items), g.prices
}

// groups replaces the items that share a key by one pattern where that pays.
func (g *generaliser) groups(items []item, key func(item) string, make func([]item) pattern, b budget) []item {
	byKey := map[string][]item{}
	var out []item
	for _, it := range items {
		if k := key(it); k != "" {
			byKey[k] = append(byKey[k], it)
		} else {
			out = append(out, it)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		members := byKey[k]
		if one, ok := g.try(members, make, b); ok {
			members = []item{one}
		}
		out = append(out, members...)
	}
	return out
}

// try asks what one pattern in place of the members costs; false when it does not pay.
func (g *generaliser) try(members []item, make func([]item) pattern, b budget) (item, bool) {
	if len(members) < b.replaces {
		return item{}, false
	}
	one := item{pattern: make(members)}
	if one.form == isLiteral || one.tooLong() {
		return item{}, false
	}
	seen := map[string]bool{}
	for _, m := range members {
		for _, p := range m.covered {
			if !one.covers(p) {
				return item{}, false
			}
			seen[p] = true
			one.covered = append(one.covered, p)
		}
	}
	n, err := g.count(one.pattern, seen)
	forced := b.ratio == ^uint64(0)
	if tooMany := n > b.ratio*uint64(len(seen)); !forced && (err != nil || tooMany) {
		if !tooMany && g.uncounted != nil {
			g.uncounted[one.words()] = err
		}
		return item{}, false
	}
	// The prices of what it replaces are not paid any more.
	g.prices = slices.DeleteFunc(g.prices, func(p Price) bool {
		return slices.ContainsFunc(members, func(m item) bool { return m.form != isLiteral && m.pattern.words() == p.Pattern })
	})
	g.prices = append(g.prices, Price{Pattern: one.words(), Observed: uint64(len(seen)), Unobserved: n, AtLeast: err != nil, Of: "paths"})
	return one, true
}

// words is the pattern for people.
func (p pattern) words() string {
	if p.form == isPrefix {
		return p.text + "/**"
	}
	return p.text
}

// directory returns the directory that all of an item is in, "" when there is no single
// one below the root, or a name that cannot be generalised.
func (it item) directory() string {
	if it.form == isPrefix {
		return ""
	}
	for _, p := range it.parts[:max(len(it.parts)-1, 0)] {
		if !p.plain() {
			return ""
		}
	}
	path := it.covered[0]
	return path[:strings.LastIndexByte(path, '/')]
}

// wholeDirectory is any name in the directory of the items.
func wholeDirectory(items []item) pattern {
	return globOf(append(components(items[0].directory()), part{[]string{"", ""}, []bool{false}}))
}

// volatileKey is for processes and threads in /proc: the same number is never met again.
func volatileKey(it item) string {
	if !strings.HasPrefix(it.text, "/proc/") || it.form != isLiteral {
		return ""
	}
	if p := volatile([]item{it}); p.form == isGlob {
		return p.text
	}
	return ""
}

// volatile has a wildcard in place of each component that is a number.
func volatile(items []item) pattern {
	parts := components(items[0].text)
	for i, p := range parts {
		if strings.Trim(p.texts[0], "0123456789") == "" {
			parts[i] = part{[]string{"", ""}, []bool{true}}
		}
	}
	return globOf(parts)
}

// numberedKey is equal for paths that differ in numbers alone: versions, dates, counters.
func numberedKey(it item) string {
	texts, runs := digitRuns(it.text)
	if it.form != isLiteral || len(runs) == 0 || !utf8.ValidString(it.text) {
		return ""
	}
	return strings.Join(texts, "\x00")
}

// numbered has a wildcard in place of each number that is not the same in all items.
func numbered(items []item) pattern {
	_, first := digitRuns(items[0].text)
	differs := make([]bool, len(first))
	for _, it := range items {
		_, runs := digitRuns(it.text)
		for i := range runs {
			differs[i] = differs[i] || runs[i] != first[i]
		}
	}
	var parts []part
	run := 0
	for name := range strings.SplitSeq(items[0].text[1:], "/") {
		texts, runs := digitRuns(name)
		p := part{texts: []string{texts[0]}}
		for i, digits := range runs {
			if differs[run] {
				p.texts, p.digit = append(p.texts, texts[i+1]), append(p.digit, true)
			} else {
				p.texts[len(p.texts)-1] += digits + texts[i+1]
			}
			run++
		}
		parts = append(parts, p)
	}
	return globOf(parts)
}

// digitRuns splits s at its numbers: there is one text more than numbers.
func digitRuns(s string) (texts, runs []string) {
	isDigit := func(r rune) bool { return r >= '0' && r <= '9' }
	for {
		from := strings.IndexFunc(s, isDigit)
		if from < 0 {
			return append(texts, s), runs
		}
		texts, s = append(texts, s[:from]), s[from:]
		to := strings.IndexFunc(s, func(r rune) bool { return !isDigit(r) })
		if to < 0 {
			to = len(s)
		}
		runs, s = append(runs, s[:to]), s[to:]
	}
}

// name splits a literal into its directory and its name, which has whole characters only.
func (it item) name() (dir, name string, ok bool) {
	at := strings.LastIndexByte(it.text, '/')
	if it.form != isLiteral || at <= 0 || !utf8.ValidString(it.text[at+1:]) {
		return "", "", false
	}
	return it.text[:at], it.text[at+1:], true
}

// extensionKey is equal for names in one directory that end in the same extension.
func extensionKey(it item) string {
	dir, name, ok := it.name()
	at := strings.LastIndexByte(name, '.')
	if !ok || at <= 0 || at == len(name)-1 {
		return ""
	}
	return dir + "\x00" + name[at:]
}

// stemKey is equal for names in one directory that begin alike, up to the first of . - _.
func stemKey(it item) string {
	dir, name, ok := it.name()
	at := strings.IndexAny(name, ".-_")
	if !ok || at <= 0 {
		return ""
	}
	return dir + "\x00" + name[:at+1]
}

// affixed has what all names begin and end with, and a wildcard between.
func affixed(items []item) pattern {
	dir, head, _ := items[0].name()
	tail := head
	for _, it := range items[1:] {
		_, name, _ := it.name()
		for !strings.HasPrefix(name, head) {
			_, n := utf8.DecodeLastRuneInString(head)
			head = head[:len(head)-n]
		}
		for !strings.HasSuffix(name, tail) {
			_, n := utf8.DecodeRuneInString(tail)
			tail = tail[n:]
		}
	}
	// In the shortest name the two must not overlap.
	for _, it := range items {
		_, name, _ := it.name()
		for len(head)+len(tail) > len(name) {
			_, n := utf8.DecodeRuneInString(tail)
			tail = tail[n:]
		}
	}
	return globOf(append(components(dir), part{[]string{head, tail}, []bool{false}}))
}

// trees replaces what lies in several directories below one by that one, where it pays,
// the deepest first. The first two levels of the machine are too wide for any of it.
func (g *generaliser) trees(items []item) []item {
	held := map[string]int{} // items below a directory
	for _, it := range items {
		for dir := it.covered[0]; ; {
			dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
			if strings.Count(dir, "/") < 2 {
				break
			}
			held[dir]++
		}
	}
	// Of very many paths only directories that hold a part of them worth a look are tried.
	dirs := slices.DeleteFunc(slices.Sorted(maps.Keys(held)), func(dir string) bool {
		return held[dir] < max(g.replaces, len(items)/100)
	})
	depth := func(dir string) int { return strings.Count(dir, "/") }
	slices.SortStableFunc(dirs, func(a, b string) int { return depth(b) - depth(a) })
	for _, dir := range dirs {
		if slices.ContainsFunc(g.scope, func(s string) bool { return strings.HasPrefix(s, dir+"/") }) {
			continue
		}
		var below, rest []item
		direct := true
		for _, it := range items {
			if slices.ContainsFunc(it.covered, func(p string) bool { return !strings.HasPrefix(p, dir+"/") }) {
				rest = append(rest, it)
				continue
			}
			below = append(below, it)
			direct = direct && it.directory() == dir
		}
		if direct {
			continue // any name in the directory was tried before, and costs less
		}
		if one, ok := g.try(below, func([]item) pattern { return prefixOf(dir) }, g.budget); ok {
			items = append(rest, one)
		}
	}
	return items
}
