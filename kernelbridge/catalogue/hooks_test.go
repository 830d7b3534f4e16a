// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Every hook has one entry, which asks or says why it does not.
func TestHooks(t *testing.T) {
	hooks := Hooks()
	if len(hooks) < 287 {
		t.Errorf("the catalogue has %d hooks, want the union over all kernels", len(hooks))
	}
	for i, h := range hooks {
		if i > 0 && hooks[i-1].Name >= h.Name {
			t.Errorf("hook %s stands after %s: twice, or out of order", h.Name, hooks[i-1].Name)
		}
		if !regexp.MustCompile(`^[a-z][a-z_]*[a-z]$`).MatchString(h.Name) || h.Class < Free || h.Class > Void {
			t.Errorf("hook %q: class %v", h.Name, h.Class)
		}
		if len(h.Events) == 0 && h.Note == "" {
			t.Errorf("hook %s asks for nothing and does not say why", h.Name)
		}
		if !slices.IsSorted(h.Events) {
			t.Errorf("hook %s: events %v, want them by number", h.Name, h.Events)
		}
		mayUnwind := len(h.Events) > 0 && (h.Class == Locked || h.Class == Atomic)
		if h.Restart != RestartNever && !mayUnwind {
			t.Errorf("hook %s of class %v with %d events says what its callers do with a restart", h.Name, h.Class, len(h.Events))
		}
		if mayUnwind && h.Restart != RestartAll && h.Note == "" {
			t.Errorf("hook %s: not all callers restart, and the note does not say which", h.Name)
		}
		if got, ok := HookOf(h.Name); !ok || got.Name != h.Name {
			t.Errorf("HookOf(%q) = %+v, %v", h.Name, got, ok)
		}
	}
	if h, ok := HookOf("no_such_hook"); ok {
		t.Errorf("HookOf of a hook that is none gives %+v", h)
	}
}

// The hooks that ask are those that the ABI names beside its events, and an event is
// of the class of the hook that is named first.
func TestHooksAreThoseOfTheABI(t *testing.T) {
	want := hooksOfABI(t)
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		var got []string
		for _, h := range HooksOf(e) {
			got = append(got, h.Name)
		}
		named := slices.Sorted(slices.Values(want[e]))
		if !slices.Equal(got, named) {
			t.Errorf("event %s: the catalogue has the hooks %v, abi/event.go %v", e, got, named)
			continue
		}
		if h, _ := HookOf(want[e][0]); h.Class != Of(e).Class {
			t.Errorf("event %s is of class %v, its first hook %s of class %v", e, Of(e).Class, h.Name, h.Class)
		}
	}
}

// hooksOfABI reads the comments of the events in abi/event.go: the hooks stand before
// the colon.
func hooksOfABI(t *testing.T) map[abi.Event][]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "abi", "event.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[abi.Event][]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			return true
		}
		for i, s := range d.Specs {
			v := s.(*ast.ValueSpec)
			if v.Comment == nil {
				continue
			}
			hooks, _, _ := strings.Cut(v.Comment.Text(), ":")
			for h := range strings.SplitSeq(hooks, ",") {
				out[abi.Event(i)] = append(out[abi.Event(i)], strings.TrimSpace(h))
			}
		}
		return true
	})
	if len(out) != int(abi.EventCount)-1 {
		t.Fatalf("abi/event.go names hooks of %d events, want %d", len(out), abi.EventCount-1)
	}
	return out
}
