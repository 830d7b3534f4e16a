// SPDX-License-Identifier: Apache-2.0

// Package house holds the rules of the house, executed by go test. A rule says
// why it exists and what to do about a breach; each carries an example that
// breaks it, so that a rule that has stopped biting is noticed too.
package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/arbiterd/arbiter"

// rule is one rule of the house.
type rule struct {
	name string
	why  string // the reason, one or two sentences
	fix  string // what to do about a breach
	// check returns the breaches, "file:line: what" each.
	check func(*tree) []string
	// bad are trees that break the rule, by file name and content. A name that
	// ends in .go or in another suffix is looked at as such a file would be.
	bad []map[string]string
	// good are trees close to the bad ones that keep the rule.
	good []map[string]string
}

func allRules() []rule {
	return slices.Concat(depRules(), goRules(), textRules(), docRules(), licenseRules(), claimRules())
}

// TestHouse applies every rule to this repository.
func TestHouse(t *testing.T) {
	tr := readTree(t)
	for _, r := range allRules() {
		t.Run(r.name, func(t *testing.T) {
			if broken := r.check(tr); len(broken) > 0 {
				t.Errorf("%d breaches\n\t%s\nwhy: %s\nfix: %s", len(broken), strings.Join(broken, "\n\t"), r.why, r.fix)
			}
		})
	}
}

// TestHouseRulesBite applies every rule to its examples.
func TestHouseRulesBite(t *testing.T) {
	names := map[string]bool{}
	for _, r := range allRules() {
		t.Run(r.name, func(t *testing.T) {
			if names[r.name] || r.why == "" || r.fix == "" || len(r.bad) == 0 {
				t.Fatalf("rule %q needs a name of its own, a why, a fix and an example that breaks it", r.name)
			}
			names[r.name] = true
			for i, files := range r.bad {
				if got := r.check(newTree(t, files)); len(got) == 0 {
					t.Errorf("bad[%d]: got no breach, want one", i)
				}
			}
			for i, files := range r.good {
				if got := r.check(newTree(t, files)); len(got) != 0 {
					t.Errorf("good[%d]: got %q, want no breach", i, got)
				}
			}
		})
	}
}

// tree is a set of files, those of the repository or those of an example.
type tree struct {
	fset  *token.FileSet
	files []*file
	// real is false for an example: rules about what must be there hold for
	// the repository only where an example cannot hold everything.
	real bool
}

type file struct {
	path string // with slashes, relative to the root
	text []byte
	ast  *ast.File // of a Go file, else nil
}

func (f *file) ext() string  { return path.Ext(f.path) }
func (f *file) dir() string  { return path.Dir(f.path) }
func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f *file) isC() bool    { return f.ext() == ".c" || f.ext() == ".h" }
func (f *file) isGenerated() bool {
	return f.ast != nil && ast.IsGenerated(f.ast)
}
func (f *file) lines() int { return bytes.Count(f.text, []byte("\n")) }

// goFiles returns the Go files, without the generated ones.
func (tr *tree) goFiles() []*file {
	var out []*file
	for _, f := range tr.files {
		if f.ast != nil && !f.isGenerated() {
			out = append(out, f)
		}
	}
	return out
}

func (tr *tree) file(name string) *file {
	for _, f := range tr.files {
		if f.path == name {
			return f
		}
	}
	return nil
}

// at names a place in the way of go's own messages.
func (tr *tree) at(n ast.Node, what string) string {
	p := tr.fset.Position(n.Pos())
	return p.Filename + ":" + itoa(p.Line) + ": " + what
}

func newTree(t *testing.T, files map[string]string) *tree {
	t.Helper()
	tr := &tree{fset: token.NewFileSet()}
	for name, text := range files {
		tr.add(t, name, []byte(text))
	}
	slices.SortFunc(tr.files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return tr
}

func (tr *tree) add(t *testing.T, name string, text []byte) {
	t.Helper()
	f := &file{path: name, text: text}
	if f.ext() == ".go" {
		parsed, err := parser.ParseFile(tr.fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatalf("parsing: %v", err)
		}
		f.ast = parsed
	}
	tr.files = append(tr.files, f)
}

// readTree reads what git tracks or would track. Without git it walks the
// folders; that sees a little more (what .gitignore hides outside of bin).
func readTree(t *testing.T) *tree {
	t.Helper()
	tr := &tree{fset: token.NewFileSet(), real: true}
	for _, name := range listFiles(t) {
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // removed, not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		tr.add(t, filepath.ToSlash(name), text)
	}
	if len(tr.goFiles()) < 10 {
		t.Fatalf("found %d Go files, want the whole repository", len(tr.goFiles()))
	}
	return tr
}

func listFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil && len(out) > 0 {
		return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	}
	var names []string
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin" || name == ".cache"):
			return fs.SkipDir
		case d.Type().IsRegular():
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
