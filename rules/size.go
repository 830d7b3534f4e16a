// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const sizeHint = "write bytes, without a unit: a number such as 0, a range such as 0-4096, or 1048576- for all from there on"

// sizes reads the sizes that an object's file may have.
func (p *parser) sizes(n *yaml.Node, about eventSet) []numberRange {
	if n == nil {
		return nil
	}
	p.needFile(n, "size", about)
	for _, e := range (about & withFile & neverRegular).list() {
		p.add(n, "take it out, or put "+e.String()+" in a rule of its own", "the event %s is about no regular file, and nothing else has a size", e)
	}
	return values(p, n, "object.size", "size", false, func(e *yaml.Node) (r numberRange, ok bool) {
		s, ok := p.text(e, "object.size", sizeHint)
		if !ok {
			return r, false
		}
		r, hint := parseSizes(s)
		if hint != "" {
			p.add(e, hint, "object.size %s is not a number of bytes or a range", quote(s))
		}
		return r, hint == ""
	})
}

// parseSizes reads "5", "5-9" or "5-"; a hint that is not empty says what is wrong.
func parseSizes(s string) (r numberRange, hint string) {
	first, last, isRange := strings.Cut(s, "-")
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	if r.lo, hint = parseSize(first); hint != "" {
		return r, hint
	}
	switch {
	case !isRange:
		r.hi = r.lo
	case last == "":
		r.hi = math.MaxInt64
	default:
		r.hi, hint = parseSize(last)
	}
	if hint == "" && r.hi < r.lo {
		hint = fmt.Sprintf("write the smaller number first: %d-%d", r.hi, r.lo)
	}
	return r, hint
}

// parseSize reads a number of bytes. The largest is that of the kernel's loff_t.
func parseSize(s string) (uint64, string) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, sizeHint
	}
	v, hint := parseNumber(s)
	switch {
	case hint == notSpelled:
		return 0, sizeHint
	case hint == "" && v > math.MaxInt64:
		return 0, "no file is larger than 9223372036854775807 bytes"
	}
	return v, hint
}

// fileSize returns the size of the object's file, or what nothing matches.
func fileSize(r *abi.Request) uint64 {
	if !r.Size.Known {
		return unknownNumber
	}
	return r.Size.Bytes
}

// sizeWords returns what is known of the size, and what is wanted of it.
func sizeWords(sizes []numberRange, r *abi.Request) (subject string, wanted []string) {
	for _, v := range sizes {
		switch {
		case v.lo == v.hi:
			wanted = append(wanted, fmt.Sprint(v.lo))
		case v.hi == math.MaxInt64:
			wanted = append(wanted, fmt.Sprintf("%d-", v.lo))
		default:
			wanted = append(wanted, fmt.Sprintf("%d-%d", v.lo, v.hi))
		}
	}
	if !r.Size.Known {
		return "object.size, which is not known,", wanted
	}
	return fmt.Sprintf("object.size %d", r.Size.Bytes), wanted
}

// sizes appends those of all rules, which came later than the rest of the form.
func (e *encoder) sizes(rs []rule) {
	e.blocks(rs, "size", func(b *block) bool { return len(b.size) > 0 }, func(b *block) {
		long(e, b.size, func(e *encoder, r numberRange) {
			e.number(r.lo)
			e.number(r.hi)
		})
	})
}

// SetSize gives a request the size of the object's file; empty: it has none.
func SetSize(r *abi.Request, text string) error {
	size, ok := abi.ParseSize(text)
	if !ok && text != "" {
		return fmt.Errorf("%s is no size: give the number of bytes, as stat -c %%s FILE prints it", quote(text))
	}
	r.Size = size
	return nil
}
