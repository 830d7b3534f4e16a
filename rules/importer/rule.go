// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// place is a line of a source.
type place struct {
	file string
	line int
}

// rule is one rule on its way into the rule file.
type rule struct {
	place
	source  string // how the source says it
	id      string
	events  []string
	match   conditions
	not     conditions
	verdict verdict
	message string
	// missing says what the rule could not be imported for; it becomes a comment then.
	missing []string
	// changed says where it decides otherwise than its source.
	changed []string
	// narrower says that it matches less than its source.
	narrower bool
}

func (r *rule) leftOut() bool { return len(r.missing) > 0 }

// miss adds a reason to leave the rule out.
func (r *rule) miss(why string) { r.missing = append(r.missing, why) }

// verdict is what a rule decides; errno is for deny and may be empty.
type verdict struct{ action, errno string }

var (
	allow = verdict{action: "allow"}
	deny  = verdict{action: "deny"}
	audit = verdict{action: "audit"}
)

// denies reports whether the verdict refuses.
func (v verdict) denies() bool { return v.action == "deny" }

// conditions must all hold; each list holds when one entry does.
type conditions struct {
	path, detail, exe    []pattern
	sha256               []string // 64 lower-case digits
	uid, gid, euid, egid []span
	access               []string
	capability           []string // the only argument that sources name
}

// patternKind says how a pattern compares.
type patternKind uint8

const (
	literal patternKind = iota
	prefix              // all below a directory
	globbed
)

// pattern is one path pattern of a rule file, in its syntax.
type pattern struct {
	kind patternKind
	text string
}

// tree is a path and all below it.
func tree(path string) []pattern { return []pattern{{literal, path}, {prefix, path}} }

// span is the numbers from first to last, both included.
type span struct{ first, last uint32 }

// largestID is the largest uid and gid that there is; the next number means none.
const largestID = math.MaxUint32 - 1

func (s span) String() string {
	text := strconv.FormatUint(uint64(s.first), 10)
	if s.last != s.first {
		text += "-" + strconv.FormatUint(uint64(s.last), 10)
	}
	return text
}

// joined returns the spans in order, those that touch put together.
func joined(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && uint64(s.first) <= uint64(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// others returns the ids that are in none of the spans.
func others(spans []span) []span {
	var out []span
	next := uint64(0)
	for _, s := range joined(slices.Clone(spans)) {
		if uint64(s.first) > next {
			out = append(out, span{uint32(next), s.first - 1})
		}
		next = uint64(s.last) + 1
	}
	if next <= largestID {
		out = append(out, span{uint32(next), largestID})
	}
	return out
}

// inBoth returns the ids that are in both.
func inBoth(a, b []span) []span { return others(slices.Concat(others(a), others(b))) }
