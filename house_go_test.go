// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// sleepers are test files that may sleep, with the reason.
var sleepers = map[string]string{
	"kernelbridge/lsm_test.go": "a worker that takes its time is what some tests are about",
}

// goRules are the rules about hand-written Go.
func goRules() []rule {
	const head = "// SPDX-License-Identifier: Apache-2.0\n\n"
	return []rule{{
		name: "package comment",
		why:  "a newcomer learns what a package is for from its one comment; two contradict each other sooner or later",
		fix:  "write exactly one comment that starts \"Package NAME\" (or \"Command NAME\") above one package clause, in doc.go if it is long",
		check: func(tr *tree) []string {
			comments, anyFile := map[string][]string{}, map[string]*file{}
			for _, f := range tr.goFiles() {
				key := f.dir() + " " + strings.TrimSuffix(f.ast.Name.Name, "_test")
				// A folder of tests alone, like this one, documents itself in a test.
				if f.isTest() && f.dir() != "." {
					continue
				}
				anyFile[key] = f
				if f.ast.Doc == nil {
					continue
				}
				first := strings.Fields(f.ast.Doc.Text() + " x x")
				command := strings.EqualFold(first[0], f.dir()[strings.LastIndex(f.dir(), "/")+1:])
				if first[0] == "Package" && first[1] == f.ast.Name.Name || f.ast.Name.Name == "main" && (first[0] == "Command" || command) {
					comments[key] = append(comments[key], f.path)
				}
			}
			var out []string
			for key, f := range anyFile {
				if n := len(comments[key]); n != 1 {
					out = append(out, f.dir()+": "+itoa(n)+" package comments, want 1 "+strings.Join(comments[key], " "))
				}
			}
			slices.Sort(out)
			return out
		},
		bad: []map[string]string{
			{"a/a.go": head + "package a\n"},
			{"a/a.go": "// Package a is one.\npackage a\n", "a/b.go": "// Package a is two.\npackage a\n"},
		},
		good: []map[string]string{{"a/a.go": "// Package a is one.\npackage a\n", "a/b.go": head + "package a\n"}},
	}, {
		name: "exported names have comments",
		why:  "the comment is the contract: units, ownership, concurrency, errors",
		fix:  "write a doc comment above the name; for a group of constants one comment above the group or one beside each",
		check: func(tr *tree) []string {
			var out []string
			for _, f := range tr.goFiles() {
				if f.isTest() || f.ast.Name.Name == "main" {
					continue
				}
				for _, d := range f.ast.Decls {
					out = append(out, undocumented(tr, d)...)
				}
			}
			return out
		},
		bad: []map[string]string{
			{"a.go": "package a\n\nfunc F() {}\n"},
			{"a.go": "package a\n\ntype T int\n"},
			{"a.go": "package a\n\n// T is.\ntype T int\n\nfunc (t *T) M() {}\n"},
			{"a.go": "package a\n\nconst (\n\tA = 1\n)\n"},
		},
		good: []map[string]string{{"a.go": "package a\n\n// The letters.\nconst (\n\tA = 1\n)\n\ntype t int\n\nfunc (t) M() {}\n"}},
	}, {
		name: "unsafe stays in its files",
		why:  "a reviewer looks at *_unsafe.go with other eyes; unsafe elsewhere would be read past",
		fix:  "move the lines to a file named *_unsafe.go behind a typed accessor",
		check: func(tr *tree) []string {
			return eachImport(tr, func(f *file, name string) string {
				if name == "unsafe" && !strings.HasSuffix(f.path, "_unsafe.go") && !strings.HasSuffix(f.path, "_unsafe_test.go") {
					return "imports unsafe"
				}
				return ""
			})
		},
		bad:  []map[string]string{{"a.go": "package a\n\nimport _ \"unsafe\"\n"}},
		good: []map[string]string{{"a_unsafe.go": "package a\n\nimport _ \"unsafe\"\n"}},
	}, {
		name: "no init functions",
		why:  "work before main has no owner, no error and no order that a reader can see",
		fix:  "do it in a constructor, or in a table that is a composite literal",
		check: func(tr *tree) []string {
			return eachNode(tr, func(f *file, n ast.Node) string {
				if d, ok := n.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
					return "func init"
				}
				return ""
			})
		},
		bad: []map[string]string{{"a.go": "package a\n\nfunc init() {}\n"}},
	}, {
		name:  "no mutable globals",
		why:   "a package variable is shared by every test and every engine in the process, without an owner",
		fix:   "put it in a struct that someone constructs; sentinels, tables and compiled patterns may stay",
		check: mutableGlobals,
		bad: []map[string]string{
			{"a.go": "package a\n\nvar count int\n"},
			{"a.go": "package a\n\nimport \"sync\"\n\nvar mu sync.Mutex\n"},
			{"a.go": "package a\n\nvar m = make(map[string]int)\n"},
			{"a.go": "package a\n\nvar p = new(int)\n"},
		},
		good: []map[string]string{{"a.go": "package a\n\nimport (\n\t\"errors\"\n\t_ \"embed\"\n)\n\nvar ErrX = errors.New(\"x\")\n\nvar names = [2]string{\"a\", \"b\"}\n\n//go:embed x\nvar text []byte\n\nvar _ error = ErrX\n"}},
	}, {
		name: "panics are our own bugs",
		why:  "input from kernel, disk or network must never reach a panic; the text tells the operator whose fault it was",
		fix:  "return an error; or, if only our own bug can lead here, begin the text with \"BUG: \"",
		check: func(tr *tree) []string {
			return eachNode(tr, func(f *file, n ast.Node) string {
				c, ok := n.(*ast.CallExpr)
				if !ok || f.isTest() || calledName(c) != "panic" || len(c.Args) != 1 || strings.HasPrefix(firstString(c.Args[0]), "BUG:") {
					return ""
				}
				return "panic without BUG:"
			})
		},
		bad:  []map[string]string{{"a.go": "package a\n\nfunc f() { panic(\"oh\") }\n"}},
		good: []map[string]string{{"a.go": "package a\n\nimport \"fmt\"\n\nfunc f() { panic(fmt.Sprintf(\"BUG: %d\", 1)) }\n"}},
	}, {
		name:  "error texts",
		why:   "errors are joined with colons on their way up; a capital, a full stop or \"failed to\" in the middle reads badly",
		fix:   "lower case, start with the doing: \"mapping ring: %w\"",
		check: errorTexts,
		bad: []map[string]string{
			{"a.go": "package a\n\nimport \"errors\"\n\nvar e = errors.New(\"Bad thing\")\n"},
			{"a.go": "package a\n\nimport \"fmt\"\n\nfunc f(e error) error { return fmt.Errorf(\"failed to map: %w\", e) }\n"},
			{"a.go": "package a\n\nimport \"fmt\"\n\nfunc f(e error) error { return fmt.Errorf(\"mapping.\") }\n"},
		},
		good: []map[string]string{{"a.go": "package a\n\nimport \"errors\"\n\nvar e = errors.New(\"BPF LSM is off\")\n\nvar g = errors.New(\"Rules is nil\")\n"}},
	}, {
		name: "tests do not sleep",
		why:  "a sleep is too short on a busy machine and too long on all others",
		fix:  "use testing/synctest, a channel, or wait for the condition with a bound; if it truly must sleep, add the file to sleepers with the reason",
		check: func(tr *tree) []string {
			return eachNode(tr, func(f *file, n ast.Node) string {
				if c, ok := n.(*ast.CallExpr); ok && f.isTest() && calledName(c) == "time.Sleep" && sleepers[f.path] == "" {
					return "time.Sleep in a test"
				}
				return ""
			})
		},
		bad: []map[string]string{{"a_test.go": "package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"}},
	}, {
		name: "skips say what is missing",
		why:  "a skip without a reason cannot be put right by the person who reads it, nor listed in scripts/skips",
		fix:  "t.Skip(\"needs root\"): name the thing that this machine lacks",
		check: func(tr *tree) []string {
			return eachNode(tr, func(f *file, n ast.Node) string {
				c, ok := n.(*ast.CallExpr)
				if !ok || !f.isTest() {
					return ""
				}
				s, ok := c.Fun.(*ast.SelectorExpr)
				if ok && (s.Sel.Name == "SkipNow" || (s.Sel.Name == "Skip" || s.Sel.Name == "Skipf") && isTB(s.X) && len(c.Args) == 0) {
					return "skips without a message"
				}
				return ""
			})
		},
		bad:  []map[string]string{{"a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Skip() }\n"}},
		good: []map[string]string{{"a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Skip(\"needs root\") }\n"}},
	}, {
		name: "package names",
		why:  "a package that is named after nothing collects everything",
		fix:  "name it after what it holds, one lower-case noun",
		check: func(tr *tree) []string {
			return eachNode(tr, func(f *file, n ast.Node) string {
				if n == f.ast && slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "base", "types", "manager", "misc"}, f.ast.Name.Name) {
					return "package " + f.ast.Name.Name
				}
				return ""
			})
		},
		bad: []map[string]string{{"a.go": "package util\n"}},
	}}
}

func isTB(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && (id.Name == "t" || id.Name == "b" || id.Name == "tb" || id.Name == "f")
}

// undocumented returns the exported names of d that have no comment.
func undocumented(tr *tree, d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		// What fmt and errors call by interface is documented there.
		standard := d.Recv != nil && slices.Contains([]string{"Error", "String", "Unwrap", "Is", "As"}, d.Name.Name)
		if d.Name.IsExported() && d.Doc == nil && !standard && (d.Recv == nil || exportedReceiver(d.Recv)) {
			return []string{tr.at(d, "func "+d.Name.Name)}
		}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					out = append(out, tr.at(s, "type "+s.Name.Name))
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					out = append(out, tr.at(s, d.Tok.String()+" "+s.Names[0].Name))
				}
			}
		}
		return out
	}
	return nil
}

func exportedReceiver(fields *ast.FieldList) bool {
	x := fields.List[0].Type
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.IndexListExpr:
			x = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return true
		}
	}
}

// mutableGlobals is a heuristic: a package variable without a value, or made
// with make, new, & or a sync or atomic type, is there to be changed.
func mutableGlobals(tr *tree) []string {
	var out []string
	for _, f := range tr.goFiles() {
		if f.isTest() {
			continue
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if v.Names[0].Name == "_" || embeds(g.Doc) || embeds(v.Doc) {
					continue
				}
				mutable := len(v.Values) == 0
				for _, x := range v.Values {
					switch x := x.(type) {
					case *ast.UnaryExpr:
						mutable = mutable || x.Op == token.AND
					case *ast.CallExpr:
						mutable = mutable || calledName(x) == "make" || calledName(x) == "new"
					case *ast.CompositeLit:
						if t, ok := x.Type.(*ast.SelectorExpr); ok {
							p, _ := t.X.(*ast.Ident)
							mutable = mutable || p != nil && (p.Name == "sync" || p.Name == "atomic")
						}
					}
				}
				if mutable {
					out = append(out, tr.at(v, "var "+v.Names[0].Name))
				}
			}
		}
	}
	return out
}

func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	return slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// sentence matches a text that begins like a sentence. A name may stand first:
// "BPF LSM is off", "Rules is nil", "Slots and Words are below 1".
var (
	sentence = regexp.MustCompile(`^[A-Z][a-z]+ `)
	named    = regexp.MustCompile(`^\w+ (is|are|or|and|has|needs|must) `)
)

func errorTexts(tr *tree) []string {
	return eachNode(tr, func(f *file, n ast.Node) string {
		c, ok := n.(*ast.CallExpr)
		if !ok || f.isTest() || len(c.Args) == 0 {
			return ""
		}
		if name := calledName(c); name != "errors.New" && name != "fmt.Errorf" {
			return ""
		}
		text := firstString(c.Args[0])
		switch {
		case sentence.MatchString(text) && !named.MatchString(text):
			return "error text starts with a capital: " + strconv.Quote(text)
		case strings.Contains(text, "failed to"):
			return "error text says \"failed to\": " + strconv.Quote(text)
		case strings.HasSuffix(text, ".") && !strings.HasSuffix(text, ".."):
			return "error text ends with a full stop: " + strconv.Quote(text)
		}
		return ""
	})
}

// eachNode visits every node of the hand-written Go files.
func eachNode(tr *tree, visit func(*file, ast.Node) string) []string {
	var out []string
	for _, f := range tr.goFiles() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if n != nil {
				if what := visit(f, n); what != "" {
					out = append(out, tr.at(n, what))
				}
			}
			return true
		})
	}
	return out
}

// eachImport visits every import of the hand-written Go files.
func eachImport(tr *tree, visit func(f *file, name string) string) []string {
	return eachNode(tr, func(f *file, n ast.Node) string {
		if s, ok := n.(*ast.ImportSpec); ok {
			name, _ := strconv.Unquote(s.Path.Value)
			return visit(f, name)
		}
		return ""
	})
}

// calledName is f or pkg.f of a call, as it is written.
func calledName(c *ast.CallExpr) string {
	switch fun := c.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok {
			return x.Name + "." + fun.Sel.Name
		}
	}
	return ""
}

// firstString finds the leftmost string literal of an expression.
func firstString(x ast.Expr) string {
	var out string
	ast.Inspect(x, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && out == "" {
			out, _ = strconv.Unquote(l.Value)
		}
		return out == ""
	})
	return out
}
