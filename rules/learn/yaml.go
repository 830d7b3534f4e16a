// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// writer writes a rule file. All texts go through scalar, all comments through comment:
// nothing foreign reaches the file raw.
type writer struct{ bytes.Buffer }

// comment writes a comment line. The text is ours; what is foreign in it was made
// printable before.
func (w *writer) comment(indent, format string, args ...any) {
	fmt.Fprintf(w, "%s# %s\n", indent, printable(fmt.Sprintf(format, args...)))
}

// write returns the file.
func (opt *Options) write(shapes []*shape, ids []string) []byte {
	w := &writer{}
	for _, line := range opt.Header {
		w.comment("", "%s", line)
	}
	w.comment("", "%s", opt.Level.says())
	fmt.Fprintf(w, "version: 1\ndefault: %v\nscope:\n  paths:\n", opt.Default)
	for _, path := range opt.Scope {
		fmt.Fprintf(w, "    - %s\n", literal(path).yaml())
	}
	fmt.Fprintf(w, "events: [%s]\n", strings.Join(opt.names(), ", "))
	unwatched := opt.unwatched()
	if len(shapes)+len(unwatched) == 0 {
		return w.Bytes()
	}
	w.WriteString("rules:\n")
	for i, s := range shapes {
		w.rule(s, ids[i])
	}
	if len(unwatched) > 0 {
		w.comment("  ", "The default would be applied to these too; they were not watched, so they go on.")
		fmt.Fprintf(w, "  - {id: not-watched, events: [%s], verdict: allow}\n", strings.Join(unwatched, ", "))
	}
	return w.Bytes()
}

// names returns the names of the events that were watched, sorted.
func (opt *Options) names() []string {
	var out set
	for _, e := range opt.Events {
		out = append(out, e.String())
	}
	return union(out, nil)
}

// unwatched are events that a default which is not allow is applied to in any case.
func (opt *Options) unwatched() (names []string) {
	for _, e := range []abi.Event{abi.EventExec, abi.EventOpen} {
		if !slices.Contains(opt.Events, e) {
			names = append(names, e.String())
		}
	}
	return names
}

// rule writes one rule with its price in front.
func (w *writer) rule(s *shape, id string) {
	w.comment("  ", "%s observed", plural(s.count, "request"))
	if len(s.sets[exes]) == 0 {
		w.comment("  ", "how it was started: allowed to whoever starts it")
	}
	for _, p := range s.prices {
		fmt.Fprintf(w, "  # %s\n", p) // fit for a terminal, so for a comment
	}
	e, _ := abi.ParseEvent(s.sets[events][0])
	ev := catalogue.Of(e)
	fmt.Fprintf(w, "  - id: %s\n    events: [%s]\n", id, strings.Join(s.sets[events], ", "))
	if list := s.sets[objects]; len(list) > 0 {
		w.WriteString("    object:\n      path:\n")
		w.patterns("        ", list)
	}
	if list := s.sets[details]; len(list) > 0 {
		w.WriteString("    detail:\n")
		w.patterns("      ", list)
	}
	w.args(s, ev)
	w.subject(s)
	w.not(s, ev)
	w.WriteString("    verdict: allow\n")
}

func (w *writer) patterns(indent string, list set) {
	for _, text := range list {
		fmt.Fprintf(w, "%s- %s\n", indent, decodePattern(text).yaml())
	}
}

func (w *writer) args(s *shape, ev *catalogue.Event) {
	var parts []string
	for i, list := range s.sets[args:] {
		if len(list) == 0 {
			continue
		}
		name := ev.Args[i].Name
		if name == "addr_high" {
			name = addrArg
		}
		values := slices.Clone(list)
		for j, v := range values {
			if strings.Contains(v, ":") { // IPv6
				values[j] = scalar(v)
			}
		}
		parts = append(parts, fmt.Sprintf("%s: [%s]", name, strings.Join(values, ", ")))
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "    args: {%s}\n", strings.Join(parts, ", "))
	}
}

func (w *writer) subject(s *shape) {
	if len(s.sets[exes])+len(s.sets[uids])+len(s.sets[gids]) == 0 {
		return
	}
	w.WriteString("    subject:\n")
	if list := s.sets[exes]; len(list) > 0 {
		w.WriteString("      exe:\n")
		for _, exe := range list {
			fmt.Fprintf(w, "        - %s\n", literal(exe).yaml())
		}
	}
	for _, id := range []struct {
		name string
		list set
	}{{"uid", s.sets[uids]}, {"gid", s.sets[gids]}} {
		if len(id.list) > 0 {
			fmt.Fprintf(w, "      %s: [%s]\n", id.name, strings.Join(id.list, ", "))
		}
	}
}

// not leaves out what a list cannot: access matches any of its words, so that an open for
// reading alone is one without the others; and what has no path or no detail is known by
// that no pattern matches it.
func (w *writer) not(s *shape, ev *catalogue.Event) {
	switch {
	case ev.Access && s.access != everyAccess:
		var words []string
		for _, name := range []string{"read", "write", "append", "truncate", "create"} {
			if bit, _ := rules.ParseAccess(name); s.access&bit == 0 {
				words = append(words, name)
			}
		}
		fmt.Fprintf(w, "    not: {access: [%s]}\n", strings.Join(words, ", "))
	case ev.Detail != "" && len(s.sets[details]) == 0:
		w.WriteString("    not: {detail: {glob: \"?**\"}}\n")
	case ev.Object != "" && len(s.sets[objects]) == 0:
		// Of sockets only those of the family unix have such names.
		switch at := ev.Arg("family"); {
		case at < 0:
			w.WriteString("    not: {object: {path: {prefix: /}}}\n")
		case slices.Contains(s.sets[args+at], rules.ArgText(ev.Event, "family", familyUnix)):
			w.WriteString("    not: {object: {path: [{prefix: /}, {glob: \"@**\"}]}}\n")
		}
	}
}

const familyUnix = 1 // AF_UNIX

// yaml writes the pattern as rules read it.
func (p pattern) yaml() string {
	switch {
	case p.form == isPrefix:
		return "{prefix: " + scalar(p.text) + "}"
	case p.form == isGlob:
		return "{glob: " + scalar(p.text) + "}"
	case strings.ContainsAny(p.text, "*?[]{}"):
		return "{literal: " + scalar(p.text) + "}"
	}
	return scalar(p.text)
}

// scalar writes any bytes: in double quotes what is text, in base64 what is not.
func scalar(s string) string {
	if !utf8.ValidString(s) {
		return "!!binary " + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return `"` + escape(s, `"`) + `"`
}

// printable returns a text for a comment or a person: what does not print is an escape.
func printable(s string) string { return escape(s, "") }

// escape writes the backslash, the characters in also, and what does not print as escapes
// that YAML knows in double quotes. A byte that is no text is one, too.
func escape(s, also string) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\\' || strings.ContainsRune(also, r):
			b.WriteString(`\` + string(r))
		case r == utf8.RuneError && n == 1, r < utf8.RuneSelf && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// String says what the generalisation costs, in one line that is fit for a terminal.
func (p Price) String() string {
	least := ""
	if p.AtLeast {
		least = "at least "
	}
	return printable(fmt.Sprintf("allows %d observed + %s%d unobserved %s: %s", p.Observed, least, p.Unobserved, p.Of, p.Pattern))
}

func plural(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
