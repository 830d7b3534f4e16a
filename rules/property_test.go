// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"pgregory.net/rapid"
)

// The generators draw from few words, so that rules and requests meet often.
var (
	genPath = rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(1, 4).Draw(t, "components")
		var b strings.Builder
		for range n {
			b.WriteString("/" + rapid.SampledFrom([]string{"a", "b", "ab", "é", "a\nb", "x.so", "\xff", "[a]", "*"}).Draw(t, "component"))
		}
		return b.String()
	})
	genPattern = rapid.Custom(func(t *rapid.T) string {
		path := genPath.Draw(t, "path")
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return "{literal: !!binary " + base64of(path) + "}"
		case 1:
			return "{prefix: !!binary " + base64of(path) + "}"
		}
		n := rapid.IntRange(1, 4).Draw(t, "pieces")
		glob := "/"
		for range n {
			glob += rapid.SampledFrom([]string{"a", "b", "*", "**/", "/", "?", "[ab]", "[!a]", "{a,b}", "{a/,,*}", "é", ".so", `\*`, "x"}).Draw(t, "piece")
		}
		glob = strings.TrimSuffix(glob, "/") + rapid.SampledFrom([]string{"", "*", "/a", "b"}).Draw(t, "end")
		glob = regexp.MustCompile(`//+`).ReplaceAllString(glob, "/")
		glob = regexp.MustCompile(`\*{3,}`).ReplaceAllString(glob, "**")
		glob = "/" + strings.Trim(glob, "/")
		return "{glob: !!binary " + base64of(glob) + "}"
	})
	genIDs = rapid.SampledFrom([]string{"\"@ids\"", "[4, \"@ids\"]", "0", "1", "[0, 2]", "1-2", "[3, 0-1, 2]", "4294967294"})
)

// genEvents are the lists of events that rules are drawn for, with what they have.
var genEvents = []struct {
	events                 string
	object, detail, access bool
	args                   []string
	content                bool
}{
	{"open", true, false, true, nil, true},
	{"exec", true, false, false, nil, true},
	{"exec, open", true, false, false, nil, true},
	{"open, exec, mmap_exec", true, false, false, nil, true},
	{"exec, module_load", true, false, false, nil, true},
	{"rename", true, true, false, []string{"flags"}, false},
	{"link, rename", true, true, false, nil, false},
	{"symlink, setxattr, open", true, false, false, nil, false},
	{"setxattr, symlink", true, true, false, nil, false},
	{"connect, bind", true, false, false, []string{"family", "port", "addr"}, false},
	{"listen, setuid", false, false, false, nil, false},
	{"setuid, chown", false, false, false, []string{"uid"}, false},
	{"chmod, create", true, false, false, []string{"mode"}, false},
	{"signal", true, false, false, []string{"signal", "target_uid"}, false},
	{"uring_sqpoll", false, false, false, nil, false},
}

var genNumbers = rapid.SampledFrom([]string{"1", "0", "[0, 2]", "1-2", "[3, 0-1, 2]", "0x3", "{any: 3}", "{all: [1, 2]}", "{all: 1, any: 0o6}", "18446744073709551615"})

var genAddrs = rapid.SampledFrom([]string{"\"@nets\"", "0.0.0.1", "\"::/0\"", "0.0.0.0/0", "[0.0.0.2/31, \"::1\"]", "0.0.0.0/30", "\"::/126\"", "\"8000::/1\"", "\"0:0:0:1::/64\""})

// genWhens are expressions that every event can have.
var genWhens = []string{"subject.uid != subject.euid", `subject.exe.startsWith("/a")`, `!subject.exe.endsWith("b")`, "subject.gid - subject.egid < 2",
	`subject.uid == 0 || subject.exe.contains("a")`, `size(event) > 5 && subject.gid > 0`, `subject.exe.matches("(a|b)$")`, "false && subject.uid == 1 || subject.egid == 2"}

// genDigest draws the digests of few contents, the last of which no rule names.
var genDigest = rapid.SampledFrom([]digest{{0}, {1}, {2}, {1, 31: 1}, {3}})

func genBlock(t *rapid.T, object, file, detail, free, access, content bool, args []string) string {
	var parts, subject []string
	maybe := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what) == 0 }
	rarely := func(what string) bool { return rapid.IntRange(0, 39).Draw(t, what) == 0 } // else few rules match
	list := func(what string) string {
		if rapid.IntRange(0, 7).Draw(t, "a set") == 0 {
			return rapid.SampledFrom([]string{`"@paths"`, `"@many-paths"`, `["@paths", /a/b]`}).Draw(t, what)
		}
		most := 3
		if rapid.IntRange(0, 15).Draw(t, "long list") == 0 {
			most = fewPatterns + 10
		}
		return "[" + strings.Join(rapid.SliceOfN(genPattern, 1, most).Draw(t, what), ", ") + "]"
	}
	var of []string // the object
	// Else few rules come as far as the content.
	alone := content && rapid.IntRange(0, 2).Draw(t, "content alone") == 0
	if file && !alone {
		for _, k := range []string{"owner", "group"} {
			if rarely(k + " given") {
				of = append(of, k+": "+genIDs.Draw(t, k))
			}
		}
		if rarely("size given") {
			of = append(of, "size: "+rapid.SampledFrom([]string{"0", "0-4", "[3, 5-]", "4294967296-", "[1-2, 2-9]", "0x10-9223372036854775807"}).Draw(t, "size"))
		}
		if rarely("mode given") {
			of = append(of, "mode: "+rapid.SampledFrom([]string{"{any: setuid}", "{any: [setuid, 0o1]}", "{all: 0o111}", "{all: user_exec, any: [other_write, group_write]}"}).Draw(t, "mode"))
		}
	}
	if object && !alone && rapid.Bool().Draw(t, "path given") {
		of = append(of, "path: "+list("object.path"))
	} else if content && (alone || rapid.IntRange(0, 3).Draw(t, "content given") > 0) {
		if rapid.Bool().Draw(t, "sha256 given") {
			var sums []string
			for _, d := range rapid.SliceOfN(genDigest.Filter(func(d digest) bool { return d[0] < 3 }), 1, 3).Draw(t, "object.sha256") {
				sums = append(sums, fmt.Sprintf("%x", d))
			}
			of = append(of, "sha256: ["+strings.Join(sums, ", ")+"]")
		}
		if rapid.Bool().Draw(t, "format given") {
			of = append(of, "format: "+rapid.SampledFrom([]string{"elf", "[script]", "[elf, script]", "[other, elf]", "[script, other, elf]"}).Draw(t, "object.format"))
		}
		if rapid.Bool().Draw(t, "fsverity given") {
			zeros := strings.Repeat("00", 32)
			of = append(of, "fsverity: "+rapid.SampledFrom([]string{"any", "none", "[none, any]", "sha256:" + zeros, "[none, sha512:" + zeros + zeros + "]", `"@verity"`, `[none, "@verity"]`}).Draw(t, "object.fsverity"))
		}
		if len(of) == 0 || rapid.Bool().Draw(t, "scan given") {
			of = append(of, "scan: "+rapid.SampledFrom([]string{"clean", "[infected]", "[infected, clean]"}).Draw(t, "object.scan"))
		}
		if !alone && rapid.Bool().Draw(t, "path too") {
			of = append(of, "path: "+list("object.path"))
		}
	}
	if len(of) > 0 {
		parts = append(parts, "object: {"+strings.Join(of, ", ")+"}")
	}
	if alone {
		return parts[0]
	}
	if detail && rapid.Bool().Draw(t, "detail given") {
		if free {
			parts = append(parts, "detail: "+rapid.SampledFrom([]string{"'**'", "'*'", "'a*'", "{prefix: a}", "[a, '*b']", "'**/b'", "ab"}).Draw(t, "free detail"))
		} else {
			parts = append(parts, "detail: "+list("detail"))
		}
	}
	var numbers []string
	for _, a := range args {
		if rapid.Bool().Draw(t, a+" given") {
			gen := genNumbers
			if a == addrName {
				gen = genAddrs
			}
			numbers = append(numbers, a+": "+gen.Draw(t, a))
		}
	}
	if len(numbers) > 0 {
		parts = append(parts, "args: {"+strings.Join(numbers, ", ")+"}")
	}
	if maybe("exe given") {
		subject = append(subject, "exe: "+list("subject.exe"))
	}
	for _, k := range []string{"uid", "gid", "euid", "egid"} {
		if maybe(k + " given") {
			subject = append(subject, k+": "+genIDs.Draw(t, k))
		}
	}
	if rarely("loginuid given") {
		subject = append(subject, "loginuid: "+rapid.SampledFrom([]string{"unset", "[0, unset]", "1-2", "3"}).Draw(t, "loginuid"))
	}
	if rarely("capabilities given") {
		subject = append(subject, "capabilities: "+rapid.SampledFrom([]string{"{any: CAP_SYS_ADMIN}", "{all: [CHOWN, KILL]}", "{any: [CAP_BPF, 0x1], all: 0x2}"}).Draw(t, "capabilities"))
	}
	if rarely("session given") {
		subject = append(subject, "session: "+rapid.SampledFrom([]string{"unset", "[0, unset]", "2-3", "1"}).Draw(t, "session"))
	}
	if rarely("host_namespaces given") {
		subject = append(subject, "host_namespaces: "+rapid.SampledFrom([]string{"{all: [mnt, user]}", "{any: [pid, net]}", "{any: mnt, all: user}"}).Draw(t, "host_namespaces"))
	}
	if maybe("cgroup given") {
		subject = append(subject, "cgroup: "+rapid.SampledFrom([]string{"/a", "[/a, /bcd]", "/a/b/c"}).Draw(t, "cgroup"))
	}
	if rapid.IntRange(0, 7).Draw(t, "tree given") == 0 {
		subject = append(subject, "process_tree: "+rapid.SampledFrom([]string{"/p", "[/r, /q]", "/q", "[/q, /p]"}).Draw(t, "tree"))
	}
	if len(subject) > 0 {
		parts = append(parts, "subject: {"+strings.Join(subject, ", ")+"}")
	}
	if access && maybe("access given") {
		parts = append(parts, "access: "+rapid.SampledFrom([]string{"read", "[write, append]", "[truncate, create]"}).Draw(t, "access"))
	}
	return strings.Join(parts, ", ")
}

// genSets are what rules name with @.
var genSets = rapid.Custom(func(t *rapid.T) string {
	paths := func(least, most int) string {
		return strings.Join(rapid.SliceOfN(genPattern, least, most).Draw(t, "patterns"), ", ")
	}
	many := fewPatterns + 1
	if rapid.IntRange(0, 3).Draw(t, "long sets") != 0 { // they take time to draw
		many = 1
	}
	return "sets:\n  paths: [" + paths(1, 2) + "]\n  many-paths: [" + paths(many, many+2) + "]\n  ids: [1, 3-4]\n  nets: [0.0.0.1, \"::/126\"]\n  verity: [sha256:" + strings.Repeat("00", 32) + ", sha256:" + strings.Repeat("01", 32) + "]\n"
})

func genFile(t *rapid.T) string {
	var b strings.Builder
	def := []string{"allow", "deny", "audit", "{deny: ENOENT}"}
	verdict := rapid.SampledFrom(append(def, "ask", "{ask: {default: allow, within: 2s}}"))
	fmt.Fprintf(&b, "version: 1\ndefault: %s\nscope: {paths: [/]}\n%srules:\n", rapid.SampledFrom(def).Draw(t, "default"), genSets.Draw(t, "sets"))
	n := rapid.IntRange(0, 6).Draw(t, "rules")
	if rapid.IntRange(0, 7).Draw(t, "many rules") == 0 {
		n = rapid.IntRange(few, 40).Draw(t, "rules")
	}
	for i := range n {
		g := rapid.SampledFrom(genEvents).Draw(t, "events")
		block := func() string {
			return genBlock(t, g.object, g.object && !strings.Contains("symlink, setxattr, open; setxattr, symlink; connect, bind; chmod, create", g.events), g.detail, g.events == "setxattr, symlink", g.access, g.content, g.args)
		}
		v := verdict.Draw(t, "verdict")
		if g.access && rapid.IntRange(0, 3).Draw(t, "verdict in part") == 0 {
			v = rapid.SampledFrom([]string{"{allow: [read]}", "{allow: [write, append]}", "kill"}).Draw(t, "verdict")
		}
		fmt.Fprintf(&b, "- {id: r%d, events: [%s], verdict: %s", i, g.events, v)
		if s := block(); s != "" {
			b.WriteString(", " + s)
		}
		if rapid.IntRange(0, 3).Draw(t, "when given") == 0 {
			b.WriteString(", when: '" + rapid.SampledFrom(genWhens).Draw(t, "when") + "'")
		}
		if rapid.Bool().Draw(t, "not given") {
			if s := block(); s != "" {
				b.WriteString(", not: {" + s + "}")
			}
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func genRequest(t *rapid.T) *abi.Request {
	id := rapid.Uint32Range(0, 4)
	var event abi.Event
	if rapid.IntRange(0, 9).Draw(t, "any event") == 0 {
		event = abi.Event(rapid.IntRange(0, int(abi.EventCount)).Draw(t, "event"))
	} else {
		names := strings.Split(rapid.SampledFrom(genEvents).Draw(t, "events").events, ", ")
		event, _ = abi.ParseEvent(rapid.SampledFrom(names).Draw(t, "event"))
	}
	r := request(event, genPath.Draw(t, "path"), genPath.Draw(t, "exe"), func(r *abi.Request) {
		r.UID, r.GID, r.EUID, r.EGID = id.Draw(t, "uid"), id.Draw(t, "gid"), id.Draw(t, "euid"), id.Draw(t, "egid")
		for i := range rapid.IntRange(0, 3).Draw(t, "levels") {
			r.Cgroup[i] = rapid.Uint64Range(1, 8).Draw(t, "cgroup")
		}
		for _, bit := range fakeMarks {
			if rapid.Bool().Draw(t, "in a tree") {
				r.Trees |= bit
			}
		}
		r.Trees |= rapid.SampledFrom([]uint64{0, 1 << 7}).Draw(t, "another tree")
		detail := genPath.Draw(t, "detail")
		if rapid.IntRange(0, 3).Draw(t, "free text") == 0 {
			detail = rapid.SampledFrom([]string{"", "a", "b", "ab", "a/b", "cb"}).Draw(t, "detail")
		}
		r.DetailLen = uint32(copy(r.DetailBuf[:], detail))
		mappedBits := rapid.SampledFrom([]uint64{0, 0xffff << 32}).Draw(t, "ipv4")
		for i := range r.Arg {
			r.Arg[i] = rapid.SampledFrom([]uint64{0, 1, 2, 3, 4, 6, 7, 1 << 63, 1<<64 - 1}).Draw(t, "arg")
		}
		if rapid.Bool().Draw(t, "address") {
			r.Arg[0], r.Arg[4] = rapid.SampledFrom([]uint64{1, 2, 10}).Draw(t, "family"), rapid.SampledFrom([]uint64{0, 1, 1 << 63}).Draw(t, "high")
			r.Arg[5] = mappedBits | rapid.Uint64Range(0, 4).Draw(t, "low")
		}
		r.Access = abi.Access(rapid.Uint32Range(0, 63).Draw(t, "access"))
		if rapid.IntRange(0, 4).Draw(t, "flagged") == 0 {
			r.Flags = rapid.Uint32Range(0, 15).Draw(t, "flags")
		}
		if rapid.IntRange(0, 3).Draw(t, "credentials known") > 0 {
			r.Credentials = abi.Credentials{Known: true, LoginUID: rapid.SampledFrom([]uint32{0, 1, 3, abi.NoLogin}).Draw(t, "loginuid"), Session: rapid.SampledFrom([]uint32{0, 1, 2, abi.NoSession}).Draw(t, "session"),
				Capabilities: rapid.SampledFrom([]uint64{0, 1, 2, 3, 1 << 21, 1<<21 | 1<<5 | 1, 1 << 39, 1<<64 - 1}).Draw(t, "capabilities"), HostNamespaces: abi.Namespaces(rapid.Uint32Range(0, 127).Draw(t, "host namespaces"))}
		}
		r.Mode = rapid.SampledFrom([]uint32{0o100755, 0, 0o100644, 0o40755, 0o104757, 0o100010}).Draw(t, "mode")
		owner := rapid.OneOf(id, rapid.Just(uint32(abi.NoOwner)))
		r.OwnerUID, r.OwnerGID = owner.Draw(t, "owner"), owner.Draw(t, "group")
		r.Size = rapid.SampledFrom([]abi.Size{{}, {Known: true}, {Known: true, Bytes: 3}, {Known: true, Bytes: 5}, {Known: true, Bytes: 1 << 32}, {Known: true, Bytes: 1<<63 - 1}}).Draw(t, "size")
		c := rapid.SampledFrom(contents).Draw(t, "content")
		r.Learn(&c)
	})
	return r
}

// fakeMarks are the bits of all process trees that rules name.
var fakeMarks = map[string]uint64{"/p": 1 << 5, "/q": 1, "/r": 1 << 63}

func withFakeMarks(rs *RuleSet) *RuleSet {
	var bits []uint64
	for _, t := range rs.Trees() {
		bits = append(bits, fakeMarks[t.Path])
	}
	return rs.WithMarks(bits, 0)
}

// filed returns the same rule set with each rule filed that can be, however few there are.
func filed(rs *RuleSet) *RuleSet {
	c := *rs
	for e := range c.lists {
		c.lists[e].root = nil
	}
	c.classify(0)
	return &c
}

// TestDecideIsTheReference draws rule sets and requests: Decide, Explain and the
// reference must say the same, and facts that are not consulted must not matter.
func TestDecideIsTheReference(t *testing.T) {
	byRule := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		src := genFile(t)
		rs, err := Load("f.yaml", []byte(src), Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatalf("the generator wrote a bad file:\n%s\n%v", src, err)
		}
		rs = withFakeMarks(rs)
		filed, f := filed(rs), rs.parsed()
		for range 8 {
			r := genRequest(t)
			got, want := rs.Decide(r), reference(f, r)
			for need, n := range checkNeeds(t, []*RuleSet{rs, filed}, f, r) {
				byRule[strings.Join(need.Names(), " ")+" needed"] += n
			}
			if got.Needs() != 0 {
				t.Fatalf("Decide needs %v of a request that has it", FieldNames(got.Needs()))
			}
			if other := filed.Decide(r); other != got {
				t.Fatalf("filed: rule %d, compared one after another: %d\n%s\n%s", other.Rule, got.Rule, src, rs.Explain(r))
			}
			if got.Rule != want {
				t.Fatalf("Decide: rule %d, the reference says %d\n%s\n%s", got.Rule, want, src, rs.Explain(r))
			}
			if k, ok := abi.DecideKernel(rs.KernelRules(r.Event), r); ok {
				byRule["the kernel"]++
				if k.Rule != want || k.Errno != got.Verdict.Errno || got.Verdict.Action > Deny {
					t.Fatalf("the kernel: rule %d, errno %d, the reference says %d\n%s\n%s", k.Rule, k.Errno, want, src, rs.Explain(r))
				}
			}
			wantVerdict := f.def
			if want >= 0 {
				wantVerdict = f.rules[want].verdict
				if only := f.rules[want].only; only != 0 && r.Access&^only != 0 {
					wantVerdict = Verdict{Deny, errnoByName("EACCES")}
				}
				byRule["a rule"]++
			} else {
				byRule["the default"]++
			}
			if got.Verdict != wantVerdict {
				t.Fatalf("Decide: %v, want %v\n%s", got.Verdict, wantVerdict, src)
			}
			x := rs.Explain(r)
			if x.Decision != got || x.Rule != rs.RuleID(got.Rule) || x.Line != rs.Line(got.Rule) {
				t.Fatalf("Explain: %+v, Decide says %+v\n%s", x, got, src)
			}
			for i, s := range x.Steps {
				decisive := got.Rule >= 0 && i == len(x.Steps)-1
				if s.Matched != decisive || !s.Matched && s.Reason == "" {
					t.Fatalf("Explain: step %d of %d is %+v, the decisive rule is %d", i, len(x.Steps), s, got.Rule)
				}
			}
			if (rs.Consulted(r.Event)&abi.FieldArgs != 0) != (rs.ConsultedArgs(r.Event) != 0) {
				t.Fatalf("Consulted %v, ConsultedArgs %#x", FieldNames(rs.Consulted(r.Event)), rs.ConsultedArgs(r.Event))
			}
			if forget(r, rs.Consulted(r.Event), rs.ConsultedArgs(r.Event)); rs.Decide(r) != got {
				t.Fatalf("a fact that is not in Consulted %v mattered\n%s", FieldNames(rs.Consulted(r.Event)), src)
			}
		}
	})
	t.Logf("decided by: %v", byRule)
	for _, f := range contentFacts {
		if byRule[strings.Join(f.field.Names(), " ")+" needed"] == 0 {
			t.Errorf("%s is never needed: %v", f.key, byRule)
		}
	}
	if byRule["a rule"] == 0 || byRule["the default"] == 0 {
		t.Errorf("the generators only reach %v", byRule)
	}
}

// forget changes every fact that is not in keep.
func forget(r *abi.Request, keep abi.Fields, args uint8) {
	if keep&abi.FieldPath == 0 {
		r.PathLen, r.Flags = 0, r.Flags^abi.FlagPathTruncated
	}
	if keep&(abi.FieldPath|abi.ContentFields|abi.FieldAttributes) == 0 {
		r.Flags ^= abi.FlagNoObject
	}
	if c := &r.Credentials; keep&abi.FieldCredentials == 0 {
		*c = abi.Credentials{Known: !c.Known, LoginUID: c.LoginUID + 1, Session: c.Session + 1, Capabilities: ^c.Capabilities, HostNamespaces: ^c.HostNamespaces}
	}
	if keep&abi.FieldAttributes == 0 {
		r.OwnerUID, r.OwnerGID, r.Mode = r.OwnerUID+1, r.OwnerGID+1, r.Mode^abi.ModeBits
		if keep&abi.ContentFields == 0 {
			r.Mode = ^r.Mode
		}
	}
	if keep&abi.FieldSize == 0 {
		r.Size = abi.Size{Known: !r.Size.Known, Bytes: r.Size.Bytes + 1}
	}
	r.ForgetContent(^keep)
	if keep&abi.FieldDetail == 0 {
		r.DetailLen, r.Flags = 0, r.Flags^abi.FlagDetailTruncated
	}
	for i := range r.Arg {
		if args>>i&1 == 0 {
			r.Arg[i]++
		}
	}
	if keep&abi.FieldExe == 0 {
		r.ExeLen, r.Flags = 0, r.Flags^abi.FlagNoExe
	}
	if keep&abi.FieldUID == 0 {
		r.UID, r.EUID = r.UID+1, r.EUID+1
	}
	if keep&abi.FieldGID == 0 {
		r.GID, r.EGID = r.GID+1, r.EGID+1
	}
	if keep&abi.FieldCgroup == 0 {
		r.Cgroup[0]++
	}
	if keep&abi.FieldTree == 0 {
		r.Trees = ^r.Trees
	}
	if keep&abi.FieldAccess == 0 {
		r.Access = ^r.Access
	}
	r.Comm[0]++
	r.Ino++
	r.TGID++
}

func TestConsulted(t *testing.T) {
	rs := mustLoad(t, contractFile)
	for e, want := range map[abi.Event]string{abi.EventExec: "path exe uid gid cgroup", abi.EventOpen: "path uid gid access",
		abi.EventNone: "nothing", abi.EventCount: "nothing"} {
		if got := strings.Join(FieldNames(rs.Consulted(e)), " "); got != want {
			t.Errorf("%v: got %s, want %s", e, got, want)
		}
	}
	// What stands behind a rule without conditions is never looked at.
	rs = mustLoad(t, head+"rules:\n- {id: a, events: [open], verdict: deny}\n- {id: b, events: [open, exec], subject: {uid: 1}, verdict: deny}\n")
	if got := rs.Consulted(abi.EventOpen); got != 0 {
		t.Errorf("behind a rule without conditions: got %v, want nothing", FieldNames(got))
	}
	if got := rs.Consulted(abi.EventExec); got != abi.FieldUID {
		t.Errorf("the other event: got %v, want uid", FieldNames(got))
	}
}

func TestEvents(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"no rules", head, "[]"},
		{"default deny", "version: 1\ndefault: deny\nscope: {paths: [/a]}", "[open exec]"},
		{"default audit", "version: 1\ndefault: audit\nscope: {paths: [/a]}", "[open exec]"},
		{"a rule", head + "rules: [{id: a, events: [exec], verdict: deny}]", "[exec]"},
		{"listed", head + "events: [connect]", "[connect]"},
		{"listed, a rule, and default deny", "version: 1\ndefault: deny\nscope: {paths: [/a]}\nevents: [mount, connect]\nrules: [{id: a, events: [signal], verdict: allow}]", "[open exec mount connect signal]"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := fmt.Sprint(mustLoad(t, tc.src).Events()); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestRuleSet(t *testing.T) {
	src := []byte(contractFile)
	rs, err := Load("f.yaml", src, Options{Epoch: 7, CgroupID: fakeCgroups})
	if err != nil {
		t.Fatal(err)
	}
	src[0] = '#'
	next := rs.WithEpoch(8)
	got := fmt.Sprintln(rs.Epoch(), next.Epoch(), next.Fingerprint() == rs.Fingerprint(), rs.Len(), rs.RuleID(0), rs.RuleID(-1), rs.RuleID(99),
		rs.Line(0), rs.Line(-1), rs.Message(0), rs.Message(-1), rs.Scope(), rs.Default().Rule, string(rs.Source()) == contractFile)
	want := "7 8 true 5 no-shells default default 8 0 shells are not run here; ask ops  {[/srv/app] [/system.slice/app.service] [] [] [] []} -1 true\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestDecideDoesNotAllocate goes through every kind of matcher and a miss.
func TestDecideDoesNotAllocate(t *testing.T) {
	rs := mustLoad(t, contractFile+`  - id: many
    events: [exec, open]
    object: {path: [/1, /2, /3, /4, /5, /6, /7, /8, /9, "/{a,b}*/[!c]?/**/d", "/*`+strings.Repeat("?{a,b}", 30)+`"]}
    subject: {euid: 5}
    verdict: deny
  - id: numbers
    events: [connect]
    args: {family: [inet, inet6], port: [80, 443, 8000-8999], type: {all: 1}}
    not: {args: {addr_high: 0, addr: [10.0.0.0/8, "2001:db8::/32"]}, subject: {uid: 0}}
    verdict: deny
  - id: names
    events: [rename]
    detail: [{prefix: /srv/app}, "/**/*.so"]
    verdict: deny
`)
	for _, r := range []*abi.Request{
		request(abi.EventConnect, "", "", func(r *abi.Request) { r.Arg, r.Flags = [abi.Args]uint64{2, 1, 6, 8443, 1}, abi.FlagNoObject }),
		request(abi.EventRename, "/a", "", func(r *abi.Request) { r.DetailLen = uint32(copy(r.DetailBuf[:], "/a/b/c/d.so")) }),
		request(abi.EventExec, "/srv/app/bin/sh", "/usr/bin/python3.11", func(r *abi.Request) { r.GID, r.Cgroup[0] = 100, 4 }),
		request(abi.EventOpen, "/srv/a/b/c.log", "", func(r *abi.Request) { r.Access = abi.AccessWrite }),
		request(abi.EventOpen, "/abc/défg/h/"+strings.Repeat("x", 4000), "", func(r *abi.Request) { r.EUID = 5 }),
		request(abi.EventNone, "/x", "", nil),
	} {
		for _, rs := range []*RuleSet{rs, filed(rs)} {
			if n := testing.AllocsPerRun(100, func() { rs.Decide(r) }); n != 0 {
				t.Errorf("Decide of %v %.40q: %v allocations, want 0", r.Event, r.Path(), n)
			}
		}
	}
}

// TestLengthsFromOutside: a source that lets a length slip through must not
// bring a worker down.
func TestLengthsFromOutside(t *testing.T) {
	rs := mustLoad(t, contractFile)
	r := request(abi.EventExec, "/srv", "/usr", nil)
	r.PathLen, r.ExeLen, r.DetailLen = 1<<31, 1<<31, 1<<31
	rs.Decide(r)
	filed(rs).Decide(r)
	_ = rs.Explain(r).String()
	rs = mustLoad(t, head+"rules: [{id: a, events: [rename], detail: [/a, {prefix: /b}, '/*/c'], verdict: deny}]")
	r.Event = abi.EventRename
	rs.Decide(r)
	filed(rs).Decide(r)
	_ = rs.Explain(r).String()
}
