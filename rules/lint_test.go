// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"pgregory.net/rapid"
)

// A machine where /bin leads to /usr/bin, sh to dash, and nothing else is a link.
func resolveFake(p string) (string, error) {
	if p == "/bin" || strings.HasPrefix(p, "/bin/") {
		p = "/usr" + p
	}
	switch {
	case p == "/usr/bin/sh":
		return "/usr/bin/dash", nil
	case strings.HasPrefix(p, "/gone"):
		return "", errors.New("not there")
	}
	return p, nil
}

func TestLint(t *testing.T) {
	for _, tc := range []struct {
		rules string
		want  string // of each finding, what it says somewhere; ";" between them
	}{
		{"{id: a, events: [open], object: {path: /a/**}, verdict: deny}|{id: b, events: [open], object: {path: /a/b}, verdict: allow}", "rule b: the rule never decides: rule a on line 5"},
		{"{id: a, events: [open], object: {path: /a/b}, verdict: deny}|{id: b, events: [open], object: {path: /a/**}, verdict: allow}", ""},
		{"{id: a, events: [open], verdict: deny}|{id: b, events: [open], object: {path: '/x/*'}, verdict: allow}", "rule b: the rule never decides"},
		{"{id: a, events: [open], verdict: deny}|{id: b, events: [open, exec], object: {path: /x}, verdict: allow}", ""},
		{"{id: a, events: [open], verdict: deny}|{id: c, events: [exec], verdict: deny}|{id: b, events: [open, exec], object: {path: /x}, verdict: allow}", "rule b: the rule never decides: rules a on line 5 and c on line 6 together match all"},
		{"{id: a, events: [open], subject: {uid: 0-999}, verdict: deny}|{id: b, events: [open], subject: {uid: [5, 7-9], exe: /x}, verdict: allow}", "rule b"},
		{"{id: a, events: [open], subject: {uid: 0-8}, verdict: deny}|{id: b, events: [open], subject: {uid: [5, 7-9]}, verdict: allow}", ""},
		{"{id: a, events: [open], subject: {uid: 0}, not: {object: {path: /a}}, verdict: deny}|{id: b, events: [open], subject: {uid: 0}, verdict: allow}", ""},
		{"{id: a, events: [open], not: {object: {path: /a}}, verdict: deny}|{id: b, events: [open], not: {object: {path: [/a, /b]}}, verdict: allow}", "rule b"},
		{"{id: a, events: [open], access: [read, write], verdict: deny}|{id: b, events: [open], access: write, verdict: allow}", "rule b"},
		{"{id: a, events: [open], access: write, verdict: deny}|{id: b, events: [open], access: [read, write], verdict: allow}", ""},
		{"{id: a, events: [connect], args: {addr: 10.0.0.0/8}, verdict: deny}|{id: b, events: [connect], args: {addr: 10.1.0.0/16, port: 80}, verdict: allow}", "rule b"},
		{"{id: a, events: [connect], args: {addr: 10.1.0.0/16}, verdict: deny}|{id: b, events: [connect], args: {addr: 10.0.0.0/8}, verdict: allow}", ""},
		{"{id: a, events: [connect], args: {port: 1-100}, verdict: deny}|{id: b, events: [connect], args: {port: [80, 90]}, verdict: allow}", "rule b"},
		{"{id: a, events: [open], object: {path: '/a/*.so'}, verdict: deny}|{id: b, events: [open], object: {path: ['/a/*.so', /a/x.so]}, verdict: allow}", "rule b"},
		{"{id: a, events: [open], subject: {cgroup: [/a, /bcd]}, verdict: deny}|{id: b, events: [open], subject: {cgroup: /a}, verdict: allow}", "rule b"},
		{"{id: a, events: [open], subject: {process_tree: [/p, /q]}, verdict: deny}|{id: b, events: [open], subject: {process_tree: /q}, verdict: allow}", "rule b: the rule never decides"},
		{"{id: a, events: [open], subject: {process_tree: /q}, verdict: deny}|{id: b, events: [open], subject: {process_tree: [/p, /q]}, verdict: allow}", ""},
		{"{id: a, events: [open], subject: {process_tree: /q}, verdict: deny}|{id: b, events: [open], object: {path: /x}, verdict: allow}", ""},
		{"{id: a, events: [open], subject: {process_tree: /p}, not: {subject: {process_tree: [/p, /q]}}, verdict: deny}", "rule a: the rule never decides: its not"},
		{"{id: a, events: [open], not: {subject: {process_tree: /p}}, verdict: deny}|{id: b, events: [open], not: {subject: {process_tree: [/p, /q]}}, verdict: allow}", "rule b: the rule never decides"},

		// Contradictions: the same conditions, and something else.
		{"{id: a, events: [open], object: {path: /x}, verdict: allow}|{id: b, events: [open], object: {path: /x}, verdict: deny}", "rule b: the rule never decides: it refuses what rule a on line 5 allows, and that one has the same conditions and stands before it; say which is meant"},
		{"{id: a, events: [open], object: {path: /x}, verdict: {deny: EIO}}|{id: b, events: [open], object: {path: /x}, verdict: audit}", "it allows and records what rule a on line 5 refuses with EIO"},
		{"{id: a, events: [open], object: {path: /x}, verdict: deny}|{id: b, events: [open], object: {path: /x}, verdict: {allow: [read]}}", "it allows for read what rule a on line 5 refuses"},
		{"{id: a, events: [open], object: {path: /x}, verdict: deny}|{id: b, events: [open], object: {path: /x}, verdict: deny}", "rule b: the rule never decides: rule a on line 5 matches all"},
		{"{id: a, events: [open], verdict: deny}|{id: b, events: [open, exec], verdict: allow}", "rule b: of open the rule never decides: it allows what rule a on line 5 refuses"},
		{"{id: a, events: [open, exec], subject: {uid: 1-2}, verdict: deny}|{id: b, events: [exec, unlink], subject: {uid: [1, 2]}, verdict: kill}", "rule b: of exec the rule never decides: it kills for what"},
		{"{id: a, events: [open], verdict: deny}|{id: b, events: [open, exec], verdict: deny}", ""},
		{"{id: a, events: [open], subject: {uid: 1-3}, verdict: deny}|{id: b, events: [open, exec], subject: {uid: 1}, verdict: allow}", ""},

		// A rule that does not always count leaves the rest of the time to others.
		{"{id: a, events: [open], times: {days: mon-fri}, verdict: deny}|{id: b, events: [open], object: {path: /x}, verdict: allow}", ""},
		{"{id: a, events: [open], expires: 2100-01-01T00:00:00Z, verdict: deny}|{id: b, events: [open], verdict: allow}", ""},
		{"{id: a, events: [open], verdict: deny}|{id: b, events: [open], times: {days: mon-fri}, verdict: allow}", "rule a on line 5 matches all that it does"},

		// The not block of the rule itself.
		{"{id: a, events: [open], object: {path: /x/y}, not: {object: {path: {prefix: /x}}}, verdict: deny}", "rule a: the rule never decides: its not block holds whenever the rest of it does; narrow the not block"},
		{"{id: a, events: [open], object: {path: /x/y}, not: {object: {path: {prefix: /x}}, subject: {uid: 0}}, verdict: deny}", ""},
		{"{id: a, events: [open], object: {path: /x/y}, subject: {uid: 0}, not: {object: {path: '/x/**'}, subject: {uid: 0-9}}, verdict: deny}", "rule a: the rule never decides: its not"},
		{"{id: a, events: [open], subject: {uid: 0-9}, not: {subject: {uid: 1-8}}, verdict: deny}", ""},
		{"{id: a, events: [connect], args: {port: 80}, not: {args: {port: 1-100}}, verdict: deny}", "rule a: the rule never decides: its not"},
		{"{id: a, events: [open], access: write, not: {access: [write, read]}, verdict: deny}", "rule a: the rule never decides: its not"},
		{"{id: a, events: [open], access: [write, read], not: {access: write}, verdict: deny}", ""},
		{"{id: a, events: [open], object: {path: [/a/b, /c]}, not: {object: {path: {prefix: /a}}}, verdict: deny}", "rule a: object.path literal /a/b matches nothing: the not block takes out all that it matches; take one"},
		{"{id: a, events: [open], subject: {exe: ['/a/*.x', /c]}, not: {subject: {exe: {prefix: /a}}}, verdict: deny}", "rule a: subject.exe glob /a/*.x matches nothing"},
		{"{id: a, events: [open], object: {path: [/a/b, /c]}, not: {object: {path: {prefix: /a}}, subject: {uid: 0}}, verdict: deny}", ""},

		{"{id: a, events: [exec], object: {path: /bin/cat}, verdict: deny}", "object.path \"/bin/cat\" matches nothing here: it leads through a symbolic link; begin it with /usr/bin/cat"},
		{"{id: a, events: [exec], object: {path: /bin/sh}, verdict: deny}", "with /usr/bin/dash"},
		{"{id: a, events: [exec], object: {path: /usr/bin/sh}, verdict: deny}", "with /usr/bin/dash"},
		{"{id: a, events: [exec, unlink], object: {path: /usr/bin/sh}, verdict: deny}", ""},
		{"{id: a, events: [unlink], object: {path: /bin/sh}, verdict: deny}", "with /usr/bin/sh"},
		{"{id: a, events: [open], object: {path: '/bin/**'}, verdict: deny}", "begin it with /usr/bin/..."},
		{"{id: a, events: [open], object: {path: '/bin/*.x'}, verdict: deny}", "begin it with /usr/bin/..."},
		{"{id: a, events: [open], object: {path: {prefix: /bin/}}, verdict: deny}", "with /usr/bin/,"},
		{"{id: a, events: [open], object: {path: [/etc, /gone/x, /usr/bin/cat]}, not: {subject: {exe: /bin/sh}}, verdict: deny}", "subject.exe \"/bin/sh\""},
		{"{id: a, events: [rename], detail: /bin/x, verdict: deny}", "detail \"/bin/x\""},
		{"{id: a, events: [setxattr], detail: user.x, verdict: deny}", ""},
		{"{id: a, events: [connect], object: {path: /bin/x}, verdict: deny}", ""},
		{"{id: a, events: [unix_connect], object: {path: /bin/x}, verdict: deny}", "object.path \"/bin/x\""},
		{"{id: a, events: [link, setxattr], detail: /bin/x, verdict: deny}", ""},
		{"{id: a, events: [open], object: {path: [/proc/self/mem, /dev/fd/0]}, verdict: deny}", ""},
		{"{id: a, events: [open], object: {path: '/bin/\\[a*'}, verdict: deny}", "with /usr/bin/[a..."},
	} {
		src := head + "rules:\n- " + strings.ReplaceAll(tc.rules, "|", "\n- ") + "\n"
		rs, err := Load("f.yaml", []byte(src), Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatalf("%s: %v", tc.rules, err)
		}
		found := rs.Lint(resolveFake)
		if tc.want == "" && len(found) > 0 || tc.want != "" && (len(found) != 1 || !strings.Contains(found[0].Error(), tc.want)) {
			t.Errorf("%s: found %v, want %q", tc.rules, found, tc.want)
		}
	}
}

// A rule that lint says never decides never does, whatever is asked; nor does one of an event
// that it says that of, nor for a pattern that it says matches nothing.
func TestLintIsRight(t *testing.T) {
	named, ofEvent := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		src := genFile(t)
		rs, err := Load("f.yaml", []byte(src), Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatal(err)
		}
		rs = withFakeMarks(rs)
		dead := map[string]bool{}
		for _, id := range rs.Idle() {
			dead[id] = true
			named++
		}
		l := rs.linter()
		type at struct {
			rule  int32
			event abi.Event
		}
		shadowed, taken := map[at]bool{}, map[int32][]takenPattern{}
		for i := range int32(rs.Len()) {
			for _, e := range rs.about[i].events.list() {
				if shadowed[at{i, e}] = l.shadowedBy(i, e) >= 0; shadowed[at{i, e}] {
					ofEvent++
				}
			}
			taken[i] = l.takenPatterns(i)
		}
		for range 20 {
			r := genRequest(t)
			i := reference(rs.parsed(), r)
			if i < 0 {
				continue
			}
			if dead[rs.RuleID(i)] || shadowed[at{i, r.Event}] {
				t.Fatalf("%s decides\n%s\n%s", rs.RuleID(i), src, rs.Explain(r))
			}
			for _, q := range taken[i] {
				if rs.holds(q.alone, q.fact, r) {
					t.Fatalf("%s decides, by a pattern that matches nothing\n%s\n%s", rs.RuleID(i), src, rs.Explain(r))
				}
			}
		}
	})
	if named == 0 || ofEvent == 0 { // few files have such patterns
		t.Errorf("named: %d rules, %d events of rules; want some of each", named, ofEvent)
	}
}

// What a rule is looked for by matches it, for every kind of pattern.
func TestWitness(t *testing.T) {
	for _, pattern := range []string{"/a", "{prefix: /a/b}", "'/a/*'", "'/a/**/b'", "'/**'", "'/a?[xy][!a-z]/{b,c/d}e'", "'/{a,b}/**/{x,}y*'", "'/é*ü'"} {
		rs := mustLoad(t, fmt.Sprintf("%srules:\n- {id: a, events: [open], object: {path: %s}, verdict: deny}\n", head, pattern))
		var r abi.Request
		r.Event = abi.EventOpen
		if m := &rs.all[0]; !rs.witness(&m.match, &r) || !rs.matches(0, &r) {
			t.Errorf("%s: the witness %q does not match", pattern, r.Path())
		}
	}
}
