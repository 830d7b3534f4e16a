// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"slices"
)

// What the kernel side has room for.
const (
	MaxKernelRules      = 32  // of one event
	MaxKernelTests      = 4   // of one rule
	MaxKernelPatterns   = 256 // of one event, each counted once for each rule
	KernelPatternBytes  = 120 // of one pattern
	MaxKernelBeginnings = 16  // lengths that the patterns of one event have which are no whole paths
)

// KernelField is a fact that the kernel side can test by itself.
type KernelField uint32

// The fields. KernelArg is the first of Args numbers.
const (
	KernelUID KernelField = iota
	KernelEUID
	KernelGID
	KernelEGID
	KernelAccess
	KernelArg
	KernelFields = KernelArg + Args
)

// KernelTest holds when a field, cut to the bits of Mask, is from Low to High.
type KernelTest struct {
	Mask, Low, High uint64
	Field           KernelField
}

// KernelRule is a rule that the kernel side decides by alone: it matches when all of its
// tests hold, and there can be none, and one of its patterns matches the path, if there are any.
type KernelRule struct {
	Rule  int32  // index in the rule set, -1 for the default
	Errno uint16 // 0 allows
	Tests []KernelTest
	Paths []KernelPattern // nil: it is not about paths
}

// PatternKind says how a path is compared with a pattern's text.
type PatternKind uint8

const (
	PatternWhole  PatternKind = iota // it is the text
	PatternBelow                     // it begins with the text
	PatternWithin                    // it begins with the text, and has no '/' behind it
)

// KernelPattern is a pattern of paths that the kernel side knows. Its text is not empty.
type KernelPattern struct {
	Text string
	Kind PatternKind
}

// Matches reports whether the pattern matches a path: what the kernel side does.
func (p *KernelPattern) Matches(path []byte) bool {
	rest, ok := bytes.CutPrefix(path, []byte(p.Text))
	switch p.Kind {
	case PatternWhole:
		return ok && len(rest) == 0
	case PatternWithin:
		return ok && bytes.IndexByte(rest, '/') < 0
	}
	return ok
}

// Holds reports whether the test holds for a request: what the kernel side does.
func (t *KernelTest) Holds(r *Request) bool {
	var v uint64
	switch t.Field {
	case KernelUID:
		v = uint64(r.UID)
	case KernelEUID:
		v = uint64(r.EUID)
	case KernelGID:
		v = uint64(r.GID)
	case KernelEGID:
		v = uint64(r.EGID)
	case KernelAccess:
		v = uint64(r.Access)
	default:
		if t.Field >= KernelFields {
			return false
		}
		v = r.Arg[t.Field-KernelArg]
	}
	v &= t.Mask
	return v >= t.Low && v <= t.High
}

// DecideKernel returns the rule that the kernel side decides by. False when a worker has to be
// asked: about what MatchKernel does not know, and about all that is refused from the first rule
// on that looks at the path.
func DecideKernel(rules []KernelRule, r *Request) (KernelRule, bool) {
	i := MatchKernel(rules, r)
	if i < 0 {
		return KernelRule{}, false
	}
	pathed := slices.ContainsFunc(rules[:i+1], func(k KernelRule) bool { return k.Paths != nil })
	return rules[i], !pathed || rules[i].Errno == 0
}

// MatchKernel returns the first rule that matches, below 0 when none does, or when one comes
// before that looks at a path which is not known.
func MatchKernel(rules []KernelRule, r *Request) int {
	known := r.PathLen > 0 && r.Flags&(FlagPathTruncated|FlagNoObject) == 0
	for i := range rules {
		if rules[i].Paths != nil && !known {
			break
		}
		if rules[i].matches(r) {
			return i
		}
	}
	return -1
}

func (k *KernelRule) matches(r *Request) bool {
	for i := range k.Tests {
		if !k.Tests[i].Holds(r) {
			return false
		}
	}
	if k.Paths == nil {
		return true
	}
	for i := range k.Paths {
		if k.Paths[i].Matches(r.Path()) {
			return true
		}
	}
	return false
}
