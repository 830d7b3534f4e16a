// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"cmp"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// whenOp is what a node of a compiled expression does.
type whenOp uint8

const (
	// Constants.
	whenTruth whenOp = iota
	whenNumber
	whenText
	// Facts.
	whenEvent
	whenPath
	whenDetail
	whenExe
	whenUID
	whenEUID
	whenGID
	whenEGID
	whenOwner
	whenGroup
	whenFileSize
	whenAccess
	whenArg
	whenAddr
	// Of one kind or another.
	whenIf
	// True or false.
	whenNot
	whenAnd
	whenOr
	whenCompare
	whenIn
	whenStarts
	whenEnds
	whenContains
	whenMatches
	whenAll
	whenAny
	whenInNet
	// Numbers.
	whenSize
	whenNegate
	whenAdd
	whenSubtract
	whenMultiply
	whenDivide
	whenModulo
)

// takesConstant reports whether a constant, or a list of them, stands in the second place.
func (op whenOp) takesConstant() bool {
	return op == whenIn || op == whenAll || op == whenAny || op == whenInNet || op == whenMatches
}

// whenKind is what a node has for a value.
type whenKind uint8

const (
	isTruth whenKind = iota
	isSigned
	isUnsigned
	isText
	isAddr
)

// relation is what whenCompare looks for.
type relation uint8

const (
	equal relation = iota
	unequal
	less
	lessEqual
	greater
	greaterEqual
)

// holds reports whether the relation is true of two values that compare so.
func (r relation) holds(compared int) bool {
	switch r {
	case equal:
		return compared == 0
	case unequal:
		return compared != 0
	case less:
		return compared < 0
	case lessEqual:
		return compared <= 0
	case greater:
		return compared > 0
	}
	return compared >= 0
}

// truth is the value of a test. A fault is what CEL calls an error: a fact is not known, or
// a number does not fit.
type truth uint8

const (
	no truth = iota
	yes
	fault
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// whenNode is one operator, fact or constant. Which fields count is said by op.
type whenNode struct {
	op   whenOp
	kind whenKind
	rel  relation
	kids []*whenNode

	number uint64                 // whenNumber, the bits of whenAll and whenAny, 1 for a true whenTruth
	text   []byte                 // whenText; how whenNumber was written, if as a text
	access abi.Access             // whenAccess
	name   string                 // whenArg
	at     *[abi.EventCount]uint8 // whenArg, as argMatch.at
	list   []*whenNode            // the constants in the second place, for messages
	nets   *addrMatch             // whenInNet
	ranges []numberRange          // whenIn of numbers; of those with a sign, their bits
	texts  []string               // whenIn of few texts
	many   map[string]struct{}    // whenIn of many
	dfa    *dfa                   // whenMatches
}

// truth returns the value of a node that is true or false.
func (n *whenNode) truth(r *abi.Request) truth {
	switch n.op {
	case whenAnd:
		return n.join(r, no)
	case whenOr:
		return n.join(r, yes)
	case whenNot:
		switch n.kids[0].truth(r) {
		case no:
			return yes
		case yes:
			return no
		}
		return fault
	case whenIf:
		if branch := n.branch(r); branch != nil {
			return branch.truth(r)
		}
		return fault
	case whenTruth:
		return truth(n.number)
	case whenAccess:
		return truthOf(r.Access&n.access != 0)
	case whenCompare:
		return n.compare(r)
	case whenIn:
		return n.in(r)
	case whenAll, whenAny:
		v, ok := n.kids[0].value(r)
		switch {
		case !ok:
			return fault
		case n.op == whenAny:
			return truthOf(v&n.number != 0)
		}
		return truthOf(v&n.number == n.number)
	case whenInNet:
		return truthOf(r.Event < abi.EventCount && n.nets.holds(r))
	}
	return n.search(r)
}

// join returns the value of && and ||: what decides, if one of them has it, whatever the
// others are; else a fault, if there is one.
func (n *whenNode) join(r *abi.Request, decides truth) truth {
	out := yes - decides // the other one
	for _, k := range n.kids {
		switch k.truth(r) {
		case decides:
			return decides
		case fault:
			out = fault
		}
	}
	return out
}

// branch returns the value of ?: that is taken, nil when that cannot be said.
func (n *whenNode) branch(r *abi.Request) *whenNode {
	switch n.kids[0].truth(r) {
	case yes:
		return n.kids[1]
	case no:
		return n.kids[2]
	}
	return nil
}

func (n *whenNode) compare(r *abi.Request) truth {
	a, b := n.kids[0], n.kids[1]
	switch a.kind {
	case isText:
		x, ok := a.bytes(r)
		y, ok2 := b.bytes(r)
		switch {
		case !ok || !ok2:
			return fault
		case n.rel <= unequal: // which is quicker, for most texts have other lengths
			return truthOf(bytes.Equal(x, y) == (n.rel == equal))
		}
		return truthOf(n.rel.holds(bytes.Compare(x, y)))
	case isTruth:
		x, y := a.truth(r), b.truth(r)
		if x == fault || y == fault {
			return fault
		}
		return truthOf((x == y) == (n.rel == equal))
	}
	x, ok := a.value(r)
	y, ok2 := b.value(r)
	switch {
	case !ok || !ok2:
		return fault
	case a.kind == isSigned:
		return truthOf(n.rel.holds(cmp.Compare(int64(x), int64(y))))
	}
	return truthOf(n.rel.holds(cmp.Compare(x, y)))
}

func (n *whenNode) in(r *abi.Request) truth {
	k := n.kids[0]
	if k.kind != isText {
		v, ok := k.value(r)
		if !ok {
			return fault
		}
		return truthOf(inRanges(n.ranges, v))
	}
	text, ok := k.bytes(r)
	if !ok {
		return fault
	}
	for _, s := range n.texts {
		if string(text) == s {
			return yes
		}
	}
	_, found := n.many[string(text)]
	return truthOf(found)
}

// search looks for a text in another one.
func (n *whenNode) search(r *abi.Request) truth {
	text, ok := n.kids[0].bytes(r)
	if n.op == whenMatches {
		if !ok {
			return fault
		}
		return truthOf(n.dfa.match(text))
	}
	wanted, ok2 := n.kids[1].bytes(r)
	switch {
	case !ok || !ok2:
		return fault
	case n.op == whenStarts:
		return truthOf(bytes.HasPrefix(text, wanted))
	case n.op == whenEnds:
		return truthOf(bytes.HasSuffix(text, wanted))
	}
	return truthOf(bytes.Contains(text, wanted))
}

// bytes returns the value of a node that is a text, false for a fault. It is valid as long
// as the request is.
func (n *whenNode) bytes(r *abi.Request) ([]byte, bool) {
	switch n.op {
	case whenText:
		return n.text, true
	case whenPath:
		return r.PathBuf[:min(r.PathLen, abi.PathBytes)], r.Flags&(abi.FlagPathTruncated|abi.FlagNoObject) == 0
	case whenDetail:
		return r.DetailBuf[:min(r.DetailLen, abi.PathBytes)], r.Flags&abi.FlagDetailTruncated == 0
	case whenExe:
		return r.ExeBuf[:min(r.ExeLen, abi.PathBytes)], r.Flags&abi.FlagNoExe == 0
	case whenEvent:
		if r.Event < abi.EventCount {
			return eventTexts[r.Event], true
		}
	case whenIf:
		if branch := n.branch(r); branch != nil {
			return branch.bytes(r)
		}
	}
	return nil, false
}

// eventTexts are the names of the events, as bytes that no request has to make.
var eventTexts = func() (texts [abi.EventCount][]byte) {
	for e := range texts {
		texts[e] = []byte(abi.Event(e).String())
	}
	return texts
}()
