// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// bothRules allow mappings of what is an ELF file and has the digest of goodSum, beside what
// knownRules allow.
const bothRules = knownRules + `  - id: both
    events: [mmap_exec]
    object: {format: elf, sha256: "0101010101010101010101010101010101010101010101010101010101010101"}
    verdict: allow
    deadline: 20s
`

// wantingFunc is a Fetcher.
type wantingFunc func(Held, *abi.Request, abi.Fields) bool

func (f wantingFunc) Fetch(h Held, r *abi.Request, want abi.Fields, _ time.Duration) bool {
	return f(h, r, want)
}

// wanter is a Fetcher that gives what the test has laid ready, and remembers what was wanted.
type wanter struct {
	mu    sync.Mutex
	has   map[abi.Fields]abi.Content
	asked []string
}

func (f *wanter) Fetch(h Held, _ *abi.Request, want abi.Fields, _ time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join(want.Names(), " "))
	h.Content(f.has[want])
	return true
}

// take returns what was wanted since the last call.
func (f *wanter) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked = nil }()
	return strings.Join(f.asked, ", ")
}

// Facts are fetched one after another, each once, and only as far as they change something.
func TestBothFacts(t *testing.T) {
	format := func(f abi.Format) abi.Content { return abi.Content{Known: abi.FieldFormat, Format: f} }
	both := func(f abi.Format, sum [32]byte) abi.Content {
		return abi.Content{Known: abi.ContentFields, Format: f, Digest: sum}
	}
	nothing := abi.Content{}
	for _, tc := range []struct {
		name           string
		format, digest abi.Content // what comes
		want           unix.Errno
		asked          string
		failed         uint64
	}{
		{"both match", format(abi.FormatELF), both(abi.FormatELF, goodSum), 0, "format, sha256", 0},
		{"the digest does not", format(abi.FormatELF), both(abi.FormatELF, otherSum), unix.EACCES, "format, sha256", 0},
		{"the format does not", format(abi.FormatScript), both(abi.FormatELF, goodSum), unix.EACCES, "format", 0},
		{"no format", nothing, both(abi.FormatELF, goodSum), unix.EIO, "format", 1},
		{"no digest", format(abi.FormatELF), nothing, unix.EIO, "format, sha256", 1},
		{"another file meanwhile", format(abi.FormatELF), both(abi.FormatOther, goodSum), unix.EACCES, "format, sha256", 0},
		{"the digest comes along", both(abi.FormatELF, goodSum), nothing, 0, "format", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &wanter{has: map[abi.Fields]abi.Content{abi.FieldFormat: tc.format, abi.FieldDigest: tc.digest}}
			a, k := startHolding(t, f, func(c *Config) { c.Rules = mustRules(t, bothRules, 1) })
			for n := range uint64(2) { // the second time by what is cached of each step
				askFor(t, k, abi.EventMMapExec, "/t/x").want(tc.want)
				s := settled(t, a)
				if got := f.take(); got != tc.asked {
					t.Errorf("asked for %s, want %s", got, tc.asked)
				}
				if s.Failed[abi.ReasonNoDigest] != (n+1)*tc.failed || s.Held != 0 {
					t.Errorf("stats %+v, want %d no_digest, none held", s, (n+1)*tc.failed)
				}
			}
		})
	}
}

// A record says which format it was, and which digest.
func TestEventHasFormat(t *testing.T) {
	f := &wanter{has: map[abi.Fields]abi.Content{abi.FieldFormat: {Known: abi.FieldFormat, Format: abi.FormatScript}}}
	a, k := startHolding(t, f, func(c *Config) { c.Rules = mustRules(t, bothRules, 1) })
	sub := a.Subscribe(8, SubscribeOptions{})
	defer sub.Close()
	k.Ask(facts(abi.EventMMapExec, 0), "/t/x", "/bin/sh")
	if e := receive(t, sub); e.Format != abi.FormatScript || e.SHA256 != "" || e.Facts&abi.ContentFields != abi.FieldFormat {
		t.Errorf("format %q, digest %q, facts %v; want script alone", e.Format, e.SHA256, e.Facts.Names())
	}
	directory := facts(abi.EventMMapExec, 0)
	directory.Mode = unix.S_IFDIR
	k.Ask(directory, "/t/d", "/bin/sh")
	if e := receive(t, sub); e.Format != abi.FormatUnknown || e.SHA256 != "" || e.Facts&abi.ContentFields != abi.ContentFields {
		t.Errorf("a directory: format %q, digest %q, facts %v; want none, and that it is known", e.Format, e.SHA256, e.Facts.Names())
	}
}

// An fs-verity digest is asked for where it decides, once, and the record has it, and that there is
// none.
func TestEventHasVerity(t *testing.T) {
	const text = "version: 1\ndefault: {deny: EACCES}\non_fail: {deny: EIO}\ndeadline: 20s\nscope: {paths: [/t]}\n" +
		"rules: [{id: other, events: [exec], object: {path: /t/other}, verdict: audit}, {id: sealed, events: [exec], object: {fsverity: any}, verdict: audit}]\n"
	for _, tc := range []struct {
		name  string
		path  string
		known bool
		is    abi.Verity
		want  unix.Errno
		asked string
	}{
		{"a digest", "/t/x", true, abi.Verity{Alg: abi.VeritySHA512, Sum: [64]byte{1, 63: 2}}, 0, "fsverity"},
		{"none", "/t/x", true, abi.Verity{Alg: abi.VerityNone}, unix.EACCES, "fsverity"},
		{"not to be had", "/t/x", false, abi.Verity{}, unix.EIO, "fsverity"},
		{"another rule", "/t/other", false, abi.Verity{}, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := abi.Content{Verity: tc.is}
			if tc.known {
				c.Known = abi.FieldVerity
			}
			f := &wanter{has: map[abi.Fields]abi.Content{abi.FieldVerity: c}}
			a, k := startHolding(t, f, func(c *Config) { c.Rules = mustRules(t, text, 1) })
			sub := a.Subscribe(8, SubscribeOptions{})
			defer sub.Close()
			for range 2 { // the second time by what is cached
				askFor(t, k, abi.EventExec, tc.path).want(tc.want)
				e := receive(t, sub)
				if e.Verity != tc.is || e.Facts&abi.ContentFields != c.Known {
					t.Errorf("the record has %v and the facts %v, want %v", e.Verity, e.Facts.Names(), tc.is)
				}
				if got := f.take(); got != tc.asked {
					t.Errorf("asked for %q, want %q", got, tc.asked)
				}
			}
			if s := settled(t, a); (s.Failed[abi.ReasonNoDigest] > 0) != (tc.want == unix.EIO) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A request that was held in time for one rule is held as long for the next one.
func TestSecondHoldHasTheTimeOfTheFirst(t *testing.T) {
	const text = `
version: 1
default: {deny: EACCES}
on_fail: {deny: EIO}
scope: {paths: [/t]}
rules:
  - {id: no-scripts, events: [exec], object: {format: script}, verdict: {deny: EROFS}, deadline: 20s}
  - {id: known, events: [exec], object: {sha256: "0101010101010101010101010101010101010101010101010101010101010101"}, verdict: allow, deadline: 1ms}
`
	h := newHasher()
	a, k := startHolding(t, h, func(c *Config) { c.Rules = mustRules(t, text, 1) })
	exec := askFor(t, k, abi.EventExec, "/t/x")
	first := h.next(t)
	<-time.After(20 * time.Millisecond)
	first.Content(abi.Content{Known: abi.FieldFormat, Format: abi.FormatELF})
	second := h.next(t)
	waitFor(t, func() bool { s := a.Stats(); return s.Held == 1 && s.Holds == 2 })
	first.Content(abi.Content{Known: abi.FieldFormat, Format: abi.FormatScript}) // its use is over
	second.Content(digest(goodSum, true))
	exec.want(0)
	if s := settled(t, a); s.Failed[abi.ReasonDeadline] != 0 || s.Held != 0 {
		t.Errorf("stats %+v, want none by deadline", s)
	}
}

// Each fact is asked for once, whatever rules come meanwhile.
func TestFactsAreAskedForOnce(t *testing.T) {
	const scripts = `
version: 1
default: {deny: EACCES}
deadline: 10s
on_fail: {deny: EIO}
scope: {paths: [/t]}
rules:
  - {id: scripts, events: [exec], object: {format: script}, verdict: allow}
`
	h := newHasher()
	a, k := startHolding(t, h, nil)
	exec := askFor(t, k, abi.EventExec, "/t/x")
	install := func(text string, epoch uint64) {
		t.Helper()
		if err := a.Install(t.Context(), mustRules(t, text, epoch), cache.RulesPushed); err != nil {
			t.Fatal(err)
		}
	}
	held := h.next(t) // for the digest
	install(scripts, 2)
	held.Content(abi.Content{})
	held = h.next(t) // for the format
	install(knownRules, 3)
	held.Content(abi.Content{Known: abi.FieldFormat, Format: abi.FormatELF})
	exec.want(unix.EIO) // the digest could not be had before
	if n := len(h.asked); n != 0 {
		t.Errorf("asked %d times more", n)
	}
	if s := settled(t, a); s.Failed[abi.ReasonNoDigest] != 1 || s.Holds != 2 {
		t.Errorf("stats %+v, want one no_digest after two holds", s)
	}
}

// The key of the cache tells what is known of a content from what is not, and from none.
func TestKeyHasContent(t *testing.T) {
	w := one(t, mustRules(t, strings.Replace(bothRules, "format: elf,", "format: elf, fsverity: any,", 1), 1), 64, &canned{})
	verities := []abi.Verity{{}, {Alg: abi.VerityNone}, {Alg: abi.VeritySHA256}, {Alg: abi.VeritySHA256, Sum: [64]byte{31: 1}}, {Alg: abi.VeritySHA512}, {Alg: abi.VeritySHA512, Sum: [64]byte{63: 1}}}
	seen := map[string]string{}
	for _, mode := range []uint32{0o100755, 0o40755} {
		for f := range abi.FormatCount {
			for i := range 2 * len(verities) {
				*w.req = abi.Request{Event: abi.EventMMapExec, Mode: mode, Format: f, Verity: verities[i/2], Flags: []uint32{0, abi.FlagDigest}[i%2]}
				key, name := string(w.cacheKey()), fmt.Sprintf("mode %o, format %q, %v, flags %#x", mode, f, w.req.Verity, w.req.Flags)
				if mode == 0o40755 {
					name = "a directory"
				}
				if before, ok := seen[key]; ok && before != name {
					t.Errorf("%s has the key of %s", name, before)
				}
				seen[key] = name
			}
		}
	}
	if want := 2*len(verities)*int(abi.FormatCount) + 1; len(seen) != want {
		t.Errorf("%d keys, want %d", len(seen), want)
	}
}

// What was decided by a content the kernel side must not give again.
func TestContentIsNotKept(t *testing.T) {
	const text = "version: 1\ndefault: {deny: EACCES}\nscope: {paths: [/t]}\nrules: [{id: a, events: [open], object: {%s}, verdict: allow}]\n"
	for object, kept := range map[string]bool{
		"path: /t/x":    true,
		"format: elf":   false,
		"fsverity: any": false,
		"sha256: '01'":  false,
		"path: /t/x, format: [elf, script, other]": false, // nobody has looked, and it may be a directory
	} {
		src := &answered{}
		src.r = abi.Request{Event: abi.EventOpen}
		src.path("/t/x")
		w := one(t, mustRules(t, fmt.Sprintf(text, strings.Replace(object, "'01'", "'"+strings.Repeat("01", 32)+"'", 1)), 1), 64, src)
		w.arbiter.cfg.Contents = fetcherFunc(func(h Held, _ *abi.Request) bool {
			h.Content(abi.Content{Known: abi.ContentFields, Format: abi.FormatELF, Verity: abi.Verity{Alg: abi.VeritySHA256}, Digest: goodSum})
			return true
		})
		for range 2 {
			w.step()
			w.tend()
			if !src.verdict.Allowed() || src.verdict.Keep != kept {
				t.Errorf("%s: %+v, want it allowed, kept: %t", object, src.verdict, kept)
			}
		}
	}
}
