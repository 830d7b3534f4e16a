// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// benchWhens are the expressions of the benchmarks, on an open of /srv/app/data/file.conf by root.
var benchWhens = []struct{ name, text string }{
	{"one", `subject.uid == 0`},
	{"three", `subject.uid == 0 && object.path.startsWith("/srv/app/") && !object.path.endsWith(".so")`},
	{"heavy", `(subject.uid == 0 || subject.gid in [100, 101, 102]) && !subject.exe.matches(r"^/usr/(s?bin|lib(exec)?)/[^/]+$")
		&& object.path.matches(r"\.(conf|ya?ml|json)$") && !object.path.contains("/cache/") && size(object.path) < 200 && (access.write || access.append)`},
}

func benchRequest(edit func(*abi.Request)) *abi.Request {
	return request(abi.EventOpen, "/srv/app/data/file.conf", "/opt/agent/bin/agentd", func(r *abi.Request) {
		r.Access = abi.AccessWrite
		if edit != nil {
			edit(r)
		}
	})
}

// BenchmarkWhen is one evaluation, by us and by the interpreter of cel-go.
func BenchmarkWhen(b *testing.B) {
	for _, x := range benchWhens {
		w := mustWhen(b, x.text, abi.EventOpen)
		r := benchRequest(nil)
		b.Run(x.name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !w.holds(r) {
					b.Fatal(w.explain(r))
				}
			}
		})
		c := newCELReference()
		p, err := c.program(w.String(), cel.EvalOptions(cel.OptOptimize)) // which compiles patterns once
		if err != nil {
			b.Fatal(err)
		}
		b.Run(x.name+"/cel-go", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.eval(p, r) != yes {
					b.Fatal(w.explain(r))
				}
			}
		})
	}
}

// BenchmarkWhenLongest are expressions of about the highest cost, on the longest paths.
func BenchmarkWhenLongest(b *testing.B) {
	for name, part := range map[string]string{
		"matches":    `object.path.matches("[^x]*y$")`,
		"beyond":     `object.path.matches("[^x]*é$")`,
		"contains":   `object.path.contains("aaaaaaaaab")`,
		"size":       `size(object.path) == 1`,
		"comparison": `object.path == subject.exe`,
		"operators":  `subject.uid * 3 + 1 == 7`,
	} {
		b.Run(name, func(b *testing.B) {
			c := newWhenCompiler()
			text, w := part, mustWhen(b, part, abi.EventOpen)
			for {
				longer := text + " || " + part
				next, err := c.compile(longer, setOf(abi.EventOpen))
				if err != nil {
					break
				}
				text, w = longer, next
			}
			r := request(abi.EventOpen, "/"+strings.Repeat("a", abi.PathBytes-2), "/"+strings.Repeat("a", abi.PathBytes-3)+"b", nil)
			if name == "beyond" {
				r = request(abi.EventOpen, "/"+strings.Repeat("ü", abi.PathBytes/2-1), "", nil)
			}
			b.ReportAllocs()
			for b.Loop() {
				if w.holds(r) {
					b.Fatal(w.explain(r))
				}
			}
			b.ReportMetric(float64(strings.Count(text, "||")+1), "parts")
		})
	}
}

// BenchmarkDFA is one pattern on one path, by us and by package regexp.
func BenchmarkDFA(b *testing.B) {
	long := "/" + strings.Repeat("a/b-", 1000) + "x"
	for _, x := range []struct{ pattern, text string }{
		{`\.(conf|ya?ml|json)$`, "/srv/app/data/file.conf"},
		{`\.(conf|ya?ml|json)$`, long},
		{`(?i)/[a-z0-9-]+/(x|y)?b.*\.so(\.[0-9]+)*$`, long},
		{`^/usr/`, long},
	} {
		name := fmt.Sprintf("%s/%d", strings.ReplaceAll(x.pattern, "/", "|"), len(x.text))
		d, err := compileDFA(x.pattern)
		if err != nil {
			b.Fatal(err)
		}
		text := []byte(x.text)
		b.Run(name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.match(text)
			}
		})
		re := regexp.MustCompile(x.pattern)
		b.Run(name+"/regexp", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				re.Match(text)
			}
		})
	}
}

// BenchmarkWhenCompile is what an expression adds to a push.
func BenchmarkWhenCompile(b *testing.B) {
	c := newWhenCompiler()
	for _, x := range benchWhens {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				clear(c.known)
				if _, err := c.compile(x.text, setOf(abi.EventOpen)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func mustWhen(t testing.TB, text string, events ...abi.Event) *when {
	t.Helper()
	w, err := newWhenCompiler().compile(text, setOf(events...))
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return w
}
