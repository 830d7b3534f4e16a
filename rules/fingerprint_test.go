// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func base64of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func printOf(t *testing.T, src string) uint64 {
	t.Helper()
	f, err := Parse("f.yaml", []byte(src))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return fingerprint(f)
}

// TestFingerprintPinned holds the canonical form still: histories and events
// name rule sets by it across versions.
func TestFingerprintPinned(t *testing.T) {
	for src, want := range map[string]uint64{contractFile: 0x9218f57d5a607818, everything(): 0x7fe399f2c70ebc1c} {
		if got := printOf(t, src); got != want {
			t.Errorf("got %#x, want %#x; a new canonical form needs a new encodingVersion", got, want)
		}
	}
}

// everything returns a file with each kind of condition, with short lists and with long ones.
func everything() string {
	var long, verity, uids strings.Builder
	for i := range 80 {
		fmt.Fprintf(&long, "%s%064x", map[bool]string{true: ", "}[i > 0], i+1)
		fmt.Fprintf(&verity, "%ssha256:%064x", map[bool]string{true: ", "}[i > 0], i+1)
		fmt.Fprintf(&uids, "%s%d", map[bool]string{true: ", "}[i > 0], 3*i)
	}
	return fmt.Sprintf(`version: 1
default: allow
deadline: 20ms
on_fail: deny
scope: {paths: [/srv, /opt], uids: [1000-1999], exes: [/usr/bin/x]}
mute: {exes: [/usr/bin/y]}
events: [connect]
sets: {office: [10.0.0.0/8, 192.168.0.0/16]}
rules:
- {id: a, events: [exec], object: {path: /srv/a, sha256: ["%064x", "%064x"]}, verdict: deny}
- {id: b, events: [exec], object: {sha256: [%s]}, verdict: {deny: EACCES}, message: no}
- {id: c, events: [exec], object: {fsverity: ["sha256:%064x"]}, verdict: audit}
- {id: d, events: [exec], object: {fsverity: [%s]}, verdict: deny}
- {id: e, events: [open], object: {path: ["/srv/*/x", {prefix: /opt/}], size: [0-4096], owner: 0, mode: {any: [setuid]}, format: elf}, access: [write], verdict: deny}
- {id: f, events: [connect], args: {addr: "@office", port: [1-1023, 8080]}, subject: {uid: [%s], loginuid: 1000, session: unset, capabilities: {any: [CAP_SYS_ADMIN]}}, verdict: deny}
- {id: g, events: [open], when: "subject.uid != subject.euid", not: {object: {path: /srv/z, sha256: "%064x"}}, verdict: deny, deadline: 5ms, on_fail: allow}
- {id: h, events: [open], subject: {process_tree: /usr/bin/x, exe: /usr/bin/z}, verdict: {allow: [read]}, owner: me, reason: so, ticket: T-1, lifespan: 8h, times: {days: [mon-fri], hours: "09:00-17:00", zone: UTC}}
- {id: i, events: [open], object: {path: /srv/i, scan: infected}, verdict: kill, expires: 2030-01-01T00:00:00Z}
`, 7, 8, long.String(), 9, verity.String(), uids.String(), 5)
}

func TestFingerprintIgnoresWriting(t *testing.T) {
	same := map[string]string{
		"comments":            "# a comment\n" + strings.ReplaceAll(contractFile, "rules:", "# more\n\nrules: # here"),
		"carriage returns":    strings.ReplaceAll(contractFile, "\n", "\r\n"),
		"quotes":              strings.ReplaceAll(contractFile, "/srv/app/bin/sh", `"/srv/app/bin/\x73h"`),
		"binary":              strings.ReplaceAll(contractFile, "/srv/app/bin/sh", "!!binary "+base64of("/srv/app/bin/sh")),
		"explicit kind":       strings.ReplaceAll(contractFile, "path: /srv/app/bin/sh", "path: {literal: /srv/app/bin/sh}"),
		"prefix with slash":   strings.ReplaceAll(contractFile, "prefix: /srv/app/log", "prefix: /srv/app/log/"),
		"number of errno":     strings.ReplaceAll(contractFile, "EROFS", "30"),
		"default errno":       strings.ReplaceAll(contractFile, "verdict: deny", "verdict: {deny: EPERM}"),
		"unit":                strings.ReplaceAll(contractFile, "100ms", "0.1s"),
		"inherited, spelled":  strings.ReplaceAll(contractFile, "verdict: audit", "verdict: audit\n    deadline: 100ms\n    on_fail: allow"),
		"order of fields":     strings.Replace(contractFile, "version: 1\ndefault: allow\n", "default: allow\nversion: 1\n", 1),
		"order of events":     strings.ReplaceAll(contractFile, "[open, exec]", "[exec, open]"),
		"order of arguments":  strings.ReplaceAll(contractFile, "port: [443, 0x1f90], family: inet, addr: [192.0.2.0/24, \"2001:db8::1\"]", "addr: [\"::ffff:192.0.2.0/120\", \"2001:db8:0::1/128\"], family: 2, port: [443, 8080]"),
		"order of access":     strings.ReplaceAll(contractFile, "[write, append]", "[append, write]"),
		"one-entry list":      strings.ReplaceAll(contractFile, "gid: 100", "gid: [100]"),
		"range of one":        strings.ReplaceAll(contractFile, "gid: 100", "gid: 100-100"),
		"another file's name": contractFile,
	}
	want := printOf(t, contractFile)
	for name, src := range same {
		if src == contractFile && name != "another file's name" {
			t.Errorf("%s: the text is not changed, the test is stale", name)
		}
		if got := printOf(t, src); got != want {
			t.Errorf("%s: got %#x, want %#x", name, got, want)
		}
	}
}

func TestFingerprintSeesEveryField(t *testing.T) {
	edits := map[string][2]string{
		"default":           {"default: allow", "default: audit"},
		"deadline":          {"100ms", "101ms"},
		"on_fail":           {"on_fail: allow", "on_fail: {deny: EIO}"},
		"scope path":        {"paths: [/srv/app]", "paths: [/srv/apq]"},
		"scope cgroup":      {"app.service", "apq.service"},
		"scope, moved":      {"paths: [/srv/app], cgroups: [/system.slice/app.service]", "paths: [/srv/app, /system.slice/app.service]"},
		"id":                {"no-shells", "no-shell"},
		"events":            {"[exec]", "[exec, open]"},
		"literal":           {"bin/sh}", "bin/s}"},
		"literal as glob":   {"{path: /srv/app/bin/sh}", "{path: {glob: /srv/app/bin/sh}}"},
		"literal as prefix": {"{path: /srv/app/bin/sh}", "{path: {prefix: /srv/app/bin/sh}}"},
		"glob":              {"python3*", "python2*"},
		"exe as path":       {"object: {path: /srv/app/bin/sh}\n    subject: {exe: /usr/bin/python3*,", "object: {path: /usr/bin/python3*}\n    subject: {exe: /srv/app/bin/sh,"},
		"uid":               {"[0, 1000-1999]", "[0, 1000-1998]"},
		"gid":               {"gid: 100", "gid: 101"},
		"gid as egid":       {"gid: 100", "egid: 100"},
		"euid":              {"euid: 7", "euid: 8"},
		"euid as uid":       {"euid: 7", "uid: 7"},
		"egid":              {"egid: [1, 2]", "egid: [1, 3]"},
		"cgroup":            {"cgroup: /a/b", "cgroup: /a/c"},
		"access":            {"[write, append]", "[write]"},
		"detail":            {"detail: [user.*, ", "detail: [trusted.*, "},
		"detail as prefix":  {"{prefix: security.}", "security."},
		"argument":          {"443", "444"},
		"argument's name":   {"{port: ", "{protocol: "},
		"network":           {"192.0.2.0/24", "192.0.2.0/25"},
		"address":           {"2001:db8::1", "2001:db8::2"},
		"range":             {"1024-65535", "1024-65534"},
		"all bits":          {"{all: 1, ", "{all: 2, "},
		"any bits":          {"any: 6}", "any: 2}"},
		"all as any":        {"{all: 1, any: 6}", "{any: 6}"},
		"args of not":       {"    not: {args: {size: 1024-65535}}\n", "    subject: {uid: 5}\n"},
		"listed events":     {"events: [mount]\n", "events: [umount]\n"},
		"no listed events":  {"events: [mount]\n", ""},
		"not":               {"    not:\n      subject: {euid: 7, egid: [1, 2]}\n", ""},
		"not, moved":        {"    not:\n      subject: {euid: 7, egid: [1, 2]}", "    subject: {euid: 7, egid: [1, 2]}"},
		"verdict":           {"verdict: audit", "verdict: allow"},
		"errno":             {"EROFS", "EIO"},
		"message":           {"ask ops", "ask Ops"},
		"rule deadline":     {"5ms", "6ms"},
		"rule on_fail":      {"on_fail: deny", "on_fail: {deny: EIO}"},
		"order of rules":    {"rules:", "rules:\n  - {id: first, events: [exec], verdict: allow}"},
		"list, split":       {"path: [{prefix: /srv/app/log}, ", "path: [{prefix: /srv/app}, {prefix: /srv/app/log}, "},
	}
	seen := map[uint64]string{printOf(t, contractFile): "the file itself"}
	for name, e := range edits {
		src := strings.Replace(contractFile, e[0], e[1], 1)
		if src == contractFile {
			t.Errorf("%s: the text is not changed, the test is stale", name)
			continue
		}
		got := printOf(t, src)
		if other, ok := seen[got]; ok {
			t.Errorf("%s: same fingerprint %#x as %s", name, got, other)
		}
		seen[got] = name
	}
}

// TestFingerprintOfRules: every key of a rule counts that came later.
func TestFingerprintOfRules(t *testing.T) {
	seen := map[uint64]string{}
	for _, text := range []string{
		"verdict: allow", "verdict: {allow: [read]}", "verdict: {allow: [write]}", "verdict: kill", "verdict: deny",
		"verdict: allow, owner: x", "verdict: allow, reason: x", "verdict: allow, ticket: x", "verdict: allow, message: x",
		"verdict: allow, lifespan: once", "verdict: allow, lifespan: session", "verdict: allow, lifespan: until-reboot", "verdict: allow, lifespan: 8h", "verdict: allow, lifespan: 9h",
		"verdict: allow, expires: 2027-01-31T18:00:00Z", "verdict: allow, expires: 2027-01-31T18:00:01Z",
		"verdict: allow, times: {days: mon}", "verdict: allow, times: {days: tue}", "verdict: allow, times: {hours: 08:00-09:00}", "verdict: allow, times: {hours: 08:00-09:01}",
		"verdict: allow, when: subject.uid == 0", "verdict: allow, when: subject.uid != 0",
		"verdict: allow, subject: {process_tree: /p}", "verdict: allow, subject: {process_tree: [/p, /q]}", "verdict: allow, subject: {process_tree: [/q]}", "verdict: allow, subject: {exe: /p}",
		"verdict: allow, not: {subject: {process_tree: /p}}",
		"verdict: allow, times: {hours: 08:00-09:00, zone: UTC}", "verdict: allow, times: [{days: mon}, {days: tue}]",
	} {
		got := printOf(t, head+"rules:\n- {id: a, events: [open], "+text+"}\n")
		if before, ok := seen[got]; ok {
			t.Errorf("the same fingerprint of\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
	for _, same := range [][2]string{{"verdict: allow, lifespan: 1h", "verdict: allow, lifespan: 60m"}, {"verdict: allow, when: subject.uid==0", "verdict: allow, when: '(subject.uid == 0u) // root'"}, {"verdict: allow, lifespan: forever", "verdict: allow"},
		{"verdict: allow, expires: 2027-01-31T18:00:00Z", "verdict: allow, expires: 2027-01-31T19:00:00+01:00"}} {
		if a, b := printOf(t, head+"rules:\n- {id: a, events: [open], "+same[0]+"}\n"), printOf(t, head+"rules:\n- {id: a, events: [open], "+same[1]+"}\n"); a != b {
			t.Errorf("%s and %s: %#x, %#x", same[0], same[1], a, b)
		}
	}
}

// TestFingerprintOfScopes: every key of scope and mute counts, and where it stands.
func TestFingerprintOfScopes(t *testing.T) {
	seen := map[uint64]string{}
	for _, text := range []string{
		"scope: {paths: [/a]}",
		"scope: {uids: [1]}",
		"scope: {uids: [1-2]}",
		"scope: {uids: [1, 2]}",
		"scope: {exes: [/a]}",
		"scope: {mounts: [/a]}",
		"scope: {process_trees: [/a]}",
		"scope: {paths: [/a], uids: [1]}",
		"scope: {paths: [/a], exes: [/a]}",
		"scope: {paths: [/a]}\nmute: {paths: [/a]}",
		"scope: {paths: [/a]}\nmute: {cgroups: [/a]}",
		"scope: {paths: [/a]}\nmute: {uids: [1]}",
		"scope: {paths: [/a]}\nmute: {exes: [/a]}",
		"scope: {paths: [/a]}\nmute: {mounts: [/a]}",
		"scope: {paths: [/a]}\nmute: {process_trees: [/a]}",
		"scope: {paths: [/a]}\nmute: {exes: [/a], invert: [exes]}",
		"scope: {paths: [/a]}\nmute: {exes: [/a], paths: [/b], invert: [exes]}",
		"scope: {paths: [/a]}\nmute: {exes: [/a], paths: [/b], invert: [paths]}",
		"scope: {paths: [/a]}\nmute: {exes: [/a], paths: [/b], invert: [exes, paths]}",
		"scope: {paths: [/a]}\nmute: {uids: [7], events: [open]}",
		"scope: {paths: [/a]}\nmute: {uids: [7], events: [open, exec]}",
		"scope: {paths: [/a]}\nmute: {unmute: [dbus]}",
		"scope: {paths: [/a]}\nmute: {unmute: [dbus, init]}",
	} {
		got := printOf(t, "version: 1\ndefault: allow\n"+text+"\n")
		if before, ok := seen[got]; ok {
			t.Errorf("the same fingerprint of\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
	const set = "version: 1\ndefault: allow\nscope: {paths: [/a]}\nmute: {exes: [/a], paths: [/b], invert: "
	if a, b := printOf(t, set+"[exes, paths], unmute: [dbus, init]}\n"), printOf(t, set+"[paths, exes], unmute: [init, dbus]}\n"); a != b {
		t.Errorf("the order of words counts: %#x, %#x", a, b)
	}
}
