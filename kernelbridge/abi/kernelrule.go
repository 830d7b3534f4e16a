// SPDX-License-Identifier: Apache-2.0

package abi

const (
	// MaxKernelRules is how many rules of one event the kernel side decides by.
	MaxKernelRules = 16
	// MaxKernelTests is how many tests one of them has.
	MaxKernelTests = 4
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
// tests hold, and there can be none.
type KernelRule struct {
	Rule  int32  // index in the rule set, -1 for the default
	Errno uint16 // 0 allows
	Tests []KernelTest
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

// DecideKernel returns the first rule that matches: what the kernel side does. False when
// none does, and a worker has to be asked.
func DecideKernel(rules []KernelRule, r *Request) (KernelRule, bool) {
	for _, rule := range rules {
		ok := true
		for i := range rule.Tests {
			ok = ok && rule.Tests[i].Holds(r)
		}
		if ok {
			return rule, true
		}
	}
	return KernelRule{}, false
}
