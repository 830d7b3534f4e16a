// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"
)

// An image is a rule set as bytes, for another process of the same program: one that compiles
// large files beside the daemon hands over what it made. It is written and read by the types of
// a RuleSet, so there is no list of fields that could be incomplete, and no version: nobody keeps one.
//
//	value    = flat | text | list | pointer | map | { field }
//	flat     = the bytes in memory, of a type without pointers
//	text     = nil | again | new length { byte }
//	list     = nil | again | new length { value }
//	pointer  = nil | again | new value | local
//	map      = nil | new length { key value }
//
// What is there once stays so: again is the number of one that was new before. Texts of up to
// shortText bytes have none, that would cost more than it saves.
const (
	imageNil = iota
	imageNew
	// imageLocal is time.Local, which is known by its address.
	imageLocal
	imageAgain // and the number, from 0
)

const shortText = 64

var locationType = reflect.TypeFor[*time.Location]()

// WriteImage writes the rule set, for FromImage of the same program. The error is that of w.
func (rs *RuleSet) WriteImage(w io.Writer) error {
	buffer := bufio.NewWriterSize(w, 64<<10)
	i := imageWriter{to: buffer, seen: map[seenAt]uint64{}}
	i.value(ruleSetLayout(), rs.address())
	return buffer.Flush()
}

// FromImage returns the rule set of an image; it keeps nothing of b. It finds out whether b was
// cut or is none at all. Beyond that it believes it: it is for what the same program wrote.
func FromImage(b []byte) (*RuleSet, error) {
	const each = 96 // bytes of an image for one thing that may be there again, about
	r := imageReader{b: b, seen: make([]reflect.Value, 0, len(b)/each)}
	rs := new(RuleSet)
	r.value(ruleSetLayout(), rs.address())
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes are left", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("reading a compiled rule set: %w", r.err)
	}
	return rs, nil
}

var errImageEnd = errors.New("it ends too early")

// layout is a type of what is in a rule set, with what is looked up for each value of it.
type layout struct {
	reflect.Type
	flat   bool // nothing in it is a pointer
	key    *layout
	elem   *layout
	fields []fieldLayout
}

type fieldLayout struct {
	*layout
	offset uintptr
}

var ruleSetLayout = sync.OnceValue(func() *layout { return newLayout(reflect.TypeFor[RuleSet](), map[reflect.Type]*layout{}) })

// newLayout returns the layout of a type; known has those that are there, or on their way: a
// rule set can point to another one.
func newLayout(t reflect.Type, known map[reflect.Type]*layout) *layout {
	l := known[t]
	if l != nil {
		return l
	}
	l = &layout{Type: t, flat: isFlat(t)}
	known[t] = l
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			l.fields = append(l.fields, fieldLayout{newLayout(f.Type, known), f.Offset})
		}
	case reflect.Array, reflect.Slice, reflect.Pointer:
		l.elem = newLayout(t.Elem(), known)
	case reflect.Map:
		l.key, l.elem = newLayout(t.Key(), known), newLayout(t.Elem(), known)
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		panic("BUG: a rule set has a " + t.String() + " in it, which no image can hold")
	}
	return l
}

// isFlat reports whether there is no pointer in the memory of a t.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return isFlat(t.Elem())
	}
	return reflect.Bool <= t.Kind() && t.Kind() <= reflect.Complex128
}

type imageWriter struct {
	to   *bufio.Writer // which keeps its first error
	seen map[seenAt]uint64
}

func (w *imageWriter) number(n uint64) {
	_, _ = w.to.Write(binary.AppendUvarint(w.to.AvailableBuffer(), n))
}

func (w *imageWriter) text(s string) {
	w.number(uint64(len(s)))
	_, _ = w.to.WriteString(s)
}

// again writes what is known of the thing that is at, and reports whether that is all of it.
func (w *imageWriter) again(at seenAt) bool {
	n, ok := w.seen[at]
	if ok {
		w.number(imageAgain + n)
		return true
	}
	w.seen[at] = uint64(len(w.seen))
	w.number(imageNew)
	return false
}

// imageReader reads zero values once it has failed.
type imageReader struct {
	b    []byte
	seen []reflect.Value
	err  error
}

func (r *imageReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *imageReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errImageEnd)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length returns how many things follow, each of which takes size bytes at least.
func (r *imageReader) length(size uintptr) int {
	n := r.number()
	if n > uint64(len(r.b))/uint64(max(size, 1)) {
		r.fail(errImageEnd)
		return 0
	}
	return int(n)
}

// take returns the next n bytes, or none.
func (r *imageReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errImageEnd)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// again returns what was new before, or reports that something new follows; neither is nil.
func (r *imageReader) again(t reflect.Type) (v reflect.Value, isNew bool) {
	switch n := r.number(); {
	case n == imageNil:
	case n == imageNew:
		return reflect.Value{}, true
	case n == imageLocal && t == locationType:
		return reflect.ValueOf(time.Local), false
	case n >= imageAgain && n-imageAgain < uint64(len(r.seen)) && r.seen[n-imageAgain].Type() == t:
		return r.seen[n-imageAgain], false
	default:
		r.fail(fmt.Errorf("a %v that was not there before", t))
	}
	return reflect.Zero(t), false
}
