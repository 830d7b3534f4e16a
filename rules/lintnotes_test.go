// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"
)

// noted returns the notes on a file, without what stands before the rule.
func noted(t *testing.T, settings, rules string) string {
	t.Helper()
	src := "version: 1\n" + settings + "\nrules:\n- " + strings.ReplaceAll(rules, "|", "\n- ") + "\n"
	rs, err := Load("f.yaml", []byte(src), Options{CgroupID: fakeCgroups})
	if err != nil {
		t.Fatalf("%s: %v", rules, err)
	}
	var b strings.Builder
	for _, p := range rs.Notes() {
		fmt.Fprintf(&b, "%d:%d rule %s: %s; %s\n", p.Line, p.Column, p.Rule, p.Message, p.Hint)
	}
	return b.String()
}

func TestNotes(t *testing.T) {
	const (
		whole   = "default: deny\nscope: {paths: [/]}"
		app     = "default: deny\nscope: {paths: [/srv/app]}"
		byExe   = "{id: a, events: [open], subject: {exe: /x}, verdict: allow}"
		byPath  = "{id: a, events: [exec], object: {path: /x}, verdict: allow}"
		exes    = "by the path of the program, subject.exe, and nothing else: whoever may make a user namespace can mount another file there"
		objects = "by its path, object.path, and nothing else"
		refused = "|{id: n, events: [userns_create], verdict: deny}"
	)
	for _, tc := range []struct {
		name, settings, rules string
		want                  string // in the only note; "" for none
	}{
		{"an executable", whole, byExe, "rule a: the rule knows who acts " + exes},
		{"an object", whole, byPath, "rule a: the rule knows what may be opened or executed " + objects},
		{"a record beside", whole, strings.ReplaceAll(byPath, "[exec]", "[unlink]"), ""},
		{"default allow", "default: allow\nscope: {paths: [/]}", byExe, ""},
		{"a refusal", whole, "{id: a, events: [open], subject: {exe: /x}, verdict: deny}", ""},
		{"a user", whole, "{id: a, events: [open], subject: {exe: /x, uid: 0}, verdict: allow}", ""},
		{"a cgroup", whole, "{id: a, events: [open], subject: {exe: /x, cgroup: /a}, verdict: allow}", ""},
		{"a user in when", whole, "{id: a, events: [open], subject: {exe: /x}, when: subject.uid == 0, verdict: allow}", ""},
		{"an owner of what is opened", whole, "{id: a, events: [open], object: {path: /y, owner: 0}, subject: {exe: /x}, verdict: allow}", exes},
		{"a content of what is mapped", whole, "{id: a, events: [mmap_exec], object: {sha256: " + sumA + "}, subject: {exe: /x}, verdict: allow}", exes},
		{"namespaces of the host", whole, "{id: a, events: [mmap_exec], subject: {exe: /x, host_namespaces: {all: [mnt]}}, verdict: allow}", exes},
		{"an object of root's", whole, "{id: a, events: [exec], object: {path: /x, owner: 0}, verdict: allow}", objects},
		{"a path in when", whole, "{id: a, events: [open], subject: {exe: /x}, when: size(object.path) > 3, verdict: allow}", exes},
		{"a scope of a cgroup", "default: deny\nscope: {cgroups: [/a]}", byExe, ""},
		{"a scope of a mount, the object", "default: deny\nscope: {mounts: [/srv]}", byPath, ""},
		{"a scope of a mount, the executable", "default: deny\nscope: {mounts: [/srv]}", byExe, exes},
		{"no namespaces", whole, byExe + refused, ""},
		{"no namespaces by the default", whole + "\nevents: [userns_create]", byExe, ""},
		{"no namespaces of programs in the scope", app, byExe + refused, exes},
		{"namespaces of root", whole, byExe + "|{id: r, events: [userns_create], subject: {uid: 0}, verdict: allow}" + refused, ""},
		{"namespaces of a program", whole, "{id: r, events: [userns_create], subject: {exe: /r}, verdict: allow}" + refused, "rule r: the rule knows who acts by"},
		{"no namespaces at times", whole, byExe + "|{id: n, events: [userns_create], times: {days: mon-fri}, verdict: deny}|{id: m, events: [userns_create], verdict: allow}", exes},
		{"several", whole, byExe + strings.ReplaceAll("|"+byExe, "a,", "b,") + strings.ReplaceAll("|"+byExe, "a,", "c,"), "; likewise b on line 6, c on line 7; if such users"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := noted(t, tc.settings, tc.rules)
			if tc.want == "" && got != "" || tc.want != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNotesOfCost(t *testing.T) {
	heavy := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`object.path.contains("aaaaaaaaab") && `, n), " && ")
	}
	many := func(n int, rule string) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("{id: r%d, %s}", i, fmt.Sprintf(rule, i)))
		}
		return strings.Join(out, "|")
	}
	for _, tc := range []struct{ name, rules, want string }{
		{"plain", "{id: a, events: [open, exec], object: {path: /x}, verdict: deny}", ""},
		{"a content", "{id: a, events: [exec], object: {sha256: " + sumA + "}, verdict: deny}", "rule a: no exec is kept by the kernel side, and each that it does not decide alone waits for a worker: the rule looks at sha256"},
		{"a format", "{id: a, events: [open], object: {format: elf}, verdict: deny}", "the rule looks at format"},
		{"an fs-verity digest", "{id: a, events: [open], object: {fsverity: any}, verdict: deny}", "the rule looks at fsverity"},
		{"a scan", "{id: a, events: [open], object: {scan: infected}, verdict: deny}", "the rule looks at scan"},
		{"a size", "{id: a, events: [exec], object: {size: 5-}, verdict: deny}", "rule a: no exec is kept by the kernel side, and each that it does not decide alone waits for a worker: the rule looks at size"},
		{"a content of libraries", "{id: a, events: [mmap_exec], object: {sha256: " + sumA + "}, verdict: deny}", ""},
		{"a record", "{id: a, events: [open], verdict: audit}|{id: b, events: [exec], verdict: audit}", "rule a: the rule records all that it lets go on, so each waits for a worker: the kernel side keeps plain allows alone; likewise b on line 6"},
		{"a record of a rename", "{id: a, events: [rename], verdict: audit}", ""},
		{"once", "{id: a, events: [open], lifespan: once, verdict: allow}", "rule a: what the rule decides is kept nowhere: it decides once"},
		{"a port", "{id: a, events: [connect], subject: {exe: /x}, args: {port: 80}, verdict: deny}", "rule a: a decision of connect is cached for one value of port alone"},
		{"a port, in the kernel", "{id: a, events: [connect], args: {port: 80}, verdict: deny}", ""},
		{"a family", "{id: a, events: [connect], subject: {exe: /x}, args: {family: inet}, verdict: deny}", ""},
		{"a port in when", "{id: a, events: [connect], when: args.port % 2 == 0, verdict: deny}", "cached for one value of port alone"},
		{"an address", "{id: a, events: [connect], subject: {exe: /x}, args: {addr: 10.0.0.0/8}, verdict: deny}", "for one value of addr_low, addr_high alone"},
		{"a path behind a program", "{id: a, events: [exec, open], subject: {exe: /x}, verdict: deny}|{id: b, events: [exec, open], object: {path: /y}, verdict: allow}|{id: c, events: [exec], object: {path: /z}, verdict: deny}",
			"rule a: what rules behind it let go on by path waits for a worker, and the kernel side could decide it alone: b on line 6; put them before it"},
		{"a program behind a path", "{id: b, events: [exec], object: {path: /y}, verdict: allow}|{id: a, events: [exec], subject: {exe: /x}, verdict: deny}", ""},
		{"a heavy expression", "{id: a, events: [open], when: '" + heavy(5) + "', verdict: deny}", "rule a: when can cost 2"},
		{"a light expression", "{id: a, events: [open], when: '" + heavy(1) + "', verdict: deny}", ""},
		{"rules that cannot be filed", many(120, "events: [open], when: subject.uid > %d, verdict: deny"), "rule r0: a request of open is compared with 120 rules one after another, for nothing that they ask for tells them apart: r0 on line 5, r1 on line 6, r2 on line 7 and 117 more; give them a path"},
		{"as many as are few", many(100, "events: [open], when: subject.uid > %d, verdict: deny"), ""},
		{"rules that can", many(120, "events: [open], object: {path: /x/%d}, verdict: deny"), ""},
		{"rules of one path", "{id: a, events: [open], object: {path: /z}, verdict: deny}|" + many(120, "events: [open], object: {path: /y}, when: subject.uid > %d, verdict: deny"), "what 120 rules ask for alike"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := noted(t, "default: allow\nscope: {paths: [/]}", tc.rules)
			if tc.want == "" && got != "" || tc.want != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
