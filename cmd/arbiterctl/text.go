// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/audit"
)

// timeLayout is RFC 3339 with milliseconds, always UTC and so always as wide.
const timeLayout = "2006-01-02T15:04:05.000Z"

func texts(values [][]byte) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// safe makes a text of ours fit for a terminal: its lines stay, and what does not
// print is escaped. What is foreign in it was quoted before, backslashes and all,
// so they are left alone.
func safe(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		line, end := strings.CutSuffix(line, "\n")
		for i, part := range strings.Split(line, `\`) {
			if i > 0 {
				out.WriteByte('\\')
			}
			out.WriteString(audit.Quote(part))
		}
		if end {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// prefixed returns text with the prefix before each of its lines.
func prefixed(prefix, text string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+prefix) + "\n"
}

// quoteArg quotes an argument as the user gave it.
func quoteArg(s string) string { return `"` + audit.Quote(s) + `"` }

// table collects rows of cells, each already quoted, and aligns them.
type table struct {
	b bytes.Buffer
	w *tabwriter.Writer
}

func newTable(head ...string) *table {
	t := &table{}
	t.w = tabwriter.NewWriter(&t.b, 0, 0, 2, ' ', 0)
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// text returns the table without blanks at the ends of lines.
func (t *table) text() string {
	t.w.Flush() // into a buffer: cannot fail
	var out strings.Builder
	for line := range strings.Lines(t.b.String()) {
		out.WriteString(strings.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	return out.String()
}

// print writes text to stdout.
func (a *app) print(text string) error {
	if _, err := fmt.Fprint(a.stdout, text); err != nil {
		return fail(exitFailure, "", fmt.Errorf("writing the output: %w", err))
	}
	return nil
}

// printJSON writes v as indented JSON in which everything that does not print is
// an escape.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fail(exitFailure, "", fmt.Errorf("encoding the output: %w", err))
	}
	return a.print(escapeJSON(b.String()))
}

// escapeJSON escapes what encoding/json leaves raw in strings: DEL, C1 controls,
// direction overrides and the like. Outside of strings there is none of it.
func escapeJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r) || r == '\n':
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\u%04x\u%04x`, (r-0x10000)>>10|0xd800, (r-0x10000)&0x3ff|0xdc00)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// jsonOf turns a message into what encoding/json writes well: field names as in
// the .proto file, numbers as numbers, 64-bit fingerprints as 16 hexadecimal
// digits, times in RFC 3339, durations in nanoseconds under a name with _ns, and
// bytes as text, with a second field _b64 when they are not UTF-8. (In a list the
// text has to do: the only lists of bytes are a scope's, from a rule file, which
// is UTF-8.)
func jsonOf(m proto.Message) map[string]any {
	out := map[string]any{}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		if !r.Has(f) && (f.HasPresence() || f.ContainingOneof() != nil) {
			continue
		}
		v := r.Get(f)
		switch {
		case f.IsList():
			list := []any{}
			for j := range v.List().Len() {
				put(map[string]any{}, "", f, v.List().Get(j), func(x any) { list = append(list, x) })
			}
			out[name] = list
		case f.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				put(entries, k.String(), f.MapValue(), v, nil)
				return true
			})
			out[name] = entries
		default:
			put(out, name, f, v, nil)
		}
	}
	return out
}

// put stores one value under name, or hands it to one when that is given.
func put(out map[string]any, name string, f protoreflect.FieldDescriptor, v protoreflect.Value, one func(any)) {
	var x any
	switch f.Kind() {
	case protoreflect.Fixed64Kind:
		x = fingerprint(v.Uint())
	case protoreflect.BytesKind:
		x = string(v.Bytes())
		if !utf8.Valid(v.Bytes()) {
			x = audit.Quote(v.Bytes())
			out[name+"_b64"] = base64.StdEncoding.EncodeToString(v.Bytes())
		}
	case protoreflect.MessageKind:
		switch m := v.Message().Interface().(type) {
		case *timestamppb.Timestamp:
			x = m.AsTime().UTC().Format(time.RFC3339Nano)
		case *durationpb.Duration:
			name, x = name+"_ns", int64(m.AsDuration())
		default:
			x = jsonOf(m)
		}
	default:
		x = v.Interface()
	}
	if one != nil {
		one(x)
		return
	}
	out[name] = x
}

// fingerprint writes a rule set's fingerprint as everything else does.
func fingerprint(f uint64) string { return fmt.Sprintf("%016x", f) }

// plural returns "1 rule" or "2 rules".
func plural[N ~int | ~uint32 | ~uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
