// SPDX-License-Identifier: Apache-2.0

package importer

import "strings"

// node is a piece of the rule file: a list, a mapping, or a text that is YAML already.
type node struct {
	text string
	list []node
	keys []entry
}

type entry struct {
	key   string
	value node
}

// with returns the mapping n with one key more, unless the value is empty.
func (n node) with(key string, value node) node {
	if value.text != "" || len(value.list)+len(value.keys) > 0 {
		n.keys = append(n.keys, entry{key, value})
	}
	return n
}

// list makes a list of values.
func list[T any](values []T, write func(T) node) node {
	var n node
	for _, v := range values {
		n.list = append(n.list, write(v))
	}
	return n
}

// anyOf is list, or the value alone when there is one.
func anyOf[T any](values []T, write func(T) node) node {
	if len(values) == 1 {
		return write(values[0])
	}
	return list(values, write)
}

func word(s string) node   { return node{text: s} }
func quoted(s string) node { return node{text: scalar(s)} }
func number(s span) node   { return node{text: s.String()} }

// flow returns the node on one line.
func (n node) flow() string {
	if n.text != "" {
		return n.text
	}
	var parts []string
	for _, e := range n.keys {
		parts = append(parts, e.key+": "+e.value.flow())
	}
	if len(n.keys) > 0 {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	for _, v := range n.list {
		parts = append(parts, v.flow())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// size is at least half as long as flow, and costs little for what is far too long for a line.
func (n node) size() int {
	const enough = 1000
	size := len(n.text)
	for _, e := range n.keys {
		if size += len(e.key) + e.value.size(); size > enough {
			break
		}
	}
	for _, v := range n.list {
		if size += v.size(); size > enough {
			break
		}
	}
	return size
}

// lines writes the keys of a mapping, each with its value on its line if that fits.
func (n node) lines(b *strings.Builder, indent string) {
	const columns = 160
	for _, e := range n.keys {
		b.WriteString(indent + e.key + ":")
		if e.value.size() < columns {
			if flow := e.value.flow(); e.value.text != "" || len(indent)+len(e.key)+len(flow) < columns {
				b.WriteString(" " + flow + "\n")
				continue
			}
		}
		switch {
		case e.value.text != "":
			b.WriteString(" " + e.value.text + "\n")
		case len(e.value.keys) > 0:
			b.WriteByte('\n')
			e.value.lines(b, indent+"  ")
		default:
			b.WriteByte('\n')
			for _, v := range e.value.list {
				b.WriteString(indent + "  - " + v.flow() + "\n")
			}
		}
	}
}
