// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// given is a source that always has the same request.
type given struct{ r abi.Request }

func (g *given) Next(r *abi.Request) bool {
	*r = g.r
	r.PostedNS = 1 << 62 // in the future: it has not waited
	return true
}
func (g *given) Reply(*abi.Request, abi.Verdict) bool { return true }
func (g *given) Park(time.Duration)                   {}
func (g *given) Hold(*abi.Request) bool               { return true }
func (g *given) Wake()                                {}

func (g *given) path(s string)   { g.r.PathLen = uint32(copy(g.r.PathBuf[:], s)) }
func (g *given) detail(s string) { g.r.DetailLen = uint32(copy(g.r.DetailBuf[:], s)) }
func (g *given) exe(s string)    { g.r.ExeLen = uint32(copy(g.r.ExeBuf[:], s)) }

const eventRules = `version: 1
default: allow
on_fail: {deny: EIO}
scope: {paths: [/t]}
events: [connect]
rules:
  - {id: into-keys, events: [rename], object: {path: /t/**}, detail: {prefix: /t/keys}, subject: {exe: /**}, verdict: deny}
  - {id: web, events: [connect], args: {port: 443, family: inet}, verdict: audit}
`

// The cache tells apart what the rules look at, and nothing else.
func TestCacheSeesDetailAndArgs(t *testing.T) {
	g := &given{}
	w := one(t, mustRules(t, eventRules, 1), 4096, g)
	step := func(rule int32, hit bool) {
		t.Helper()
		hits := w.counters.hits.Load()
		w.step()
		var e Event
		for {
			o, ok := w.journal.next(&e)
			if !ok {
				break
			}
			if o.decision != rule {
				t.Errorf("decided by rule %d, want %d", o.decision, rule)
			}
		}
		if got := w.counters.hits.Load() > hits; got != hit {
			t.Errorf("from the cache: %t, want %t", got, hit)
		}
	}
	g.r.Event = abi.EventRename
	g.path("/t/a")
	g.exe("/bin/mv")
	g.detail("/t/b")
	step(-1, false)
	step(-1, true)
	g.detail("/t/keys/b")
	step(0, false)
	g.r.Arg[0] = 1 // flags, which no rule looks at
	step(0, true)

	g.r = abi.Request{Event: abi.EventConnect, Flags: abi.FlagNoObject, Arg: [abi.Args]uint64{2, 1, 6, 443, 0, 99}}
	step(1, false)
	g.r.Arg[5] = 100 // the address
	step(1, true)
	g.r.Arg[3] = 80
	step(-1, false)
	g.r.Arg[0], g.r.Arg[3] = 10, 443
	step(-1, false)
}

// Two requests have one key only if they agree in everything that is looked at.
func TestKeyIsInjective(t *testing.T) {
	g := &given{}
	w := one(t, mustRules(t, eventRules, 1), 4096, g)
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "/", "/t", "/t/", "\x00", "/t\x03\x00\x00\x00", "\x02\x00\x00\x00/t"}
	type facts struct {
		event             abi.Event
		path, detail, exe string
		noObject, noExe   bool
		family, port      uint64
	}
	seen := map[string]facts{}
	for range 20_000 {
		text := func() string { return texts[random.IntN(len(texts))] }
		f := facts{event: abi.EventRename, path: text(), detail: text(), exe: text(), noObject: random.IntN(4) == 0, noExe: random.IntN(4) == 0}
		if random.IntN(4) == 0 {
			f = facts{event: abi.EventConnect, family: random.Uint64N(3), port: random.Uint64N(3)}
		}
		*w.req = abi.Request{Event: f.event, Arg: [abi.Args]uint64{f.family, random.Uint64(), 0, f.port}}
		w.req.PathLen = uint32(copy(w.req.PathBuf[:], f.path))
		w.req.DetailLen = uint32(copy(w.req.DetailBuf[:], f.detail))
		w.req.ExeLen = uint32(copy(w.req.ExeBuf[:], f.exe))
		if f.noObject {
			w.req.Flags |= abi.FlagNoObject
			f.path = ""
		}
		if f.noExe {
			w.req.Flags |= abi.FlagNoExe
			f.exe = ""
		}
		key := string(w.cacheKey())
		if other, ok := seen[key]; ok && other != f {
			t.Fatalf("%+v and %+v have the same key %q", f, other, key)
		}
		seen[key] = f
		if again := w.cacheKey(); !bytes.Equal(again, []byte(key)) {
			t.Fatalf("one request has the keys %q and %q", key, again)
		}
	}
	if longest := len(w.keyOfTheLongest()); longest > maxKeyBytes {
		t.Errorf("a key of %d bytes, the bound is %d", longest, maxKeyBytes)
	}
}

// The size of a file keys decisions where rules look at it, and not where they look at its owner; the
// session of a subject where rules look at its credentials.
func TestKeyHasSizeAndSession(t *testing.T) {
	size := func(r *abi.Request) { r.Size.Bytes++ }
	noSize := func(r *abi.Request) { r.Size = abi.Size{} }
	session := func(r *abi.Request) { r.Credentials.Session++ }
	f := func(rule string, change func(*abi.Request), other bool) {
		t.Helper()
		w := one(t, mustRules(t, "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules: [{id: a, events: [unlink], verdict: deny, "+rule+"}]\n", 1), 4096, &given{})
		*w.req = abi.Request{Event: abi.EventUnlink, Mode: 0o100644, Size: abi.Size{Known: true}, Credentials: abi.Credentials{Known: true}}
		before := string(w.cacheKey())
		if change(w.req); (string(w.cacheKey()) != before) != other {
			t.Errorf("%s: another key: %t, want %t", rule, !other, other)
		}
	}
	f("object: {size: 5-}", size, true)
	f("object: {size: 5-}", noSize, true)
	f("object: {size: 5-}", session, false)
	f("when: object.size > 5u", size, true)
	f("object: {owner: 5, mode: {any: 2}}", size, false)
	f("object: {path: /t/x}", size, false)
	f("subject: {session: 5}", session, true)
	f("subject: {uid: 5}", session, false)
}

// keyOfTheLongest returns the key of a request in which everything is looked at
// and as long as it can be.
func (w *worker) keyOfTheLongest() []byte {
	w.consulted[abi.EventRename], w.args[abi.EventRename] = ^abi.Fields(0), ^uint8(0)
	*w.req = abi.Request{Event: abi.EventRename, PathLen: abi.PathBytes - 1, DetailLen: abi.PathBytes - 1, ExeLen: abi.PathBytes - 1}
	return w.cacheKey()
}

// Detail and numbers come through the journal, whatever their lengths, also where it
// wraps around.
func TestJournalCarriesDetailAndArgs(t *testing.T) {
	g := &given{r: abi.Request{Event: abi.EventRename}}
	w := one(t, mustRules(t, "version: 1\ndefault: audit\nscope: {paths: [/t]}\n", 1), -1, g)
	random := rand.New(rand.NewPCG(3, 4))
	long := bytes.Repeat([]byte("abcdefg/"), abi.PathBytes/8)
	var e Event
	for i := range 2000 {
		path, detail, exe := string(long[:random.IntN(abi.PathBytes)]), string(long[:random.IntN(abi.PathBytes)]), string(long[:random.IntN(100)])
		g.path(path)
		g.detail(detail)
		g.exe(exe)
		g.r.Arg = [abi.Args]uint64{}
		for a := range random.IntN(abi.Args + 1) {
			g.r.Arg[a] = random.Uint64N(3)
		}
		w.step()
		if _, ok := w.journal.next(&e); !ok {
			t.Fatalf("record %d is not there", i)
		}
		if e.Path != path || e.Detail != detail || e.Exe != exe || e.Args != g.r.Arg {
			t.Fatalf("record %d: texts of %d, %d and %d bytes and %v; want %d, %d, %d and %v", i,
				len(e.Path), len(e.Detail), len(e.Exe), e.Args, len(path), len(detail), len(exe), g.r.Arg)
		}
	}
}

// A detail that did not fit decides nothing where a rule looks at it.
func TestTruncatedDetail(t *testing.T) {
	g := &given{r: abi.Request{Event: abi.EventRename, Flags: abi.FlagDetailTruncated}}
	w := one(t, mustRules(t, eventRules, 1), 4096, g)
	g.path("/t/a")
	w.step()
	g.r.Event = abi.EventConnect // where none does
	w.step()
	if got := w.counters.failed[abi.ReasonFactsTruncated].Load(); got != 1 {
		t.Errorf("%d failure verdicts for truncated facts, want 1", got)
	}
	if got := w.counters.denied.Load(); got != 1 {
		t.Errorf("%d refused by on_fail, want 1", got)
	}
}

func TestNoAllocationsWithDetailAndArgs(t *testing.T) {
	rename := &given{r: abi.Request{Event: abi.EventRename, Arg: [abi.Args]uint64{1}}}
	rename.path("/t/a")
	rename.detail("/t/keys/a")
	rename.exe("/bin/mv")
	deep := *rename
	for i := range deep.r.Cgroup {
		deep.r.Cgroup[i] = uint64(i) + 1
	}
	for name, g := range map[string]*given{
		"rename":          rename,
		"in deep cgroups": &deep,
		"connect":         {r: abi.Request{Event: abi.EventConnect, Flags: abi.FlagNoObject, Arg: [abi.Args]uint64{2, 1, 6, 443, 0, 99}}},
	} {
		for _, entries := range []int{4096, -1} {
			w := one(t, mustRules(t, eventRules, 1), entries, g)
			if got := testing.AllocsPerRun(1000, w.step); got != 0 {
				t.Errorf("%s with %d cache entries: %v allocations per verdict, want 0", name, entries, got)
			}
		}
	}
}
