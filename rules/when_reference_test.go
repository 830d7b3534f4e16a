// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	celref "cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// celReference is CEL as cel-go has it, its standard library, its parser and its interpreter:
// what expressions mean.
type celReference struct{ env *cel.Env }

func newCELReference() *celReference {
	var opts []cel.EnvOption
	for name, f := range allWhenFacts() {
		typ := f.typ
		if typ == addrType {
			typ = types.StringType // the address as text, empty for none
		}
		opts = append(opts, cel.Variable(name, typ))
	}
	each := func(v celref.Val, f func(celref.Val)) {
		list, ok := v.(traits.Lister)
		if !ok {
			f(v)
			return
		}
		for it := list.Iterator(); it.HasNext() == types.True; {
			f(it.Next())
		}
	}
	bits := func(holds func(v, mask uint64) bool) cel.OverloadOpt {
		return cel.BinaryBinding(func(v, m celref.Val) celref.Val {
			var mask uint64
			each(m, func(b celref.Val) { mask |= uint64(b.(types.Uint)) })
			return types.Bool(holds(uint64(v.(types.Uint)), mask))
		})
	}
	inNet := cel.BinaryBinding(func(v, nets celref.Val) celref.Val {
		found := types.False
		each(nets, func(n celref.Val) {
			net, err := netip.ParsePrefix(string(n.(types.String)))
			a, err2 := netip.ParseAddr(string(v.(types.String)))
			if err == nil && err2 == nil && (net.Contains(a) || net.Contains(netip.AddrFrom16(a.As16()))) {
				found = types.True
			}
		})
		return found
	})
	u, s, b := types.UintType, types.StringType, types.BoolType
	hasAll, hasAny := bits(func(v, m uint64) bool { return v&m == m }), bits(func(v, m uint64) bool { return v&m != 0 })
	opts = append(opts,
		cel.Function("hasAll", cel.MemberOverload("has_all", []*types.Type{u, u}, b, hasAll), cel.MemberOverload("has_all_list", []*types.Type{u, types.NewListType(u)}, b, hasAll)),
		cel.Function("hasAny", cel.MemberOverload("has_any", []*types.Type{u, u}, b, hasAny), cel.MemberOverload("has_any_list", []*types.Type{u, types.NewListType(u)}, b, hasAny)),
		cel.Function("inNet", cel.MemberOverload("in_net", []*types.Type{s, s}, b, inNet), cel.MemberOverload("in_net_list", []*types.Type{s, types.NewListType(s)}, b, inNet)))
	env, err := cel.NewEnv(opts...)
	if err != nil {
		panic("BUG: cel-go does not take the facts: " + err.Error())
	}
	return &celReference{env}
}

// program returns what evaluates an expression.
func (c *celReference) program(text string, options ...cel.ProgramOption) (cel.Program, error) {
	ast, issues := c.env.Compile(text)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return c.env.Program(ast, options...)
}

func (c *celReference) eval(p cel.Program, r *abi.Request) truth {
	switch v, _, err := p.Eval(celRequest{r}); {
	case err != nil:
		return fault
	default:
		return truthOf(v == types.True)
	}
}

// celRequest are the facts of a request for cel-go.
type celRequest struct{ r *abi.Request }

func (a celRequest) Parent() interpreter.Activation { return nil }

func (a celRequest) ResolveName(name string) (any, bool) {
	r := a.r
	text := func(s []byte, unknown uint32) (any, bool) {
		if r.Flags&unknown != 0 {
			return types.NewErr("not known"), true
		}
		return types.String(s), true
	}
	switch name {
	case "event":
		return types.String(r.Event.String()), true
	case "object.path":
		return text(r.Path(), abi.FlagNoObject|abi.FlagPathTruncated)
	case "detail":
		return text(r.Detail(), abi.FlagDetailTruncated)
	case "subject.exe":
		return text(r.Exe(), abi.FlagNoExe)
	case "object.owner", "object.group":
		id := map[string]uint32{"object.owner": r.OwnerUID, "object.group": r.OwnerGID}[name]
		if r.Flags&abi.FlagNoObject != 0 || r.Mode>>12 == 0 || id == abi.NoOwner {
			return types.NewErr("not known"), true
		}
		return types.Uint(id), true
	case "object.size":
		if !r.Size.Known {
			return types.NewErr("not known"), true
		}
		return types.Uint(r.Size.Bytes), true
	case "subject.uid":
		return types.Uint(r.UID), true
	case "subject.euid":
		return types.Uint(r.EUID), true
	case "subject.gid":
		return types.Uint(r.GID), true
	case "subject.egid":
		return types.Uint(r.EGID), true
	}
	kind, last, _ := strings.Cut(name, ".")
	if bit, ok := ParseAccess(last); ok && kind == "access" {
		return types.Bool(r.Access&bit != 0), true
	}
	arg := func(name string) uint64 { return r.Arg[catalogue.Of(r.Event).Arg(name)] }
	if last != addrName {
		return types.Uint(arg(last)), true
	}
	if f := arg("family"); f != 2 && f != 10 {
		return types.String(""), true
	}
	return types.String(Addr(arg("addr_high"), arg("addr_low")).String()), true
}

// genWhenEvents are the lists of events that expressions are drawn for.
var genWhenEvents = [][]abi.Event{
	{abi.EventOpen}, {abi.EventOpen, abi.EventExec}, {abi.EventRename}, {abi.EventConnect, abi.EventBind}, {abi.EventSetXattr}, {abi.EventSignal},
	{abi.EventListen, abi.EventSetUID}, {abi.EventChmod, abi.EventCreate}, {abi.EventPrctl},
}

// whenGenerator draws expressions that have a type, for some events.
type whenGenerator struct {
	t     *rapid.T
	about eventSet
	facts map[whenKind][]string
	addr  bool
}

func newWhenGenerator(t *rapid.T, about eventSet) *whenGenerator {
	g := &whenGenerator{t: t, about: about, facts: map[whenKind][]string{}}
	for _, n := range genFactNames {
		f := allGenFacts[n]
		switch {
		case about&^f.with != 0:
		case f.typ == types.BoolType:
			g.facts[isTruth] = append(g.facts[isTruth], n)
		case f.typ == types.UintType:
			g.facts[isUnsigned] = append(g.facts[isUnsigned], n)
		case f.typ == types.StringType:
			g.facts[isText] = append(g.facts[isText], n)
		default:
			g.addr = true
		}
	}
	return g
}

var allGenFacts = allWhenFacts()

var genFactNames = func() []string {
	var names []string
	for n := range allGenFacts {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}()

func (g *whenGenerator) pick(what string, from ...string) string {
	return rapid.SampledFrom(from).Draw(g.t, what)
}

func (g *whenGenerator) truth(depth int) string {
	if depth == 0 {
		if names := g.facts[isTruth]; len(names) > 0 && rapid.Bool().Draw(g.t, "fact") {
			return g.pick("test", names...)
		}
		return g.pick("test", "true", "false", "subject.uid == 0u", "subject.exe == '/a'", "1 / 0 == 1")
	}
	depth--
	kind := rapid.SampledFrom([]whenKind{isSigned, isUnsigned, isUnsigned, isText, isText}).Draw(g.t, "kind")
	switch g.pick("form", "and", "or", "not", "if", "compare", "compare", "in", "text", "text", "matches", "bits", "net", "equal") {
	case "and":
		return "(" + g.truth(depth) + " && " + g.truth(depth) + ")"
	case "or":
		return g.truth(depth) + " || " + g.truth(depth)
	case "not":
		return "!(" + g.truth(depth) + ")"
	case "if":
		return "(" + g.truth(depth) + ") ? (" + g.truth(depth) + ") : (" + g.truth(depth) + ")"
	case "compare":
		return "(" + g.value(kind, depth) + ") " + g.pick("relation", "==", "!=", "<", "<=", ">", ">=") + " (" + g.value(kind, depth) + ")"
	case "in":
		n := rapid.IntRange(1, 3).Draw(g.t, "entries")
		if rapid.IntRange(0, 4).Draw(g.t, "long") == 0 {
			n = fewPatterns + 2
		}
		var list []string
		for range n {
			list = append(list, g.constant(kind))
		}
		return "(" + g.value(kind, depth) + ") in [" + strings.Join(list, ", ") + "]"
	case "text":
		return "(" + g.value(isText, depth) + ")." + g.pick("function", "startsWith", "endsWith", "contains") + "(" + g.pick("text", "''", "'/'", "'a'", "'/a/'", "'.so'", "'é'", g.value(isText, 0)) + ")"
	case "matches":
		return "(" + g.value(isText, depth) + ").matches(" + strconv.Quote(rapid.SampledFrom(genPatterns).Draw(g.t, "pattern")) + ")"
	case "bits":
		return "(" + g.value(isUnsigned, depth) + ")." + g.pick("function", "hasAll", "hasAny") + "(" + g.pick("mask", "1u", "6u", "[1u, 4u]", "18446744073709551615u") + ")"
	case "net":
		if !g.addr {
			return "subject.uid != 0u"
		}
		return "args.addr.inNet(" + g.pick("net", `"0.0.0.0/0"`, `["0.0.0.0/31", "::/126"]`, `"8000::/1"`, `["::/0"]`) + ")"
	}
	return "(" + g.truth(depth) + ") " + g.pick("relation", "==", "!=") + " (" + g.truth(depth) + ")"
}

func (g *whenGenerator) value(kind whenKind, depth int) string {
	if depth == 0 {
		if names := g.facts[kind]; len(names) > 0 && rapid.IntRange(0, 3).Draw(g.t, "fact") > 0 {
			return g.pick("fact", names...)
		}
		return g.constant(kind)
	}
	depth--
	if rapid.IntRange(0, 5).Draw(g.t, "if") == 0 {
		return "(" + g.truth(depth) + ") ? (" + g.value(kind, depth) + ") : (" + g.value(kind, depth) + ")"
	}
	switch {
	case kind == isText:
		return g.value(kind, 0)
	case kind == isSigned && rapid.Bool().Draw(g.t, "size"):
		return fmt.Sprintf(g.pick("form", "size(%s)", "(%s).size()", "-size(%s)"), g.value(isText, depth))
	}
	return "(" + g.value(kind, depth) + ") " + g.pick("operator", "+", "-", "*", "/", "%") + " (" + g.value(kind, depth) + ")"
}

func (g *whenGenerator) constant(kind whenKind) string {
	switch kind {
	case isText:
		return strconv.Quote(g.pick("text", "", "/", "/a", "/a/b", "open", "a", "\x00", "é", "\U0001f600", "\u00ff", "x.so"))
	case isSigned:
		return g.pick("number", "0", "1", "2", "-1", "7", "9223372036854775807", "-9223372036854775808")
	}
	return g.pick("number", "0u", "1u", "2u", "4u", "9223372036854775807u", "9223372036854775808u", "18446744073709551615u")
}

// allowedRefusal is what can be wrong with an expression that has the right types.
var allowedRefusal = regexp.MustCompile("looks at no fact|can cost|there is no event|not about the event")

// whenRequest draws a request of one of the events.
func whenRequest(t *rapid.T, events []abi.Event) *abi.Request {
	r := genRequest(t)
	r.Event = rapid.SampledFrom(events).Draw(t, "event")
	return r
}

// TestWhenIsTheReference draws expressions and requests: our evaluator and cel-go's must come to
// the same, errors included, and facts that are not consulted must not matter.
func TestWhenIsTheReference(t *testing.T) {
	c, reference := newWhenCompiler(), newCELReference()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SampledFrom(genWhenEvents).Draw(t, "events")
		text := newWhenGenerator(t, setOf(events...)).truth(rapid.IntRange(1, 4).Draw(t, "depth"))
		clear(c.known) // there are more than a file may have
		w, err := c.compile(text, setOf(events...))
		if err != nil {
			if !allowedRefusal.MatchString(err.message) {
				t.Fatalf("%s\n%v", text, err)
			}
			seen["refused"]++
			return
		}
		original, err2 := reference.program(text)
		if err2 != nil {
			t.Fatalf("%s\ncel-go refuses it: %v", text, err2)
		}
		canonical, err2 := reference.program(w.String())
		if err2 != nil {
			t.Fatalf("%s\nwritten as %s\ncel-go refuses it: %v", text, w, err2)
		}
		for range 4 {
			r := whenRequest(t, events)
			got := w.root.truth(r)
			seen[[]string{"no", "yes", "fault"}[got]]++
			if want := reference.eval(original, r); got != want {
				t.Fatalf("%s\ngot %d, cel-go says %d\n%s", text, got, want, w.explain(r))
			}
			if want := reference.eval(canonical, r); got != want {
				t.Fatalf("%s\nwritten as %s\ngot %d, cel-go says %d", text, w, got, want)
			}
			if w.holds(r) != (got == yes) {
				t.Fatalf("%s\nholds is %v, the value %d", text, w.holds(r), got)
			}
			if x := w.explain(r); x == "" || strings.ContainsAny(x, "\n\r\x1b") || !utf8.ValidString(x) {
				t.Fatalf("%s\nexplain: %q", text, x)
			}
			forget(r, w.consulted(), w.args(r.Event))
			if again := w.root.truth(r); again != got {
				t.Fatalf("%s\na fact that is not in %v mattered", text, FieldNames(w.consulted()))
			}
		}
	})
	t.Logf("values: %v", seen)
	for _, v := range []string{"no", "yes", "fault"} {
		if seen[v] < 10 {
			t.Errorf("the generators only reach %v", seen)
		}
	}
}

// FuzzWhen: no text brings the compiler down, mistakes are told with a place and a hint, and what
// is accepted means what cel-go says it means.
func FuzzWhen(f *testing.F) {
	for _, x := range whenExamples {
		f.Add(x.text, uint64(setOf(x.events...)))
	}
	for _, x := range whenMistakes {
		f.Add(x.text, uint64(setOf(x.events...)))
	}
	reference := newCELReference()
	language := newWhenLanguage()
	f.Fuzz(func(t *testing.T, text string, events uint64) {
		about := setOf(eventSet(events).list()...)
		c := &whenCompiler{language: language, known: map[whenKey]*when{}}
		w, err := c.compile(text, about)
		if err != nil {
			if err.column < 1 || err.column > utf8.RuneCountInString(text)+1 || err.message == "" || err.hint == "" {
				t.Errorf("%q: a mistake without place, message or hint: %+v", text, err)
			}
			if s := err.Error(); !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x1b\x00") {
				t.Errorf("%q: a message with raw bytes: %q", text, s)
			}
			return
		}
		again, err := c.compile(w.String(), about)
		if err != nil || again.String() != w.String() {
			t.Fatalf("%q is written as %q, which is read as %v (%v)", text, w, again, err)
		}
		p, err2 := reference.program(w.String())
		if err2 != nil {
			t.Fatalf("%q is written as %q, which cel-go refuses: %v", text, w, err2)
		}
		for _, r := range fuzzRequests(about) {
			if got, want := w.root.truth(r), reference.eval(p, r); got != want {
				t.Fatalf("%q\nwritten as %q\ngot %d, cel-go says %d of %s", text, w, got, want, w.explain(r))
			}
		}
	})
}

// fuzzRequests are a few requests of each event.
func fuzzRequests(about eventSet) (out []*abi.Request) {
	for _, e := range about.list() {
		for i := range uint32(3) {
			out = append(out, request(e, []string{"/srv/a", "/a\xff.so", ""}[i], []string{"/bin/sh", "", "/é"}[i], func(r *abi.Request) {
				r.UID, r.GID, r.EUID, r.EGID, r.Access, r.Flags = i, i*1000, i, 0, abi.Access(i*5), []uint32{0, 0, 15}[i]
				r.Arg = [abi.Args]uint64{uint64(i) * 2, 1 << 63, 6, 443, uint64(i) << 60, 0xffff0a000001, 0, 1<<64 - 1}
				r.DetailLen = uint32(copy(r.DetailBuf[:], "security.capability"))
			}))
		}
	}
	return out
}
