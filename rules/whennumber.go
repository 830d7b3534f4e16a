// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// value returns the value of a node that is a number, false for a fault. One with a sign is
// an int64 in the same bits.
func (n *whenNode) value(r *abi.Request) (uint64, bool) {
	switch n.op {
	case whenNumber:
		return n.number, true
	case whenArg:
		if r.Event < abi.EventCount && n.at[r.Event] < abi.Args {
			return r.Arg[n.at[r.Event]], true
		}
		return 0, false
	case whenUID:
		return uint64(r.UID), true
	case whenEUID:
		return uint64(r.EUID), true
	case whenGID:
		return uint64(r.GID), true
	case whenEGID:
		return uint64(r.EGID), true
	case whenOwner:
		return uint64(r.OwnerUID), r.HasAttributes() && r.OwnerUID != abi.NoOwner
	case whenGroup:
		return uint64(r.OwnerGID), r.HasAttributes() && r.OwnerGID != abi.NoOwner
	case whenFileSize:
		return r.Size.Bytes, r.Size.Known
	case whenIf:
		if branch := n.branch(r); branch != nil {
			return branch.value(r)
		}
		return 0, false
	case whenSize:
		text, ok := n.kids[0].bytes(r)
		if !ok {
			return 0, false
		}
		return uint64(utf8.RuneCount(text)), true
	case whenNegate:
		v, ok := n.kids[0].value(r)
		return -v, ok && int64(v) != math.MinInt64
	}
	x, ok := n.kids[0].value(r)
	y, ok2 := n.kids[1].value(r)
	switch {
	case !ok || !ok2:
		return 0, false
	case n.kind == isSigned:
		return signed(n.op, int64(x), int64(y))
	}
	return unsigned(n.op, x, y)
}

// unsigned calculates; false when the result does not fit, or there is none.
func unsigned(op whenOp, x, y uint64) (uint64, bool) {
	switch op {
	case whenAdd:
		sum, carry := bits.Add64(x, y, 0)
		return sum, carry == 0
	case whenSubtract:
		return x - y, x >= y
	case whenMultiply:
		high, low := bits.Mul64(x, y)
		return low, high == 0
	}
	switch {
	case y == 0:
		return 0, false
	case op == whenDivide:
		return x / y, true
	}
	return x % y, true
}

// signed calculates with numbers that have a sign.
func signed(op whenOp, x, y int64) (uint64, bool) {
	switch op {
	case whenAdd:
		return uint64(x + y), (x+y > x) == (y > 0)
	case whenSubtract:
		return uint64(x - y), (x-y < x) == (y > 0)
	case whenMultiply:
		if x == 0 || y == 0 {
			return 0, true
		}
		p := x * y
		return uint64(p), p/y == x && !(x == -1 && y == math.MinInt64) && !(y == -1 && x == math.MinInt64)
	}
	switch {
	case y == 0, x == math.MinInt64 && y == -1:
		return 0, false
	case op == whenDivide:
		return uint64(x / y), true
	}
	return uint64(x % y), true
}
