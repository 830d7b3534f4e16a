// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

type whenCase struct {
	name   string
	text   string
	events []abi.Event
	want   string
}

func on(events ...abi.Event) []abi.Event { return events }

// whenExamples are evaluated on whenFor; want is the value and how the expression is written.
var whenExamples = []whenCase{
	{"three", `subject.uid == 0 && object.path.startsWith("/srv/") && !object.path.endsWith(".conf")`, on(abi.EventOpen),
		`yes: subject.uid == 0u && object.path.startsWith("/srv/") && !object.path.endsWith(".conf")`},
	{"ids", `subject.uid + subject.euid * 2 == subject.gid - subject.egid`, on(abi.EventOpen), `no: subject.uid + subject.euid * 2u == subject.gid - subject.egid`},
	{"in", `subject.gid in [100, 5] && object.path in ["/srv/a.so"]`, on(abi.EventOpen), `yes: subject.gid in [100u, 5u] && object.path in ["/srv/a.so"]`},
	{"in many texts", `!(object.path in ["1","2","3","4","5","6","7","8","9"])`, on(abi.EventOpen), `yes: !(object.path in ["1", "2", "3", "4", "5", "6", "7", "8", "9"])`},
	{"found among many", `object.path in ["1","2","3","4","5","6","7","8","/srv/a.so"]`, on(abi.EventOpen), `yes: object.path in ["1", "2", "3", "4", "5", "6", "7", "8", "/srv/a.so"]`},
	{"two facts", `object.path == subject.exe`, on(abi.EventOpen), `no: object.path == subject.exe`},
	{"order of texts", `object.path < "/srv/b" && "/srv/b" >= object.path`, on(abi.EventOpen), `yes: object.path < "/srv/b" && "/srv/b" >= object.path`},
	{"size", `size(object.path) == 9 && object.path.size() > 8`, on(abi.EventOpen), `yes: size(object.path) == 9 && size(object.path) > 8`},
	{"pattern", `object.path.matches(r'\.so$')`, on(abi.EventOpen), `yes: object.path.matches("\\.so$")`},
	{"access", `access.write && !access.create`, on(abi.EventOpen), `yes: access.write && !access.create`},
	{"truth values", `access.write == true != false`, on(abi.EventOpen), `yes: (access.write == true) != false`},
	{"choice", `access.read ? subject.uid == 1 : access.write ? true : false`, on(abi.EventOpen), `yes: access.read ? subject.uid == 1u : access.write ? true : false`},
	{"choice of numbers", `subject.uid + (access.read ? 1 : 2) == 2`, on(abi.EventOpen), `yes: subject.uid + (access.read ? 1u : 2u) == 2u`},
	{"choice of texts", `(access.read ? object.path : subject.exe) == "/bin/sh"`, on(abi.EventOpen), `yes: (access.read ? object.path : subject.exe) == "/bin/sh"`},
	{"flattened", `access.read && (access.write && (access.append && access.write))`, on(abi.EventOpen), `no: access.read && access.write && access.append && access.write`},
	{"event", `event == "open" ? access.write : event != "open"`, on(abi.EventOpen), `yes: event == "open" ? access.write : event != "open"`},
	{"signs", `-size(object.path) < -(-(-8))`, on(abi.EventOpen), `yes: -size(object.path) < -8`},
	{"minus", `size(object.path) - -1 == 10 && 1 - (2 - 3) < size(subject.exe)`, on(abi.EventOpen), `yes: size(object.path) - -1 == 10 && 1 - (2 - 3) < size(subject.exe)`},
	{"not UTF-8", `size(detail) == 1 && detail.matches("^\\x{fffd}$") && detail != "\xff"`, on(abi.EventRename), `yes: size(detail) == 1 && detail.matches("^\\x{fffd}$") && detail != "\u00ff"`},
	{"a name", `args.signal == "KILL" || args.signal in ["SIGTERM", 15, "0x9"]`, on(abi.EventSignal), `no: args.signal == 9u || args.signal in [15u, 15u, 9u]`},
	{"a name first", `"INT" == args.signal`, on(abi.EventSignal), `yes: 2u == args.signal`},
	{"bits", `args.prot.hasAll(["PROT_WRITE"]) && args.prot.hasAny(["READ", "WRITE"]) && !args.prot.hasAll(["READ", "WRITE"])`, on(abi.EventMMapExec),
		`yes: args.prot.hasAll([2u]) && args.prot.hasAny([1u, 2u]) && !args.prot.hasAll([1u, 2u])`},
	{"octal", `args.mode.hasAny("0o6002")`, on(abi.EventChmod), `yes: args.mode.hasAny([3074u])`},
	{"networks", `args.addr.inNet("10.0.0.0/8") && !args.addr.inNet(["10.0.0.2", "::1"]) && args.family == "inet"`, on(abi.EventConnect),
		`yes: args.addr.inNet(["10.0.0.0/8"]) && !args.addr.inNet(["10.0.0.2", "::1"]) && args.family == 2u`},
	{"a network below 0", `subject.uid - 1 == 5 || access.write`, on(abi.EventOpen), `yes: subject.uid - 1u == 5u || access.write`},
	{"not known", `subject.gid == 0 || detail == "x"`, on(abi.EventSetXattr), `fault: subject.gid == 0u || detail == "x"`},
	{"not known, not", `!(detail == "x")`, on(abi.EventSetXattr), `fault: !(detail == "x")`},
	{"not known, absorbed", `detail == "x" || subject.uid == 0`, on(abi.EventSetXattr), `yes: detail == "x" || subject.uid == 0u`},
	{"not known, absorbed by false", `detail == "x" && subject.uid == 1`, on(abi.EventSetXattr), `no: detail == "x" && subject.uid == 1u`},
	{"division by 0", `subject.gid / subject.uid == 1`, on(abi.EventOpen), `fault: subject.gid / subject.uid == 1u`},
	{"too large", `args.size * 9223372036854775808u == 0`, on(abi.EventSetXattr), `fault: args.size * 9223372036854775808u == 0u`},
	{"a comment", "subject.uid // whose\n == 0", on(abi.EventOpen), `yes: subject.uid == 0u`},
}

// whenFor is the request of the examples.
func whenFor(e abi.Event) *abi.Request {
	return request(e, "/srv/a.so", "/bin/sh", func(r *abi.Request) {
		r.GID, r.Access = 100, abi.AccessWrite
		r.Arg = [abi.Args]uint64{2, 1, 6, 443, 0, 0xffff0a000001}
		r.DetailLen = uint32(copy(r.DetailBuf[:], "\xff"))
		if e == abi.EventSetXattr {
			r.DetailLen, r.Flags = 0, abi.FlagDetailTruncated
		}
	})
}

func TestWhen(t *testing.T) {
	for _, tc := range whenExamples {
		t.Run(tc.name, func(t *testing.T) {
			w := mustWhen(t, tc.text, tc.events...)
			r := whenFor(tc.events[0])
			value := w.root.truth(r)
			if got := []string{"no", "yes", "fault"}[value] + ": " + w.String(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if w.holds(r) != (value == yes) {
				t.Errorf("holds is %v", w.holds(r))
			}
		})
	}
}

// whenMistakes are refused with the words in want.
var whenMistakes = []whenCase{
	{"nothing", ``, on(abi.EventOpen), `column 1: the expression is empty; an expression is such as`},
	{"the end", `subject.uid ==`, on(abi.EventOpen), `column 15: the expression ends too early; `},
	{"and", `access.read and access.write`, on(abi.EventOpen), `column 13: unexpected token after expression; write && for and, || for or, ! for not`},
	{"one =", `subject.uid = 0`, on(abi.EventOpen), `column 13: unexpected token after expression; write == to compare`},
	{"a match", `object.path =~ "x"`, on(abi.EventOpen), `column 13: unexpected token after expression; write object.path.matches("...")`},
	{"one &", `args.prot & 3 == 3`, on(abi.EventMMapExec), `column 11: unexpected single '&', expected '&&'; bits are tested by args.NAME.hasAll(...) and args.NAME.hasAny(...)`},
	{"octal", `args.mode == 0o755`, on(abi.EventChmod), `column 15: unexpected token after expression; write it in quotes beside a number of args: "0o755"`},
	{"escape", `object.path == "\."`, on(abi.EventOpen), `column 16: unable to unescape string; texts stand in double or single quotes; write \\ for a backslash`},
	{"open quotes", `object.path == "a`, on(abi.EventOpen), `column 16: unterminated string literal; texts stand in`},
	{"large", `subject.uid < 99999999999999999999`, on(abi.EventOpen), `column 15: invalid int literal; the largest number is 9223372036854775807, or`},
	{"column in characters", `object.path == "éé" && subject.uid && true`, on(abi.EventOpen), `column 24: && and || join tests, and this is a number without a sign; compare it`},
	{"second line", "access.read\n&& subject.uid", on(abi.EventOpen), `column 16: && and || join tests`},
	{"no such fact", `subject.usr == 0`, on(abi.EventOpen), `column 1: there is no fact subject.usr; did you mean subject.uid?`},
	{"last word", `uid == 0`, on(abi.EventOpen), `column 1: there is no fact uid; did you mean subject.uid?`},
	{"comm", `true && comm == "sh"`, on(abi.EventOpen), `column 9: there is no fact comm; a task chooses its comm itself, so it says nothing; use subject.exe`},
	{"pid", `subject.pid == 1`, on(abi.EventOpen), `column 1: there is no fact subject.pid; verdicts are kept for all requests that look alike`},
	{"many", `foo`, on(abi.EventListen), `column 1: there is no fact foo; the facts are args.addr, args.addr_high, args.addr_low, args.backlog, args.family, args.port, args.protocol, args.type, event, object.path, subject.egid,`},
	{"no object", `object.path == "/a"`, on(abi.EventOpen, abi.EventCapable), `column 1: the event capable has no object.path; take object out`},
	{"no detail", `detail == "/a"`, on(abi.EventOpen), `column 1: the event open has no detail; take detail out; those that have one are link,`},
	{"no access", `access.read`, on(abi.EventOpen, abi.EventExec), `column 1: the event exec has no access.read; take access out`},
	{"no such argument", `args.prot == 1`, on(abi.EventMMapExec, abi.EventOpen), `column 1: the event open has no argument prot; it is one of mmap_exec, mprotect_exec; open has none; put open in a rule of its own`},
	{"another thing", `args.mode == 1`, on(abi.EventChmod, abi.EventPtrace), `column 1: the argument mode is another thing for ptrace than for the other events of the rule`},
	{"no address", `args.addr.inNet("::/0")`, on(abi.EventOpen), `column 1: the event open has no argument addr; it is one of accept,`},
	{"a field of a fact", `object.path.foo == "x"`, on(abi.EventOpen), `column 1: there is no fact object.path.foo; the facts are`},
	{"a field of a value", `size(object.path).foo == 1`, on(abi.EventOpen), `column 1: not supported in when: the field foo of a value`},
	{"unknown event", `event == "opne"`, on(abi.EventOpen), `column 10: there is no event opne; did you mean open?`},
	{"another event", `event in ["open", "exec"]`, on(abi.EventOpen), `column 19: the rule is not about the event exec; add it to the events of the rule`},
	{"no such name", `args.signal in ["KILL", "KIL"]`, on(abi.EventSignal), `column 25: args.signal "KIL" is not a number; did you mean SIGKILL?`},
	{"negative", `subject.uid == -1`, on(abi.EventOpen), `column 16: facts are never less than 0, as -1 is; numbers have no sign here: write 0xffffffffffffffff`},
	{"negative in a list", `subject.uid in [1, -1]`, on(abi.EventOpen), `column 20: facts are never less than 0`},
	{"no bits", `args.prot.hasAny(["READ", 0])`, on(abi.EventMMapExec), `column 27: args.prot has no bits to test; compare it with == 0`},
	{"bits of a fact", `args.prot.hasAny(subject.uid)`, on(abi.EventMMapExec), `column 18: not supported in when: hasAny with what is no constant`},
	{"bits of a size", `size(object.path).hasAny(1)`, on(abi.EventOpen), `column 1: hasAny is not for a number with a sign and a number without a sign; numbers of args and subject have no sign, size() has one`},
	{"no address to compare", `args.addr == "10.0.0.1"`, on(abi.EventConnect), `column 1: == is not for an address and a text; write args.addr.inNet("192.0.2.0/24")`},
	{"no network", `args.addr.inNet("10.0.0.0/8", "::1")`, on(abi.EventConnect), `column 1: not supported in when: inNet with more than one value in parentheses`},
	{"bad network", `args.addr.inNet(["::1", "10.0.0"])`, on(abi.EventConnect), `column 25: "10.0.0" is no address or network; write an address such as`},
	{"bits behind", `args.addr.inNet("10.0.0.1/8")`, on(abi.EventConnect), `column 17: "10.0.0.1/8" has bits behind its prefix; write 10.0.0.0/8`},
	{"network of another kind", `args.addr.inNet(1)`, on(abi.EventConnect), `column 1: inNet is not for an address and a number with a sign`},
	{"text and number", `object.path == 1`, on(abi.EventOpen), `column 1: == is not for a text and a number with a sign; it is for two texts, two numbers, or two truth values`},
	{"signs", `size(object.path) > subject.uid`, on(abi.EventOpen), `column 1: > is not for a number with a sign and a number without a sign; numbers of args and subject have no sign, size() has one`},
	{"sum of texts", `object.path + "x" == "y"`, on(abi.EventOpen), `column 1: + is not for a text and a text; it is for two numbers`},
	{"order of truth", `access.read < access.write`, on(abi.EventOpen), `column 1: < is not for a truth value and a truth value`},
	{"not a test", `subject.uid`, on(abi.EventOpen), `column 1: the expression is a number without a sign and not true or false; compare it, as in subject.uid == 0`},
	{"choice", `access.read ? 1 : true`, on(abi.EventOpen), `column 1: ?: is not for a truth value and a number with a sign and a truth value`},
	{"minus", `-subject.uid == 1`, on(abi.EventOpen), `column 1: - is not for a number without a sign; it is for a number with a sign`},
	{"empty list", `subject.uid in []`, on(abi.EventOpen), `column 16: the list is empty`},
	{"list of kinds", `subject.uid in [0, "x"]`, on(abi.EventOpen), `column 20: the list has a text behind a number without a sign; write a list of texts, or one of numbers`},
	{"list of facts", `subject.uid in [0, subject.gid]`, on(abi.EventOpen), `column 20: not supported in when: a list of other things than constants; compare with each by ==, joined with ||`},
	{"list of texts for a number", `subject.uid in ["x"]`, on(abi.EventOpen), `column 1: in is not for a number without a sign and a list that has a text`},
	{"no list", `subject.uid in subject.gid`, on(abi.EventOpen), `column 16: not supported in when: in with what is no constant`},
	{"list", `[1] == [1]`, on(abi.EventOpen), `column 1: not supported in when: a list here; lists stand behind in,`},
	{"map", `{"a": 1} == {}`, on(abi.EventOpen), `column 1: not supported in when: a map or a message`},
	{"message", `Message{a: 1} == 1`, on(abi.EventOpen), `not supported in when: a map or a message`},
	{"null", `object.path == null`, on(abi.EventOpen), `column 16: not supported in when: null; a fact that is not known makes no comparison with it true`},
	{"fraction", `subject.uid < 1.5`, on(abi.EventOpen), `column 15: not supported in when: a number with a fraction; write a whole number`},
	{"bytes", `object.path == b"\xff"`, on(abi.EventOpen), `column 16: not supported in when: bytes; write a text without b, or other bytes as a pattern of object.path, with !!binary`},
	{"index", `object.path[0] == "/"`, on(abi.EventOpen), `column 1: not supported in when: an index; there is nothing to index`},
	{"macro", `[1, 2].exists(x, x == subject.uid)`, on(abi.EventOpen), `column 1: not supported in when: the function exists; there is nothing to index or to go through: join tests with && and ||`},
	{"has", `has(object.path)`, on(abi.EventOpen), `column 1: not supported in when: the function has`},
	{"conversion", `1 < 2 && int(subject.uid) == 1`, on(abi.EventOpen), `column 10: not supported in when: the function int; facts are numbers, texts and truth values, and are not converted`},
	{"time", `timestamp("2026-01-01T00:00:00Z") == null`, on(abi.EventOpen), `column 1: not supported in when: the function timestamp; no fact is a time`},
	{"lower case", `object.path.lowerAscii() == "/a"`, on(abi.EventOpen), `column 1: not supported in when: the function lowerAscii; texts are compared as they are; matches can do more`},
	{"misspelt function", `object.path.startWith("/a")`, on(abi.EventOpen), `column 1: there is no function startWith; did you mean startsWith? the functions are size, startsWith, endsWith, contains, matches, hasAll, hasAny, inNet`},
	{"function before its text", `startsWith(object.path, "/a")`, on(abi.EventOpen), `column 1: startsWith is not written so; it is for a text before the dot, and one in parentheses`},
	{"pattern of a fact", `object.path.matches(subject.exe)`, on(abi.EventOpen), `column 21: not supported in when: matches with what is no constant; it is for a text before the dot, and a pattern in parentheses`},
	{"pattern", `object.path.matches("a(")`, on(abi.EventOpen), `column 21: the pattern "a(" is no regular expression: missing closing ); simplify it`},
	{"large pattern", `object.path.matches("a.{20}b")`, on(abi.EventOpen), `column 21: the pattern "a.{20}b" needs too large a table; simplify it: repeat less often`},
	{"constant", `1 + 1 == 2`, on(abi.EventOpen), `column 1: the expression looks at no fact, so it is always the same`},
	{"deep parentheses", strings.Repeat("(", 40) + "access.read" + strings.Repeat(")", 40), on(abi.EventOpen), `column 1: the expression is nested deeper than 32; split the rule`},
	{"deep operators", `subject.uid == 1` + strings.Repeat(" + 1", 40), on(abi.EventOpen), `column 1: the expression is nested deeper than 32; split the rule`},
	{"cost", `object.path.contains(subject.exe)`, on(abi.EventOpen), `column 1: the expression can cost 167693, at most 2500 is allowed; contains and matches cost most`},
	{"long", `access.read` + strings.Repeat(" ", maxWhenBytes), on(abi.EventOpen), `column 1: the expression has 4107 bytes, at most 4096 are read; split the rule`},
	{"not UTF-8", "object.path == \"\xff\"", on(abi.EventOpen), `column 1: the expression is not UTF-8; write other bytes as a pattern of object.path, with !!binary`},
	{"no event", `access.read`, nil, `column 1: the rule is about no event; write events: [...]`},
}

func TestWhenMistakes(t *testing.T) {
	for _, tc := range whenMistakes {
		t.Run(tc.name, func(t *testing.T) {
			w, err := newWhenCompiler().compile(tc.text, setOf(tc.events...))
			if err == nil {
				t.Fatalf("%s is read as %s", tc.text, w)
			}
			if got := err.Error(); !strings.Contains(got, tc.want) {
				t.Errorf("%s\ngot  %s\nwant %s", tc.text, got, tc.want)
			}
		})
	}
}

func TestWhenConsulted(t *testing.T) {
	tests := []struct {
		name, text string
		events     []abi.Event
		want       string
	}{
		{"ids", `subject.euid == 0 || subject.gid == 0`, on(abi.EventOpen), "uid gid: 0"},
		{"texts", `object.path == detail || subject.exe == detail`, on(abi.EventRename), "path exe detail: 0"},
		{"access", `access.read`, on(abi.EventOpen), "access: 0"},
		{"the event alone", `event == "open"`, on(abi.EventOpen), "nothing: 0"},
		{"numbers", `args.port == 1 && args.type == 1`, on(abi.EventConnect), "args: 1010"},
		{"a number by event", `args.uid == 1`, on(abi.EventSetUID, abi.EventChown), "args: 1"},
		{"an address", `args.addr.inNet("::/0")`, on(abi.EventConnect), "args: 110001"},
		{"both branches", `access.read ? subject.uid == 1 : object.path == "/a"`, on(abi.EventOpen), "path uid access: 0"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := mustWhen(t, tc.text, tc.events...)
			for _, e := range tc.events {
				if got := fmt.Sprintf("%s: %b", strings.Join(FieldNames(w.consulted()), " "), w.args(e)); got != tc.want {
					t.Errorf("%v: got %s, want %s", e, got, tc.want)
				}
			}
			if got := w.args(abi.EventCapable) | w.args(abi.EventNone) | w.args(abi.EventCount); got != 0 {
				t.Errorf("an event that it is not about: got %b, want 0", got)
			}
		})
	}
}

func TestWhenExplain(t *testing.T) {
	tests := []struct {
		name, text string
		event      abi.Event
		want       string
	}{
		{"the one that is false", `subject.uid == 0 && object.path.startsWith("/etc/") && access.write`, abi.EventOpen, `object.path.startsWith("/etc/") is false: object.path is "/srv/a.so"`},
		{"none is true", `subject.uid == 1 || object.path == "/a" || subject.uid == 2`, abi.EventOpen,
			`subject.uid == 1 || object.path == "/a" || subject.uid == 2 is false: subject.uid is 0, object.path is "/srv/a.so"`},
		{"not", `!(subject.uid == 0)`, abi.EventOpen, `!(subject.uid == 0) is false: subject.uid is 0`},
		{"true", `subject.uid == 1 || access.write`, abi.EventOpen, `access.write is true`},
		{"the branch that is taken", `access.read ? true : subject.gid == 5`, abi.EventOpen, `subject.gid == 5 is false: subject.gid is 100`},
		{"names", `args.signal in ["KILL", 15]`, abi.EventSignal, `args.signal in ["KILL", 15] is false: args.signal is SIGINT`},
		{"an address", `args.addr.inNet("10.2.0.0/16")`, abi.EventConnect, `args.addr.inNet(["10.2.0.0/16"]) is false: args.addr is 10.0.0.1`},
		{"not known", `subject.uid == 0 && detail.startsWith("user.")`, abi.EventSetXattr, `detail has no value: detail is not known`},
		{"no regular file", `object.size + 1u > 0u`, abi.EventUnlink, `object.size has no value: it is not known, or there is no regular file`},
		{"below 0", `size(object.path) == 9 && subject.uid - 1 == 2`, abi.EventChmod, `subject.uid - 1 has no value: the result does not fit, subject.uid is 0`},
		{"division", `subject.gid % subject.uid == 2`, abi.EventOpen, `subject.gid % subject.uid has no value: it divides by 0, subject.gid is 100, subject.uid is 0`},
		{"bytes", `detail == "a"`, abi.EventRename, `detail == "a" is false: detail is "\xff"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := mustWhen(t, tc.text, tc.event).explain(whenFor(tc.event)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	r := whenFor(abi.EventOpen)
	r.Flags = abi.FlagNoObject | abi.FlagNoExe
	w := mustWhen(t, `object.path == "/a"`, abi.EventOpen)
	if got, want := w.explain(r), "object.path has no value: there is no object with a path"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestWhenDoesNotAllocate goes through every operator.
func TestWhenDoesNotAllocate(t *testing.T) {
	for _, tc := range append(whenExamples[:len(whenExamples):len(whenExamples)], whenCase{name: "heavy", text: benchWhens[2].text, events: on(abi.EventOpen)}) {
		w, r := mustWhen(t, tc.text, tc.events...), whenFor(tc.events[0])
		if n := testing.AllocsPerRun(100, func() { w.holds(r) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", tc.name, n)
		}
	}
}

// TestWhenIsShared: rules with the same expression share what it was compiled to.
func TestWhenIsShared(t *testing.T) {
	c := newWhenCompiler()
	var got []*when
	for _, events := range []eventSet{setOf(abi.EventOpen), setOf(abi.EventOpen), setOf(abi.EventExec)} {
		w, err := c.compile("subject.uid == 0", events)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, w)
	}
	if got[0] != got[1] || got[0] == got[2] {
		t.Errorf("got %p, %p and, for another event, %p", got[0], got[1], got[2])
	}
}

// TestWhenLimits tries what is just allowed, and one more.
func TestWhenLimits(t *testing.T) {
	ok := func(text string) error {
		if _, err := newWhenCompiler().compile(text, setOf(abi.EventOpen)); err != nil {
			return err
		}
		return nil
	}
	repeat := func(n int, part, with string) string { return strings.TrimSuffix(strings.Repeat(part+with, n), with) }
	tests := []struct {
		name, most, more string
	}{
		{"length", `access.read` + strings.Repeat(" ", maxWhenBytes-11), `access.read` + strings.Repeat(" ", maxWhenBytes-10)},
		{"patterns", repeat(6, `object.path.matches("a")`, " || "), repeat(7, `object.path.matches("a")`, " || ")},
		{"patterns on short texts", repeat(6, `(access.read ? "a" : "b").matches("a")`, " || "), repeat(7, `(access.read ? "a" : "b").matches("a")`, " || ")},
		{"sizes", repeat(6, `size(subject.exe) == 1`, " || "), repeat(7, `size(subject.exe) == 1`, " || ")},
		{"tests", repeat(255, `access.write`, " || "), repeat(256, `access.write`, " || ") + " || access.read"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if err := ok(tc.most); err != nil {
				t.Errorf("%.100s\nis refused: %v", tc.most, err)
			}
			if err := ok(tc.more); err == nil {
				t.Errorf("%.100s\nis accepted", tc.more)
			}
		})
	}
	t.Run("expressions", func(t *testing.T) {
		c := newWhenCompiler()
		for i := range maxWhens + 1 {
			_, err := c.compile(fmt.Sprint("subject.uid == ", i), setOf(abi.EventOpen))
			if refused := err != nil; refused != (i == maxWhens) {
				t.Fatalf("expression %d: %v", i+1, err)
			}
		}
		if _, err := c.compile("subject.uid == 0", setOf(abi.EventOpen)); err != nil {
			t.Errorf("one that was there before: %v", err)
		}
	})
}

// TestWhenOfAStrayRequest: a source that lets a length or an event slip through must not bring a
// worker down, nor may a request of an event that the expression is not about.
func TestWhenOfAStrayRequest(t *testing.T) {
	for _, tc := range whenExamples {
		w := mustWhen(t, tc.text, tc.events...)
		for _, e := range []abi.Event{abi.EventNone, abi.EventCapable, abi.EventCount, math.MaxUint32} {
			r := whenFor(e)
			r.PathLen, r.ExeLen, r.DetailLen, r.Access, r.Arg[0] = 1<<31, 1<<31, 1<<31, math.MaxUint32, math.MaxUint64
			w.holds(r)
		}
	}
}

// TestWhenInPolicyDocument compiles the examples of docs/policy.md, and looks for every fact,
// function and limit there.
func TestWhenInPolicyDocument(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n### when\n")
	section, _, _ = strings.Cut(section, "\n### ")
	_, table, _ := strings.Cut(section, "| expression | events | true when |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	if len(rows) < 5 {
		t.Fatalf("got %d examples, want at least 5", len(rows))
	}
	for _, row := range rows {
		var cells []string
		for _, c := range regexp.MustCompile("`[^`]*`").FindAllString(row, -1) {
			cells = append(cells, strings.ReplaceAll(strings.Trim(c, "`"), `\|`, "|"))
		}
		var events eventSet
		for _, name := range cells[1:] {
			e, ok := abi.ParseEvent(name)
			if !ok {
				t.Fatalf("no event %s in %s", name, row)
			}
			events.add(e)
		}
		if _, err := newWhenCompiler().compile(cells[0], events); err != nil {
			t.Errorf("%s\n%v", cells[0], err)
		}
	}
	words := []string{"4,096", "2,500", "1,000", "16,384", "args.NAME"}
	for name, f := range allWhenFacts() {
		if f.op != whenArg {
			words = append(words, name)
		}
	}
	for _, f := range whenFunctions() {
		words = append(words, strings.TrimSuffix(strings.ReplaceAll(f.written, "|", `\|`), ":"))
	}
	for _, w := range words {
		if !strings.Contains(section, w) {
			t.Errorf("the section does not mention %s", w)
		}
	}
}
