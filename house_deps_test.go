// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ban says what a package must not reach, itself or through others of this module.
type ban struct {
	from   string   // a package of this module, /... for it and all below
	never  []string // import paths, ours without the module's; with /... all below too
	except []string
	why    string
}

var (
	heavy    = []string{"google.golang.org/grpc/...", "github.com/grpc-ecosystem/...", "github.com/prometheus/...", "github.com/spf13/..."}
	ebpf     = []string{"github.com/cilium/ebpf/..."}
	testOnly = []string{"..."} // importers of what only tests may use
)

var bans = []ban{
	{"rules/...", []string{"arbiter/...", "kernelbridge/...", "bench/...", "cmd/..."}, []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"the rule language is checked, explained and fuzzed without an engine or a kernel"},
	{"rules/...", slices.Concat(heavy, ebpf, []string{"golang.org/x/sys/..."}), nil,
		"deciding is pure: it needs no system call and no network"},
	{"arbiter", []string{"kernelbridge/...", "arbiter/control/...", "arbiter/audit", "arbiter/store", "bench/...", "cmd/..."}, []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"the engine owns the Source interface; its race tests, fuzzers and benchmarks run without a kernel to load into"},
	{"arbiter", slices.Concat(heavy, ebpf, []string{"unsafe"}), nil,
		"nothing on the verdict's way serves metrics or speaks gRPC: one gRPC call is longer than the whole budget"},
	{"arbiter/cache", slices.Concat(heavy, ebpf, []string{"arbiter", "log/slog", "unsafe"}), nil,
		"the cache is a data structure under the engine, not a part of it"},
	{"arbiter/audit", slices.Concat(heavy, ebpf, []string{"kernelbridge/...", "arbiter/control/..."}), []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"the verdict log reads the engine's event stream and nothing else"},
	{"arbiter/trial", slices.Concat(heavy, ebpf, []string{"kernelbridge/...", "arbiter/control/...", "arbiter/audit", "arbiter/store"}), []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"a recording and the live stream are decided again by the same code, in the daemon and without one"},
	{"arbiter/store", slices.Concat(heavy, ebpf, []string{"arbiter", "kernelbridge/..."}), []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"the store keeps bytes; what they mean is not its business, so its crash tests stay small"},
	{"arbiter/signature", slices.Concat(heavy, ebpf, []string{"arbiter", "arbiter/control/...", "arbiter/store", "rules/...", "kernelbridge/...", "log/slog"}), nil,
		"whose signature a text has is asked of bytes, by the daemon and by a client without one"},
	{"arbiter/compiler", slices.Concat(heavy, ebpf, []string{"arbiter", "arbiter/control/...", "arbiter/store", "kernelbridge/..."}), []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"it turns text into rules, for whoever asks; where they go is not its business"},
	{"arbiter/control", []string{"kernelbridge/...", "bench/...", "cmd/..."}, []string{"kernelbridge/abi", "kernelbridge/catalogue"},
		"the control plane talks to the engine; which backend serves it is said by main"},
	{"arbiter/control", ebpf, nil, "a bug in the control plane must not be able to reach for BPF objects"},
	{"arbiter/control/controlv1", []string{"arbiter", "rules/...", "kernelbridge/...", "arbiter/control"}, nil,
		"a client in another repository imports the messages and nothing of the daemon"},
	{"kernelbridge/abi", []string{"arbiter/...", "rules/...", "kernelbridge", "golang.org/x/...", "github.com/...", "unsafe"}, nil,
		"it is the leaf that both sides share; what it imported, both sides would"},
	{"kernelbridge/catalogue", []string{"arbiter/...", "rules/...", "kernelbridge", "kernelbridge/ring", "golang.org/x/...", "github.com/...", "unsafe"}, nil,
		"rules, documents and arbiterctl read it; what it imported, all of them would"},
	{"kernelbridge/...", slices.Concat(heavy, []string{"arbiter/control/...", "arbiter/audit", "arbiter/store", "bench/...", "cmd/..."}), nil,
		"the bridge carries requests; it serves no API and keeps no log"},
	{"kernelbridge/ring", ebpf, nil, "the worker's side of the queue is mapped memory, whoever made the map"},
	{"kernelbridge/ringtest", ebpf, nil, "it is the kernel's side without a kernel, for machines without privileges"},
	{"kernelbridge/gate", slices.Concat(ebpf, []string{"kernelbridge/ring"}), nil,
		"the gate is a FUSE server that is tested without BPF and without a queue"},
	{"kernelbridge/fanotify/...", ebpf, nil, "it is the backend for kernels without BPF LSM"},
	{"bench", slices.Concat([]string{"arbiter/control/...", "cmd/..."}, heavy), nil,
		"a load generator that drags the control plane along measures the control plane"},
	{"bench", []string{"bench/report", "bench/compare", "bench/claims", "gonum.org/..."}, nil,
		"what shows figures depends on what measures them, and what measures does nothing else"},
	{"cmd/arbiterd/...", []string{"bench/..."}, nil,
		"the daemon is what is measured"},
	{"cmd/arbiterctl/...", []string{"arbiter/store", "bench/..."}, nil,
		"the client reaches the daemon's state through the control interface only"},
}

// use allows the direct imports of one module, with the record that says why
// it is here, how big it is and how to get rid of it.
type use struct {
	module string
	by     []string // packages, /... for all below; tests may use it where they may
	tests  []string // packages whose tests may use it besides
	record string   // in docs/decisions
}

var uses = []use{
	{"github.com/cilium/ebpf", []string{"kernelbridge"}, []string{"kernelbridge/..."}, "0003-bpf-loader.md"},
	{"golang.org/x/sys", []string{"arbiter", "arbiter/compiler", "arbiter/control", "kernelbridge/...", "bench/...", "cmd/..."}, []string{"..."}, "0004-system-calls.md"},
	{"google.golang.org/grpc", []string{"arbiter/control/...", "cmd/..."}, nil, "0005-control-plane.md"},
	{"google.golang.org/protobuf", []string{"arbiter/control/...", "cmd/..."}, nil, "0005-control-plane.md"},
	{"github.com/grpc-ecosystem/go-grpc-middleware/v2", []string{"arbiter/control"}, nil, "0005-control-plane.md"},
	{"github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus", []string{"arbiter/control"}, nil, "0005-control-plane.md"},
	{"golang.org/x/time", []string{"arbiter/control"}, nil, "0005-control-plane.md"},
	{"github.com/prometheus/client_golang", []string{"arbiter/control", "cmd/arbiterd/..."}, nil, "0005-control-plane.md"},
	{"aead.dev/minisign", []string{"arbiter/signature"}, nil, "0021-signed-rules.md"},
	{"go.yaml.in/yaml/v3", []string{"rules", "rules/importer", "bench/claims", "cmd/arbiterd/..."}, nil, "0006-yaml.md"},
	{"cel.dev/cel-go", []string{"rules"}, nil, "0024-when.md"},
	{"github.com/cespare/xxhash/v2", []string{"rules", "arbiter/cache"}, nil, "0007-hashes-and-buffers.md"},
	{"github.com/valyala/bytebufferpool", []string{"arbiter/audit"}, nil, "0007-hashes-and-buffers.md"},
	{"github.com/coreos/go-systemd/v22", []string{"cmd/arbiterd/..."}, nil, "0008-commands.md"},
	{"github.com/spf13/cobra", []string{"cmd/arbiterctl/..."}, nil, "0008-commands.md"},
	{"github.com/spf13/pflag", []string{"cmd/arbiterctl/..."}, nil, "0008-commands.md"},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"bench/..."}, nil, "0009-tests-and-benchmarks.md"},
	{"github.com/open-policy-agent/opa", []string{"bench/opa"}, nil, "0009-tests-and-benchmarks.md"},
	{"gonum.org/v1/plot", []string{"bench/report"}, nil, "0029-reports-of-measurements.md"},
	{"golang.org/x/perf", []string{"bench/compare"}, nil, "0029-reports-of-measurements.md"},
	{"github.com/santhosh-tekuri/jsonschema/v6", nil, []string{"bench"}, "0029-reports-of-measurements.md"},
	{"github.com/google/go-cmp", nil, testOnly, "0009-tests-and-benchmarks.md"},
	{"github.com/rogpeppe/go-internal", []string{"cmd/arbiterctl"}, testOnly, "0009-tests-and-benchmarks.md"},
	{"go.uber.org/goleak", nil, testOnly, "0009-tests-and-benchmarks.md"},
	{"pgregory.net/rapid", nil, testOnly, "0009-tests-and-benchmarks.md"},
	{"github.com/bufbuild/protocompile", []string{"cmd/tools/protogen"}, nil, "0010-generated-files.md"},
}

func depRules() []rule {
	return []rule{{
		name:  "dependency direction",
		why:   "each ban has its own, printed above",
		fix:   "move the code to the side that may know, or let main hand it over as a small interface or func; read docs/architecture.md",
		check: checkBans,
		bad: []map[string]string{
			{"rules/a.go": "package rules\n\nimport _ \"" + module + "/arbiter\"\n"},
			{"arbiter/a.go": "package arbiter\n\nimport _ \"" + module + "/rules\"\n", "rules/a.go": "package rules\n\nimport _ \"google.golang.org/grpc/codes\"\n"},
			{"kernelbridge/abi/a.go": "package abi\n\nimport _ \"golang.org/x/sys/unix\"\n"},
		},
		good: []map[string]string{
			{"rules/a.go": "package rules\n\nimport _ \"" + module + "/kernelbridge/abi\"\n"},
			{"rules/a_test.go": "package rules\n\nimport _ \"" + module + "/arbiter\"\n"},
		},
	}, {
		name:  "direct dependencies",
		why:   "each module is code that we answer for; it comes in with its reason, size and exit plan, and stays where it was let in",
		fix:   "do without; or write or extend the record in docs/decisions and add the package to the table uses",
		check: checkUses,
		bad: []map[string]string{
			{"rules/a.go": "package rules\n\nimport _ \"github.com/stretchr/testify/assert\"\n"},
			{"rules/a.go": "package rules\n\nimport _ \"github.com/valyala/bytebufferpool\"\n"},
			{"rules/a.go": "package rules\n\nimport _ \"github.com/google/go-cmp/cmp\"\n"},
			{"rules/a.go": "package rules\n\nimport \"C\"\n"},
		},
		good: []map[string]string{{"rules/a_test.go": "package rules\n\nimport _ \"github.com/google/go-cmp/cmp\"\n"}},
	}, {
		name:  "permissions that nobody uses",
		why:   "what a package once imported and no longer does is open to it for ever, and the records say that it is used there",
		fix:   "take the package out of the table uses, and out of the record that the entry names",
		check: checkUnused,
		bad: []map[string]string{
			{"a/a.go": "package a\n\nimport _ \"example.org/m/x\"\n", "c/a.go": "package c\n\nimport _ \"example.org/m\"\n"},
			{"a/a.go": "package a\n\nimport _ \"example.org/m/x\"\n", "b/b/a.go": "package b\n\nimport _ \"example.org/m\"\n"},
			{"a/a.go": "package a\n\nimport _ \"example.org/m/x\"\n", "b/b/a.go": "package b\n\nimport _ \"example.org/m\"\n",
				"c/a.go": "package c\n\nimport _ \"example.org/m\"\n"},
		},
		good: []map[string]string{{"a/a.go": "package a\n\nimport _ \"example.org/m/x\"\n", "b/b/a.go": "package b\n\nimport _ \"example.org/m\"\n",
			"c/a_test.go": "package c\n\nimport _ \"example.org/m\"\n"}},
	}, {
		name:  "decision records",
		why:   "a dependency without a written exit plan is one for ever",
		fix:   "number the records without a gap, give each the headings Why, Cost and Exit, and name in it every module that points to it; drop from the table uses what nobody imports",
		check: checkRecords,
		bad: []map[string]string{
			{"docs/decisions/0001-x.md": "# X\n\n## Why\n\n## Cost\n"},
			{"docs/decisions/0002-x.md": "# X\n\n## Why\n\n## Cost\n\n## Exit\n"},
			{"docs/decisions/0001-x.md": "# X\n\n## Why\n\n## Cost\n\n## Exit\n", "docs/decisions/0002-y.md": "no heading"},
		},
		good: []map[string]string{{"docs/decisions/0001-x.md": "# X\n\n## Why\n\n## Cost\n\n## Exit\n"}},
	}}
}

// covers says whether pattern, with or without /..., names the path.
func covers(pattern, p string) bool {
	if pattern == "..." {
		return true
	}
	prefix, below := strings.CutSuffix(pattern, "/...")
	return p == prefix || below && strings.HasPrefix(p, prefix+"/")
}

func coversAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return covers(pattern, p) })
}

func checkBans(tr *tree) []string {
	imports := tr.imports()
	var out []string
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		chains := reach(imports, from)
		for _, b := range bans {
			if !covers(b.from, from) {
				continue
			}
			for _, to := range slices.Sorted(maps.Keys(chains)) {
				chain := chains[to]
				// unsafe and slog are about a package's own files.
				if direct := to == "unsafe" || to == "log/slog"; direct && len(chain) > 2 {
					continue
				}
				if to != from && coversAny(b.never, to) && !coversAny(b.except, to) && !(covers(b.from, to) && strings.HasSuffix(b.from, "/...")) {
					out = append(out, strings.Join(chain, " -> ")+": "+b.why)
				}
			}
		}
	}
	return out
}

// imports maps each package of the module, without its tests, to what its files
// import, whatever their build tags. Paths of the module lack its name.
func (tr *tree) imports() map[string][]string {
	out := map[string][]string{}
	for _, f := range tr.files {
		// Generated messages import unsafe; that is the generator's business.
		if f.ast == nil || f.isTest() || strings.HasPrefix(f.path, "cmd/tools/") {
			continue
		}
		for _, s := range f.ast.Imports {
			name := importPath(s)
			if f.isGenerated() && name == "unsafe" {
				continue
			}
			out[f.dir()] = append(out[f.dir()], strings.TrimPrefix(name, module+"/"))
		}
	}
	return out
}

// reach returns a shortest chain of imports to everything reachable.
func reach(imports map[string][]string, from string) map[string][]string {
	chains := map[string][]string{from: {from}}
	for todo := []string{from}; len(todo) > 0; todo = todo[1:] {
		for _, to := range imports[todo[0]] {
			if chains[to] == nil {
				chains[to] = append(slices.Clone(chains[todo[0]]), to)
				todo = append(todo, to)
			}
		}
	}
	return chains
}

func checkUses(tr *tree) []string {
	var out []string
	for _, f := range tr.files {
		if f.ast == nil {
			continue
		}
		for _, s := range f.ast.Imports {
			name := importPath(s)
			first, _, _ := strings.Cut(name, "/")
			if name == module || strings.HasPrefix(name, module+"/") || name != "C" && !strings.Contains(first, ".") {
				continue
			}
			u, ok := usedModule(name)
			switch {
			case !ok:
				out = append(out, tr.at(s, "imports "+name+", which no decision record allows"))
			case !coversAny(u.by, f.dir()) && !(f.isTest() && coversAny(u.tests, f.dir())):
				out = append(out, tr.at(s, "imports "+name+"; docs/decisions/"+u.record+" does not let package "+f.dir()+" in"))
			}
		}
	}
	return out
}

// exampleUses stands for the table uses in examples.
var exampleUses = []use{{module: "example.org/m", by: []string{"a", "b/..."}, tests: []string{"c"}}}

// checkUnused looks for places of the table uses where the module is not imported.
func checkUnused(tr *tree) []string {
	table := uses
	if !tr.real {
		table = exampleUses
	}
	type place struct {
		module, pattern string
		test            bool
	}
	idle := map[place]bool{}
	for _, u := range table {
		for _, p := range u.by {
			idle[place{u.module, p, false}] = true
		}
		for _, p := range u.tests {
			idle[place{u.module, p, true}] = true
		}
	}
	for _, f := range tr.files {
		if f.ast == nil {
			continue
		}
		for _, s := range f.ast.Imports {
			u, _ := moduleIn(table, importPath(s))
			for _, p := range u.by {
				if covers(p, f.dir()) && !f.isTest() {
					delete(idle, place{u.module, p, false})
				}
			}
			for _, p := range u.tests {
				if covers(p, f.dir()) && f.isTest() {
					delete(idle, place{u.module, p, true})
				}
			}
		}
	}
	var out []string
	for p := range idle {
		what := p.pattern
		if p.test {
			what += " (tests)"
		}
		out = append(out, p.module+": nothing in "+what+" imports it")
	}
	slices.Sort(out)
	return out
}

func usedModule(importPath string) (use, bool) { return moduleIn(uses, importPath) }

func moduleIn(table []use, importPath string) (use, bool) {
	var best use
	for _, u := range table {
		if covers(u.module+"/...", importPath) && len(u.module) > len(best.module) {
			best = u
		}
	}
	return best, best.module != ""
}

func importPath(s *ast.ImportSpec) string {
	name, _ := strconv.Unquote(s.Path.Value)
	return name
}

func checkRecords(tr *tree) []string {
	var out []string
	number := 0
	for _, f := range tr.files {
		if f.dir() != "docs/decisions" {
			continue
		}
		number++
		name := strings.TrimPrefix(f.path, "docs/decisions/")
		if n, err := strconv.Atoi(name[:min(4, len(name))]); err != nil || n != number {
			out = append(out, f.path+": want number "+itoa(number))
		}
		for _, heading := range []string{"\n## Why\n", "\n## Cost\n", "\n## Exit\n"} {
			if !strings.Contains(string(f.text), heading) {
				out = append(out, f.path+": no heading "+strings.TrimSpace(heading))
			}
		}
	}
	if !tr.real {
		return out
	}
	imported := map[string]bool{}
	for _, f := range tr.files {
		if f.ast == nil {
			continue
		}
		for _, s := range f.ast.Imports {
			if u, ok := usedModule(importPath(s)); ok {
				imported[u.module] = true
			}
		}
	}
	for _, u := range uses {
		record := tr.file("docs/decisions/" + u.record)
		switch {
		case record == nil:
			out = append(out, u.module+": its record docs/decisions/"+u.record+" does not exist")
		case !strings.Contains(string(record.text), u.module):
			out = append(out, record.path+": does not name "+u.module)
		case !imported[u.module]:
			out = append(out, u.module+": nothing imports it, the table uses and "+record.path+" still name it")
		}
	}
	return out
}
