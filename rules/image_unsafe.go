// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"reflect"
	"time"
	"unsafe"
)

// Package reflect writes no field that has a small letter, so both sides go by addresses. Each
// is that of a value of the layout beside it, in memory that was made for it, and what has
// pointers in it is written by assignments, which the garbage collector knows of.

// seenAt is where something is that may be there again.
type seenAt struct {
	at unsafe.Pointer
	n  int
	l  *layout
}

func (rs *RuleSet) address() unsafe.Pointer { return unsafe.Pointer(rs) }

// memory returns the bytes of n values.
func (l *layout) memory(p unsafe.Pointer, n int) []byte {
	return unsafe.Slice((*byte)(p), uintptr(n)*l.Size())
}

// value writes what is at p.
func (w *imageWriter) value(l *layout, p unsafe.Pointer) {
	if l.flat {
		_, _ = w.to.Write(l.memory(p, 1))
		return
	}
	switch l.Kind() {
	case reflect.String:
		if s := *(*string)(p); s == "" {
			w.number(imageNil)
		} else if len(s) <= shortText {
			w.number(imageNew)
			w.text(s)
		} else if !w.again(seenAt{unsafe.Pointer(unsafe.StringData(s)), len(s), l}) {
			w.text(s)
		}
	case reflect.Slice:
		v := reflect.NewAt(l.Type, p).Elem()
		if v.IsNil() {
			w.number(imageNil)
		} else if n := v.Len(); !w.again(seenAt{v.UnsafePointer(), n, l}) {
			w.number(uint64(n))
			w.values(l.elem, v.UnsafePointer(), n)
		}
	case reflect.Pointer:
		if to := *(*unsafe.Pointer)(p); to == nil {
			w.number(imageNil)
		} else if l.Type == locationType && (*time.Location)(to) == time.Local {
			w.number(imageLocal)
		} else if !w.again(seenAt{to, 0, l}) {
			w.value(l.elem, to)
		}
	case reflect.Map:
		v := reflect.NewAt(l.Type, p).Elem()
		if v.IsNil() {
			w.number(imageNil)
			return
		}
		w.number(imageNew)
		w.number(uint64(v.Len()))
		key, of := reflect.New(l.key.Type), reflect.New(l.elem.Type)
		for each := v.MapRange(); each.Next(); {
			key.Elem().SetIterKey(each)
			of.Elem().SetIterValue(each)
			w.value(l.key, key.UnsafePointer())
			w.value(l.elem, of.UnsafePointer())
		}
	case reflect.Array:
		w.values(l.elem, p, l.Len())
	case reflect.Struct:
		for _, f := range l.fields {
			w.value(f.layout, unsafe.Add(p, f.offset))
		}
	}
}

// values writes n values from p on.
func (w *imageWriter) values(l *layout, p unsafe.Pointer, n int) {
	if l.flat {
		_, _ = w.to.Write(l.memory(p, n))
		return
	}
	for i := range n {
		w.value(l, unsafe.Add(p, uintptr(i)*l.Size()))
	}
}

// value reads what is to be at p, where the zero value is.
func (r *imageReader) value(l *layout, p unsafe.Pointer) {
	if l.flat {
		r.values(l, p, 1)
		return
	}
	switch l.Kind() {
	case reflect.String, reflect.Slice, reflect.Pointer:
		v, isNew := r.again(l.Type)
		if isNew {
			v = r.made(l)
		}
		reflect.NewAt(l.Type, p).Elem().Set(v)
	case reflect.Map:
		if r.number() == imageNil {
			return
		}
		m := reflect.MakeMap(l.Type)
		for range r.length(1) {
			key, of := reflect.New(l.key.Type), reflect.New(l.elem.Type)
			r.value(l.key, key.UnsafePointer())
			r.value(l.elem, of.UnsafePointer())
			m.SetMapIndex(key.Elem(), of.Elem())
		}
		reflect.NewAt(l.Type, p).Elem().Set(m)
	case reflect.Array:
		r.values(l.elem, p, l.Len())
	case reflect.Struct:
		for _, f := range l.fields {
			r.value(f.layout, unsafe.Add(p, f.offset))
		}
	}
}

// made reads a text, a list or what a pointer points to, which is there for the first time. It
// gets its number before what is in it.
func (r *imageReader) made(l *layout) (v reflect.Value) {
	switch l.Kind() {
	case reflect.String:
		v = reflect.ValueOf(string(r.take(r.length(1)))).Convert(l.Type)
		if v.Len() > shortText {
			r.seen = append(r.seen, v)
		}
	case reflect.Slice:
		size := uintptr(1)
		if l.elem.flat {
			size = l.elem.Size()
		}
		n := r.length(size)
		v = reflect.MakeSlice(l.Type, n, n)
		r.seen = append(r.seen, v)
		r.values(l.elem, v.UnsafePointer(), n)
	case reflect.Pointer:
		v = reflect.New(l.elem.Type).Convert(l.Type)
		r.seen = append(r.seen, v)
		r.value(l.elem, v.UnsafePointer())
	}
	return v
}

// values reads n values, from p on.
func (r *imageReader) values(l *layout, p unsafe.Pointer, n int) {
	if l.flat {
		const most = 64 << 10 // a copy is not preempted: whoever stops the world waits for its end
		for memory := l.memory(p, n); len(memory) > 0; {
			piece := min(len(memory), most)
			copy(memory, r.take(piece))
			memory = memory[piece:]
		}
		return
	}
	for i := range n {
		r.value(l, unsafe.Add(p, uintptr(i)*l.Size()))
	}
}
