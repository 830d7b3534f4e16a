// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// tree is a disk of paths.
type tree []string

func (d tree) List(dir string) ([]Entry, error) {
	at := strings.TrimSuffix(dir, "/") + "/"
	isDir := map[string]bool{}
	for _, p := range d {
		if rest, ok := strings.CutPrefix(p, at); ok && rest != "" {
			name, _, below := strings.Cut(rest, "/")
			isDir[name] = isDir[name] || below
		}
	}
	if len(isDir) == 0 {
		return nil, fs.ErrNotExist
	}
	var out []Entry
	for name, dir := range isDir {
		out = append(out, Entry{name, dir})
	}
	return out, nil
}

func (d tree) Exists(path string) bool {
	return slices.ContainsFunc(d, func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") })
}

// request is what the kernel would ask when it was f.
func request(f Fact) *abi.Request {
	r := &abi.Request{Event: f.Event, Access: f.Access, UID: f.UID, GID: f.GID, Arg: f.Args}
	r.PathLen = uint32(copy(r.PathBuf[:], f.Path))
	r.DetailLen = uint32(copy(r.DetailBuf[:], f.Detail))
	r.ExeLen = uint32(copy(r.ExeBuf[:], f.Exe))
	if f.Path == "" {
		r.Flags |= abi.FlagNoObject
	}
	if f.Exe == "" {
		r.Flags |= abi.FlagNoExe
	}
	return r
}

// The generators draw from few words, so that facts meet often.
var (
	genName = rapid.SampledFrom([]string{"a", "b", "ab", "é", "a\nb", "x1.so", "x2.so", "x3.so", "x4.so", "t.aa", "t.bb", "t.cc", "t.dd",
		"\xff", "\xffé", "[a]", "*", "{a,b}", `\`, "#", " ", "12", "7", "\u202e", "\x1b[2J", "a: b", "~", "!!binary", "\U0001f600", "\ufeff", "\u0085"})
	genPath = rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(genName, 1, 4).Draw(t, "components")
		if rapid.IntRange(0, 9).Draw(t, "in proc") == 0 {
			parts = slices.Concat([]string{"proc", rapid.SampledFrom([]string{"1", "22", "333"}).Draw(t, "pid")}, parts)
		}
		return "/" + strings.Join(parts, "/")
	})
	genFact = rapid.Custom(func(t *rapid.T) Fact {
		f := Fact{Event: abi.Event(rapid.IntRange(1, int(abi.EventCount)-1).Draw(t, "event"))}
		if rapid.Bool().Draw(t, "an open") {
			f.Event = abi.EventOpen
		}
		ev := catalogue.Of(f.Event)
		f.Access = abi.Access(rapid.Uint32Range(0, 63).Draw(t, "access"))
		if ev.Object != "" && (rules.NeedsObject(f.Event) || rapid.Bool().Draw(t, "object")) {
			f.Path = genPath.Draw(t, "path")
		}
		if ev.Detail != "" {
			f.Detail = rapid.OneOf(genPath, genName).Draw(t, "detail")
			if slices.Contains(pathDetail, f.Event) {
				f.Detail = genPath.Draw(t, "second path")
			} else if rapid.IntRange(0, 4).Draw(t, "no detail") == 0 {
				f.Detail = ""
			}
		}
		for i := range ev.Args {
			f.Args[i] = rapid.SampledFrom([]uint64{0, 1, 2, 6, 10, 443, 0o100644, 0xffffffff, 1<<64 - 1}).Draw(t, "arg")
		}
		if ev.Arg("family") >= 0 {
			f.Args[0] = rapid.SampledFrom([]uint64{familyUnix, familyInet, familyInet6, 16}).Draw(t, "family")
			if high := ev.Arg("addr_high"); high >= 0 {
				f.Args[high] = rapid.SampledFrom([]uint64{0, 0x20010db8 << 32}).Draw(t, "high")
				f.Args[high+1] = 0xffffc0000200 + rapid.Uint64Range(0, 300).Draw(t, "low")
			}
			if ev.Object != "" && f.Args[0] == familyUnix && rapid.Bool().Draw(t, "abstract") {
				f.Path = "@" + genName.Draw(t, "socket")
			}
		}
		f.Exe = "/bin/" + rapid.SampledFrom([]string{"sh", "cat", "c\nt", "\xfe", "[", "start"}).Draw(t, "exe")
		f.UID, f.GID = rapid.Uint32Range(0, 2).Draw(t, "uid"), rapid.Uint32Range(0, 2).Draw(t, "gid")
		return f
	})
)

// everyEvent is the list of all events.
func everyEvent() (all []abi.Event) {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		all = append(all, e)
	}
	return all
}

func genOptions(t *rapid.T) Options {
	return Options{Scope: []string{"/"}, Events: everyEvent(), Starter: rapid.SampledFrom([]string{"", "/bin/start"}).Draw(t, "starter"),
		Level: Level(rapid.SampledFrom(Levels).Draw(t, "level")), Default: rapid.SampledFrom([]rules.Action{rules.Audit, rules.Deny}).Draw(t, "default"),
		Disk: tree(rapid.SliceOfN(genPath, 0, 20).Draw(t, "disk")), Header: []string{"foreign: \x1b[2J\nversion: 2"}}
}

// Whatever was observed, the proposal is a rule file, allows all of it and, when nothing is
// generalised, nothing else.
func TestProposalAllowsWhatWasObserved(t *testing.T) {
	var allowed, refused int
	rapid.Check(t, func(t *rapid.T) {
		facts := rapid.SliceOfN(genFact, 0, 40).Draw(t, "facts")
		opt := genOptions(t)
		var o Observed
		for _, f := range facts {
			o.Add(f)
		}
		p, err := Propose(&o, opt)
		if err != nil {
			t.Fatalf("Propose: %v", err)
		}
		if _, err := rules.Parse("p", p.Source); err != nil {
			t.Fatalf("Parse: %v\n%s", err, p.Source)
		}
		for i, c := range p.Source {
			if c < ' ' && c != '\n' || c == 0x7f {
				t.Fatalf("byte %d of the file is the control character %#x\n%q", i, c, p.Source)
			}
		}
		rs, err := rules.Load("p", p.Source, rules.Options{})
		if err != nil {
			t.Fatalf("Load: %v\n%s", err, p.Source)
		}
		if len(p.Unexpressed) > 0 {
			t.Fatalf("not expressed: %v, want all: the generator draws nothing odd", p.Unexpressed)
		}
		known := map[Fact]abi.Access{} // what an open of it asked for, put together
		for _, f := range facts {
			if d := rs.Decide(request(f)); d.Verdict.Action != rules.Allow {
				t.Fatalf("%+v was observed and is %v\n%s\n%s", f, d.Verdict, p.Source, rs.Explain(request(f)))
			}
			known[remember(f, opt.Starter)] |= f.Access
			allowed++
		}
		if opt.Level != None {
			return
		}
		for range 20 {
			f := genFact.Draw(t, "another")
			if len(facts) > 0 && rapid.Bool().Draw(t, "near") {
				f = rapid.SampledFrom(facts).Draw(t, "like")
				switch rapid.IntRange(0, 2).Draw(t, "what differs") {
				case 0:
					f.Path += "x"
				case 1:
					f.Exe += "x"
				case 2:
					f.Access = ^f.Access
				}
			}
			anybody := f
			anybody.Exe = opt.Starter
			within := func(f Fact) bool {
				asked, was := known[remember(f, opt.Starter)]
				return was && (f.Event != abi.EventOpen || f.Access&everyAccess&^asked == 0)
			}
			if within(f) || opt.Starter != "" && within(anybody) || f.unfit(false) != "" {
				continue
			}
			refused++
			if d := rs.Decide(request(f)); d.Verdict.Action == rules.Allow {
				t.Fatalf("%+v was not observed and is allowed by %s\n%s", f, rs.RuleID(d.Rule), p.Source)
			}
		}
	})
	t.Logf("%d allowed, %d refused", allowed, refused)
	if allowed == 0 || refused == 0 {
		t.Error("the generators do not reach both")
	}
}

// remember is f as far as a proposal tells requests apart, but for the access.
func remember(f Fact, starter string) Fact {
	f.forget()
	f.Access = 0
	if f.Exe == starter {
		f.Exe = "started"
	}
	return f
}

// A pattern means to us what it means to rules.
func TestPatternsAreThoseOfRules(t *testing.T) {
	hits := 0
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.SliceOfN(genPath, 2, 12).Draw(t, "paths")
		g := generaliser{budget: budget{2, 1 << 30}, counter: counter{tree(paths), countedInAll}}
		items, _ := g.paths(slices.Compact(slices.Sorted(slices.Values(paths))))
		for _, it := range items {
			rs, err := rules.Load("p", fmt.Appendf(nil, "version: 1\ndefault: allow\nscope: {paths: [/]}\nrules:\n- {id: p, events: [exec], object: {path: %s}, verdict: deny}\n", it.yaml()), rules.Options{})
			if err != nil {
				t.Fatalf("%s: %v", it.yaml(), err)
			}
			for _, p := range append(paths, genPath.Draw(t, "another")) {
				got, want := it.covers(p), rs.Decide(request(Fact{Event: abi.EventExec, Path: p})).Rule == 0
				if got != want {
					t.Fatalf("%s covers %q: %v, rules say %v", it.yaml(), p, got, want)
				}
				if got && it.form != isLiteral {
					hits++
				}
			}
		}
	})
	if hits == 0 {
		t.Error("no pattern matched anything")
	}
}
