// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// sameNodes says where two trees differ, in what rules are read from.
func sameNodes(got, want *yaml.Node) string {
	if got.Kind != want.Kind || got.Style != want.Style || got.ShortTag() != want.ShortTag() || got.Value != want.Value ||
		got.Line != want.Line || got.Column != want.Column || len(got.Content) != len(want.Content) {
		return fmt.Sprintf("got %+v %s, want %+v %s", *got, got.ShortTag(), *want, want.ShortTag())
	}
	for i := range got.Content {
		if s := sameNodes(got.Content[i], want.Content[i]); s != "" {
			return s
		}
	}
	return ""
}

// readSimple reports whether src is simple; if it is, it must be what all of YAML has it for.
func readSimple(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *simple, src string) bool {
	t.Helper()
	got := s.read(src, 1)
	if got == nil {
		return false
	}
	p := newParser(current, "f.yaml")
	want := p.document([]byte(src))
	if want == nil || len(p.problems) > 0 {
		t.Fatalf("read %q, which is not YAML: %v", src, p.problems)
	}
	if s := sameNodes(got, want); s != "" {
		t.Fatalf("%s\n%q", s, src)
	}
	return true
}

func TestSimple(t *testing.T) {
	var s simple // one for all: nothing is left over
	f := func(name, src string, want bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := readSimple(t, &s, src); got != want {
				t.Errorf("read: %v, want %v\n%s", got, want, src)
			}
		})
	}
	f("flow", "- {id: a, events: [open, exec], object: {path: {prefix: /srv/}}, verdict: {deny: EPERM}}\n- {}\n- []\n", true)
	f("block", "- id: a\n  events:\n  - open\n  - exec\n  object:\n    path:\n      - '/x y*'\n      - \"/z: #\"\n  verdict: deny\n- id: b\n", true)
	f("indented", "   - id: a\n     events: [ open ,exec ]\n   - { id: b }\n", true)
	f("a dash alone", "-\n  id: a\n-   id: b\n    events: open\n- - x\n", false)
	f("a dash, a mapping below", "-\n  id: a\n-   id: b\n    events: open\n", true)
	f("a list in a list, below", "-\n  - x\n  - y\n", true)
	f("comments", "# x\n- id: a # y: z\n  # '\n  events: [open]   # [\n\n   # deeper\n- {id: b} #\n#", true)
	f("comments where a value was expected", "- # x\n  a: b\n- a: # y\n    b: c\n  d: #\n  - e\n", true)
	f("a sign where a value was expected", "-#\n- a\n", false)
	f("numbers and the like", "- 1\n- 1000-1999\n- 0x1f\n- true\n- null\n- 1.5\n- 2001-01-01\n- 10.0.0.0/8\n- .5\n- y\n- falser\n- 0\n- 012\n- 1-2-3\n- 9999999999999999999\n- 18446744073709551616\n- 1_0\n- 1-\n- '1'\n- \"true\"\n- ''\n", true)
	f("colons and signs", "- a:b\n- a#b\n- [2001:db8::1, a::b, x#y]\n- /x?[ab]{1,2}\n- a - b\n- {k: a:b}\n- a,b\n- what's \"this\"\n", true)
	f("spaces behind it", "- id: a   \n  events:   \n    open: x\n- {a: b}  \n", true)
	f("spaces in it", "- a  b\n- [a  b , c]\n- {k: a b }\n- 'a '\n", true)
	f("no break at the end", "- a", true)
	f("deep", strings.Repeat("- [", 1)+strings.Repeat("[", 20)+strings.Repeat("]", 21)+"\n", true)

	f("nothing", "", false)
	f("a scalar", "a\n", false)
	f("a mapping", "a: b\n", false)
	f("no value", "- id:\n  events: x\n", false)
	f("an empty entry", "-\n- a\n", false)
	f("a tab", "- a\tb\n", false)
	f("a tab before it", "\t- a\n", false)
	f("a carriage return", "- a\r\n", false)
	f("not ASCII", "- ä\n", false)
	f("not ASCII in quotes", "- 'ä'\n", false)
	f("an escape", `- "a\n"`, false)
	f("a quote in quotes", "- 'a''b'\n", false)
	f("a quote over two lines", "- 'a\n  b'\n", false)
	f("a scalar over two lines", "- a\n  b\n", false)
	f("a value over two lines", "- k: a\n    b\n", false)
	f("a flow over two lines", "- [a,\n  b]\n", false)
	f("a literal", "- |\n  a\n", false)
	f("an anchor", "- &a b\n", false)
	f("an alias", "- *a\n", false)
	f("a tag", "- !!str a\n", false)
	f("a merge", "- <<: a\n", false)
	f("a pair in a list", "- [a: b]\n", false)
	f("a comma at the end", "- [a, ]\n", false)
	f("no space behind a colon", "- {a:b}\n", false)
	f("a key in quotes", "- {'a': b}\n- \"a\": b\n", false)
	f("a question", "- [a?b]\n", false)
	f("a colon at an end", "- [a:]\n", false)
	f("a colon before a comma", "- [a:,b]\n", false)
	f("two colons", "- a: b: c\n", false)
	f("text behind quotes", "- 'a' b\n", false)
	f("a comment in a flow", "- [a #b]\n", false)
	f("text behind a flow", "- [a] b\n", false)
	f("a wrong indentation", "- a: b\n   c: d\n", false)
	f("a wrong step back", "-   a: b\n  c: d\n", false)
	f("a second document", "- a\n--- \n- b\n", false)
	f("an end", "- a\n...\n", false)
	f("a directive", "%YAML 1.2\n- a\n", false)
	f("too deep", "- "+strings.Repeat("[", 40)+strings.Repeat("]", 40)+"\n", false)
	f("a key that is too long", "- "+strings.Repeat("a", 200)+": b\n", false)
}

func TestSimpleIsYAML(t *testing.T) {
	var s simple
	read := 0
	rapid.Check(t, func(t *rapid.T) {
		_, list, ok := strings.Cut(genFile(t), "rules:\n")
		if ok && readSimple(t, &s, list) {
			read++
		}
	})
	if read == 0 {
		t.Error("nothing was ever simple")
	}
}

// FuzzSimple: what is simple is what all of YAML has it for.
func FuzzSimple(f *testing.F) {
	f.Add("- {id: a, events: [open, exec], object: {path: {prefix: /srv/}}, verdict: {deny: EPERM}}\n- {}\n- []\n")
	f.Add("# x\n- id: a # y: z\n  # '\n  events: [open]   # [\n\n   # deeper\n- {id: b} #\n#")
	f.Add("-\n  - x\n  - y: 'a'\n    z:\n    - \"b\"\n- a:b\n- [2001:db8::1, a::b, x#y]\n- 1.5\n")
	f.Add("- a # \u0080\n- # \uffff\n  a: b\n")
	f.Fuzz(func(t *testing.T, src string) {
		if _, bad := firstBadByte([]byte(src)); bad != "" || oddBreaks([]byte(src)) {
			return // no part is like that
		}
		readSimple(t, new(simple), src)
	})
}
