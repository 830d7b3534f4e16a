// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// jsonItem is one object of a list, with the line where it begins.
type jsonItem struct {
	place
	raw json.RawMessage
}

// text returns the item on one line, as a comment repeats it.
func (i *jsonItem) text() string {
	var b bytes.Buffer
	if json.Compact(&b, i.raw) != nil {
		return string(i.raw)
	}
	return b.String()
}

// jsonList reads a document that is a list, or an object with the list under the key; the other
// keys of the object are returned as they are. ok is false when a problem was reported.
func (im *importer) jsonList(s Source, key string) (items []jsonItem, others map[string]json.RawMessage, ok bool) {
	r := &jsonReader{importer: im, Source: s, d: json.NewDecoder(bytes.NewReader(s.Text)), at: newPositions(s.Text)}
	others = map[string]json.RawMessage{}
	if !utf8.Valid(s.Text) {
		return nil, nil, r.bad("write it in UTF-8", "the file is not UTF-8")
	}
	open, err := r.d.Token()
	switch {
	case err != nil:
		return nil, nil, r.malformed(err)
	case open == json.Delim('['):
		if items, ok = r.items(); !ok {
			return nil, nil, false
		}
	case open == json.Delim('{'):
		seen := false
		for r.d.More() {
			name, err := r.d.Token()
			if err != nil {
				return nil, nil, r.malformed(err)
			}
			// An object's keys are texts.
			if name := name.(string); name != key {
				var raw json.RawMessage
				if err := r.d.Decode(&raw); err != nil {
					return nil, nil, r.malformed(err)
				}
				if others[name] != nil {
					return nil, nil, r.bad("keep one of them", "the key %s is there twice", quote(name))
				}
				others[name] = raw
				continue
			}
			open, err := r.d.Token()
			if err != nil {
				return nil, nil, r.malformed(err)
			}
			if seen || open != json.Delim('[') {
				return nil, nil, r.bad(fmt.Sprintf("write %q: [...] once", key), "%s is not one list", key)
			}
			seen = true
			if items, ok = r.items(); !ok {
				return nil, nil, false
			}
		}
		if _, err := r.d.Token(); err != nil { // the }
			return nil, nil, r.malformed(err)
		}
		if !seen {
			return nil, nil, r.bad(fmt.Sprintf("write {%q: [...]}", key), "there is no list %s in the file", key)
		}
	default:
		return nil, nil, r.bad(fmt.Sprintf("write {%q: [...]}", key), "the file is no list and no object")
	}
	if _, err := r.d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, r.bad("put every document in a file of its own", "there is something behind the end of the document")
	}
	return items, others, true
}

// jsonReader reads one document.
type jsonReader struct {
	*importer
	Source
	d  *json.Decoder
	at *positions
}

// items reads objects up to the end of the list.
func (r *jsonReader) items() ([]jsonItem, bool) {
	var items []jsonItem
	for r.d.More() {
		var raw json.RawMessage
		if err := r.d.Decode(&raw); err != nil {
			return nil, r.malformed(err)
		}
		line, column := r.at.of(int(r.d.InputOffset()) - len(raw))
		if raw[0] != '{' {
			r.problem(r.Name, line, column, "write each entry as {...}", "an entry of the list is no object")
			return nil, false
		}
		items = append(items, jsonItem{place{r.Name, line}, raw})
	}
	if _, err := r.d.Token(); err != nil { // the ]
		return nil, r.malformed(err)
	}
	return items, true
}

// bad reports a problem where the decoder is; it returns false.
func (r *jsonReader) bad(hint, message string, args ...any) bool {
	line, column := r.at.of(int(r.d.InputOffset()))
	r.problem(r.Name, line, column, hint, message, args...)
	return false
}

// malformed reports what is no JSON; it returns false.
func (r *jsonReader) malformed(err error) bool {
	offset := r.d.InputOffset()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = max(offset, syntax.Offset-1)
	}
	line, column := r.at.of(int(offset))
	what := strings.TrimPrefix(err.Error(), "json: ")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		what = "it ends too early"
	}
	r.problem(r.Name, line, column, "repair it here; every { [ and \" needs its end, and the last entry no comma", "not JSON: %s", bare(what))
	return false
}

// fields reads an object whose values are texts, its keys in lower case. Values that are no texts,
// and keys that are there twice, are reported; ok is false then.
func (im *importer) fields(i jsonItem) (fields map[string]string, ok bool) {
	d := json.NewDecoder(bytes.NewReader(i.raw))
	d.UseNumber()
	fields = map[string]string{}
	_, _ = d.Token() // the {, as items saw
	for d.More() {
		key, err := d.Token()
		if err != nil {
			break
		}
		name := strings.ToLower(key.(string))
		var value any
		if d.Decode(&value) != nil {
			break
		}
		_, twice := fields[name]
		switch v := value.(type) {
		case string:
			fields[name] = v
		case nil:
			fields[name] = ""
		case json.Number:
			fields[name] = v.String()
		default:
			im.problem(i.file, i.line, 1, "write it as a text", "the value of %s is no text", quote(name))
			return nil, false
		}
		if twice {
			im.problem(i.file, i.line, 1, "keep one of them", "the key %s is there twice", quote(name))
			return nil, false
		}
	}
	return fields, true
}
