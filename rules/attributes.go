// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// attributes is what a block asks of the owner, the group and the mode of the object's file. The
// zero value asks for nothing.
type attributes struct {
	owner, group []numberRange
	mode         bitTest
}

func (a *attributes) given() bool { return len(a.owner)+len(a.group) > 0 || a.mode.given() }

// attributes reads the fields of an object that are about its file.
func (p *parser) attributes(f fields, about eventSet) (a attributes) {
	for _, key := range [...]string{"owner", "group", "mode"} {
		if n := f.get(key); n != nil {
			p.needFile(n, key, about)
		}
	}
	a.owner = p.ids32(f.get("owner"), "object.owner")
	a.group = p.ids32(f.get("group"), "object.group")
	a.mode = p.bitTest(f.get("mode"), "object.mode", fileBits, abi.ModeBits,
		"write the bits that the file has, such as mode: {any: [setuid, setgid]} or mode: {all: 0o111}",
		"the bits of a mode are those of 0o7777; what kind of file it is, format tells")
	return a
}

// needFile refuses a field of an object for events that are about no file that is there.
func (p *parser) needFile(n *yaml.Node, key string, about eventSet) {
	for _, e := range (about & withObject &^ withFile).list() {
		p.add(n, "take it out, or put "+e.String()+" in a rule of its own", "the event %s is about no file that is there, to match by object.%s", e, key)
	}
}

// fails returns the condition that does not hold, none when all do. What is not known does not match.
func (a *attributes) fails(r *abi.Request) condition {
	known := r.HasAttributes()
	switch {
	case a.owner != nil && !(known && inRanges(a.owner, uint64(r.OwnerUID))):
		return condOwner
	case a.group != nil && !(known && inRanges(a.group, uint64(r.OwnerGID))):
		return condGroup
	case a.mode.given() && !(known && a.mode.holds(uint64(r.Mode))):
		return condMode
	}
	return none
}

// unknownNumber is what no range has in it.
const unknownNumber = 1 << 63

// attribute returns a number of the object's file, or one that nothing matches.
func attribute(r *abi.Request, v uint32) uint64 {
	if !r.HasAttributes() {
		return unknownNumber
	}
	return uint64(v)
}

// covers reports whether a holds wherever o does.
func (a *attributes) covers(o *attributes) bool {
	return a.mode.covers(o.mode) && covered(a.owner, o.owner) && covered(a.group, o.group)
}

// words returns what is known of the file, and what is wanted of it.
func (a *attributes) words(c condition, r *abi.Request) (subject string, wanted []string) {
	name, value := "object.owner", fmt.Sprint(r.OwnerUID)
	switch c {
	case condGroup:
		name, value = "object.group", fmt.Sprint(r.OwnerGID)
	case condMode:
		name, value = "object.mode", fmt.Sprintf("0o%o", r.Mode&abi.ModeBits)
	}
	if subject = name + " " + value; !r.HasAttributes() {
		subject = name + ", which is not known,"
	}
	switch c {
	case condOwner:
		return subject, rangeWords(a.owner)
	case condGroup:
		return subject, rangeWords(a.group)
	}
	return subject, a.mode.words(bitNames(fileBits))
}

func rangeWords(rs []numberRange) (out []string) {
	for _, v := range rs {
		if v.lo == v.hi {
			out = append(out, fmt.Sprint(v.lo))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", v.lo, v.hi))
		}
	}
	return out
}

// witness gives r a file for which a holds.
func (a *attributes) witness(r *abi.Request) {
	if !a.given() {
		return
	}
	r.Mode = modeRegular | uint32(a.mode.some())
	if a.owner != nil {
		r.OwnerUID = uint32(a.owner[0].lo)
	}
	if a.group != nil {
		r.OwnerGID = uint32(a.group[0].lo)
	}
}

const modeRegular = 0o100000 // S_IFREG of stat(2)

// appendKey appends what tells a from all others.
func (a *attributes) appendKey(key []byte) []byte {
	for _, rs := range [...][]numberRange{a.owner, a.group} {
		key = binary.AppendUvarint(key, uint64(len(rs)))
		for _, r := range rs {
			key = binary.AppendUvarint(binary.AppendUvarint(key, r.lo), r.hi)
		}
	}
	return a.mode.appendKey(key)
}

// attributes appends those of all rules, which came later than the rest of the form.
func (e *encoder) attributes(rs []rule) {
	e.blocks(rs, "attributes", func(b *block) bool { return b.attributes.given() }, func(b *block) {
		for _, ids := range [...][]numberRange{b.attributes.owner, b.attributes.group} {
			long(e, ids, func(e *encoder, r numberRange) { e.number(r.lo<<32 | r.hi) })
		}
		e.number(b.attributes.mode.all)
		e.number(b.attributes.mode.any)
	})
}

// SetAttributes gives a request the owner, the group and the mode of a file; empty: they are not known.
func SetAttributes(r *abi.Request, text string) error {
	a, ok := abi.ParseAttributes(text)
	if !ok && text != "" {
		return fmt.Errorf("%s is no owner, group and mode: give what stat -c %%u:%%g:0o%%a FILE prints, such as 0:0:0o755", quote(text))
	}
	r.SetAttributes(a)
	return nil
}
