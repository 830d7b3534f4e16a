// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// patience ends a test that would hang.
const patience = 30 * time.Second

// source hands one request at a time to a worker.
type source struct {
	asked chan *abi.Request
	wake  chan struct{} // buffer of one
}

func (s source) Next(r *abi.Request) bool {
	select {
	case q := <-s.asked:
		*r = *q
		return true
	default:
		return false
	}
}

func (s source) Reply(_ *abi.Request, _ abi.Verdict) bool { return true }
func (s source) Hold(*abi.Request) bool                   { return true }
func (s source) Park(d time.Duration) {
	select {
	case <-s.wake:
	case <-time.After(d):
	}
}

func (s source) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fetcher finds in each file what its path says.
type fetcher struct{}

func contentOf(r *abi.Request) abi.Content {
	n := len(r.Path())
	c := abi.Content{Known: abi.ContentFields, Format: abi.Format(1 + n%3), Digest: [32]byte(bytes.Repeat([]byte{byte(n % 4)}, 32)), Scan: abi.Scan(1 + n%2)}
	c.Verity.Alg = abi.VerityNone + abi.VerityAlg(n%2)
	copy(c.Verity.Bytes(), c.Digest[:])
	return c
}

func (fetcher) Fetch(h arbiter.Held, r *abi.Request, want abi.Fields, _ time.Duration) bool {
	c := contentOf(r)
	if want != abi.FieldDigest {
		c.Known = want
	}
	h.Content(c)
	return true
}

// genRules draws a rule set that can look at every fact there is.
func genRules(t *rapid.T, name string) *rules.RuleSet {
	pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, what) }
	maybe := func(what string, from ...string) string {
		return pick(what, append([]string{"", "", ""}, from...)...)
	}
	block := func(event string) string {
		var parts, subject []string
		add := func(to *[]string, format, value string) {
			if value != "" {
				*to = append(*to, fmt.Sprintf(format, value))
			}
		}
		var object []string
		add(&object, "path: %s", maybe("path", "/a", "{prefix: /a}", "/**/b", `"/{a,b}/*"`))
		if event != "connect" {
			add(&object, "owner: %s", maybe("owner", "0", "[0, 2]", "1-2"))
			add(&object, "size: %s", maybe("size", "0", "[0, 2-]", "1-2"))
			add(&object, "mode: %s", maybe("mode", "{any: [setuid, other_write]}", "{all: 0o111}"))
		}
		if event == "open" {
			add(&object, "format: %s", maybe("format", "elf", "[script, other]", "[elf, script, other]"))
			add(&object, "fsverity: %s", maybe("fsverity", "any", "none", "[none, sha256:"+strings.Repeat("01", 32)+"]", "[any, none]"))
			add(&object, "scan: %s", maybe("scan", "clean", "infected", "[infected, clean]"))
			add(&object, "sha256: %s", maybe("sha256", `"`+strings.Repeat("01", 32)+`"`, `"`+strings.Repeat("02", 32)+`"`))
		}
		add(&parts, "object: {%s}", strings.Join(object, ", "))
		switch event {
		case "open":
			add(&parts, "access: %s", maybe("access", "read", "[write, create]", "truncate"))
		case "rename":
			add(&parts, "detail: %s", maybe("detail", "/a", "{prefix: /a}", "/**/b"))
			add(&parts, "args: {flags: %s}", maybe("flags", "1", "[0, 2]", "{any: 3}"))
		case "connect":
			add(&parts, "args: {port: %s}", maybe("port", "1", "1-2"))
			add(&parts, "args: {addr: %s}", pick("addr", "", "0.0.0.0/31"))
			if len(parts) > 1 && strings.HasPrefix(parts[len(parts)-2], "args") {
				parts = parts[:len(parts)-1]
			}
		}
		if rapid.Bool().Draw(t, "anybody") { // else few requests come as far as their content
			return strings.Join(parts, ", ")
		}
		add(&subject, "exe: %s", maybe("exe", "/a", "/**/b", "{prefix: /b}"))
		for _, id := range []string{"uid", "gid", "euid", "egid"} {
			add(&subject, id+": %s", maybe(id, "0", "[0, 2]", "1-2"))
		}
		add(&subject, "loginuid: %s", maybe("loginuid", "unset", "[0, unset]"))
		add(&subject, "session: %s", maybe("session", "unset", "[2, unset]"))
		add(&subject, "capabilities: %s", maybe("capabilities", "{any: [CHOWN, KILL]}", "{all: CAP_CHOWN}"))
		add(&subject, "host_namespaces: %s", maybe("host_namespaces", "{all: [mnt, user]}", "{any: pid}"))
		add(&subject, "cgroup: %s", maybe("cgroup", "/g1", "[/g1, /g2]"))
		add(&subject, "process_tree: %s", maybe("process_tree", "/p", "[/q, /p]", "/q"))
		if len(subject) > 0 {
			parts = append(parts, "subject: {"+strings.Join(subject, ", ")+"}")
		}
		return strings.Join(parts, ", ")
	}
	verdicts := []string{"allow", "deny", "audit", "{deny: ENOENT}"}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndefault: %s\nscope: {paths: [/]}\nevents: [open, rename, connect]\non_fail: %s\nrules:\n", pick("default", verdicts...), pick("on_fail", "allow", "deny"))
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		event := pick("event", "open", "rename", "connect")
		fmt.Fprintf(&b, "- {id: r%d, events: [%s], verdict: %s", i, event, pick("verdict", verdicts...))
		if s := block(event); s != "" {
			b.WriteString(", " + s)
		}
		if s := block(event); s != "" && rapid.Bool().Draw(t, "not") {
			b.WriteString(", not: {" + s + "}")
		}
		b.WriteString("}\n")
	}
	rs, err := rules.Load(name, []byte(b.String()), rules.Options{Epoch: 1, CgroupID: func(p string) (uint64, error) { return uint64(p[2] - '0'), nil }})
	if err != nil {
		t.Fatalf("the generator wrote a bad file:\n%s\n%v", b.String(), err)
	}
	// The kernel side has a mark for each program, whatever rules name it.
	var marks []uint64
	for _, tree := range rs.Trees() {
		marks = append(marks, map[string]uint64{"/p": 1 << 63, "/q": 2}[tree.Path])
	}
	return rs.WithMarks(marks, 5)
}

// genRequest draws a request, with facts that the source has not looked for.
func genRequest(t *rapid.T) *abi.Request {
	r := &abi.Request{PostedNS: 1 << 62, Event: rapid.SampledFrom([]abi.Event{abi.EventOpen, abi.EventRename, abi.EventConnect}).Draw(t, "event"),
		Access: abi.Access(rapid.Uint32Range(0, 63).Draw(t, "access")), Have: abi.AllFields &^ abi.ContentFields,
		Mode: rapid.SampledFrom([]uint32{0o100644, 0o100757, 0o40755, 0}).Draw(t, "mode"), OwnerUID: rapid.Uint32Range(0, 2).Draw(t, "owner"),
		Size: rapid.SampledFrom([]abi.Size{{}, {Known: true}, {Known: true, Bytes: 2}, {Known: true, Bytes: 1 << 40}}).Draw(t, "size"),
		Credentials: abi.Credentials{Known: true, LoginUID: rapid.SampledFrom([]uint32{0, 7, abi.NoLogin}).Draw(t, "loginuid"), Session: rapid.SampledFrom([]uint32{0, 2, abi.NoSession}).Draw(t, "session"),
			Capabilities: rapid.Uint64Range(0, 63).Draw(t, "capabilities"), HostNamespaces: abi.Namespaces(rapid.Uint32Range(0, 127).Draw(t, "host namespaces"))}}
	if rapid.IntRange(0, 3).Draw(t, "flagged") == 0 {
		r.Flags = rapid.Uint32Range(0, uint32(abi.AllFlags)).Draw(t, "flags")
	}
	id := rapid.Uint32Range(0, 3)
	r.UID, r.GID, r.EUID, r.EGID = id.Draw(t, "uid"), id.Draw(t, "gid"), id.Draw(t, "euid"), id.Draw(t, "egid")
	for i := range rapid.IntRange(0, 3).Draw(t, "levels") {
		r.Cgroup[i] = rapid.Uint64Range(1, 4).Draw(t, "cgroup")
	}
	r.Trees = rapid.SampledFrom([]uint64{0, 2, 1 << 63, 1<<63 | 2, 4}).Draw(t, "trees")
	r.Marks = rapid.SampledFrom([]uint32{5, 6, 7, 8, 4}).Draw(t, "marks")
	for i := range r.Arg {
		r.Arg[i] = rapid.Uint64Range(0, 3).Draw(t, "arg")
	}
	path := rapid.SampledFrom([]string{"/a", "/a/b", "/b", "/a/\xff\n", "/\u202e/b", "/x/\x1b[2J/b"})
	r.PathLen = uint32(copy(r.PathBuf[:], path.Draw(t, "path")))
	r.DetailLen = uint32(copy(r.DetailBuf[:], path.Draw(t, "detail")))
	r.ExeLen = uint32(copy(r.ExeBuf[:], path.Draw(t, "exe")))
	copy(r.Comm[:], rapid.SampledFrom([]string{"", "sh", "\xffsh"}).Draw(t, "comm"))
	if rapid.IntRange(0, 3).Draw(t, "some facts") == 0 {
		r.Have &= abi.Fields(rapid.Uint32Range(0, uint32(abi.AllFields)).Draw(t, "have"))
	}
	return r
}

// A decision is the same when it is made again from its line in the verdict log, of those
// that were decided and those from the cache alike; and what another rule set says of the
// line is what it says of the request.
func TestRecordedDecisionsRepeat(t *testing.T) {
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		live, other := genRules(t, "live.yaml"), genRules(t, "other.yaml")
		src := source{make(chan *abi.Request, 1), make(chan struct{}, 1)}
		a, err := arbiter.New(arbiter.Config{Rules: live, CacheEntries: 64, Recent: 1, SpinFor: -1, Contents: fetcher{}, Workers: []arbiter.Worker{{Source: src, CPU: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		sub := a.Subscribe(64, arbiter.SubscribeOptions{Allowed: true})
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		own := NewTally(New(live, Options{SameScope: true, Cgroups: true}))
		candidate := New(other, Options{SameScope: true, Cgroups: true})
		for range 4 {
			r := genRequest(t)
			for range 2 {
				src.asked <- r
				src.Wake()
				var e *arbiter.Event
				select {
				case e = <-sub.C:
				case <-time.After(patience):
					t.Fatal("no event")
				}
				back, err := audit.Decode(audit.AppendEvent(nil, e))
				if err != nil {
					t.Fatalf("the line of %+v: %v", e, err)
				}
				switch result := own.Add(back); {
				case result == NoDecision:
					outcomes["failure verdict"]++
				case result == Unknown:
					outcomes["cannot tell"]++
				case result != Same:
					t.Fatalf("decided as %+v by\n%s\nand from its line as another: %+v", e, live.Source(), own.Groups()[0].After)
				case back.Cached:
					outcomes["from the cache"]++
				default:
					outcomes["decided"]++
				}
				got, missing := candidate.Decide(back)
				if missing != 0 || got.Reason != abi.ReasonNone {
					continue
				}
				full, c := *r, contentOf(r)
				full.Learn(&c)
				want := other.Decide(&full)
				if got.Verdict != want.Verdict || got.Rule != other.RuleID(want.Rule) {
					t.Fatalf("of %+v the other set says %v by %s, and of its line %v by %s\n%s", e, want.Verdict, other.RuleID(want.Rule), got.Verdict, got.Rule, other.Source())
				}
				outcomes["by another set"]++
				if back.Format != abi.FormatUnknown || back.SHA256 != "" || back.Verity.Alg != abi.VerityUnknown {
					outcomes["by a content"]++
				}
			}
		}
	})
	t.Logf("%v", outcomes)
	for _, what := range []string{"decided", "from the cache", "cannot tell", "failure verdict", "by another set", "by a content"} {
		if outcomes[what] == 0 {
			t.Errorf("the generators never reach %q: %v", what, outcomes)
		}
	}
}
