// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// docRules are the rules about what documents name.
func docRules() []rule {
	return []rule{{
		name: "names in documents",
		why:  "a document that names a test as its proof, or a file as the place for a change, is wrong the day after a rename unless somebody looks",
		fix:  "write the name that is there now, or take the claim out; a file is written with its folder, from the root of the repository",
		check: func(tr *tree) []string {
			tests, tops := map[string]bool{}, map[string]bool{}
			for _, f := range tr.files {
				if top, _, ok := strings.Cut(f.path, "/"); ok {
					tops[top] = true
				}
				if f.ast == nil || !f.isTest() {
					continue
				}
				for _, d := range f.ast.Decls {
					if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
						tests[fn.Name.Name] = true
					}
				}
			}
			var out []string
			for _, f := range tr.files {
				if f.ext() != ".md" {
					continue
				}
				for i, line := range strings.Split(string(f.text), "\n") {
					at := f.path + ":" + itoa(i+1) + ": "
					for _, m := range namedTest.FindAllStringSubmatch(line, -1) {
						if !tests[m[1]] {
							out = append(out, at+"no test "+m[1])
						}
					}
					for _, m := range namedFile.FindAllStringSubmatch(line, -1) {
						if tops[m[1]] && !tr.matches(m[1]+"/"+m[2]) {
							out = append(out, at+"no file "+m[1]+"/"+m[2])
						}
					}
				}
			}
			return out
		},
		bad: []map[string]string{
			{"a.md": "shown by `TestGone`\n", "a_test.go": "package a\n\nfunc TestHere() {}\n"},
			{"a.md": "see `rules/gone.go`\n", "rules/here.go": "package rules\n"},
			{"a.md": "see `rules/*.txtar`\n", "rules/here.go": "package rules\n"},
		},
		good: []map[string]string{
			{"a.md": "shown by `TestHere`, not by Testing; in `rules/here.go`, `rules/*.go`, `rules/`, `bin/x` and `/etc/rules/x`\n",
				"a_test.go": "package a\n\nfunc TestHere() {}\n", "rules/here.go": "package rules\n"},
		},
	}, {
		name: "anchors in documents",
		why:  "a link to a heading that was renamed leads to the top of the page, and the reader gives up there",
		fix:  "write the heading as the browser does: lower case, blanks as -, no punctuation but - and _",
		check: func(tr *tree) []string {
			var out []string
			for _, f := range tr.files {
				if f.ext() != ".md" {
					continue
				}
				for _, m := range mdLink.FindAllSubmatch(f.text, -1) {
					target, anchor, ok := strings.Cut(string(m[1]), "#")
					if !ok || strings.Contains(target, "://") {
						continue
					}
					to := f
					if target != "" {
						to = tr.file(path.Join(f.dir(), target))
					}
					if to != nil && to.ext() == ".md" && !anchors(to.text)[anchor] {
						out = append(out, f.path+": no heading for "+string(m[1]))
					}
				}
			}
			return out
		},
		bad: []map[string]string{
			{"a.md": "[x](#gone)\n\n# Here\n"},
			{"a.md": "[x](docs/b.md#gone)\n", "docs/b.md": "# Here\n"},
		},
		good: []map[string]string{{"a.md": "[x](docs/b.md#a-heading-with-on_fail-deny) [y](#top) [z](b.go#L1)\n\n# Top\n", "docs/b.md": "## A heading, with `on_fail: deny`\n"}},
	}, {
		name:  "words of the shared memory",
		why:   "who debugs a queue reads docs/abi.md beside a dump; a word that is not in it is a guess",
		fix:   "describe the field, state or reason in docs/abi.md, or take its old name out",
		check: checkABI,
		bad: []map[string]string{
			{"kernelbridge/bpf/arb_abi.h": "struct arb_slot {\n\t__u64 word;\n\t__u64 pad[7];\n};\n", "docs/abi.md": "# Words\n"},
			{"kernelbridge/bpf/arb_abi.h": "enum arb_state {\n\tARB_FREE,\n\tARB_HELD,\n};\n", "docs/abi.md": "FREE\n"},
			{"kernelbridge/bpf/arb_abi.h": "#define ARB_VERSION 2\n", "docs/abi.md": "\n`version` is 1.\n"},
		},
		good: []map[string]string{{
			"kernelbridge/bpf/arb_abi.h": "#define ARB_VERSION 2\nenum arb_state {\n\tARB_FREE,\n};\nenum arb_reason {\n\tARB_REASON_NONE,\n\tARB_REASON_COUNT,\n};\n" +
				"struct arb_slot {\n\t__u64 word; /* x */\n\t__u8 path[ARB_PATH_BYTES];\n\t__u32 pad;\n};\n",
			"docs/abi.md": "FREE, none, `word`, `path`\n\n`version` is 2.\n",
		}},
	}}
}

// abiWords returns the words of the shared memory that docs/abi.md has to describe: the
// states of a slot, the reasons, and the fields of the structures but for the facts.
func abiWords(header []byte) []string {
	var out []string
	for _, block := range cBlock.FindAllSubmatch(header, -1) {
		name := string(block[1])
		for _, line := range strings.Split(string(block[2]), "\n") {
			switch m := cMember.FindStringSubmatch(line); {
			case m == nil || strings.HasPrefix(m[1]+m[2], "pad") || strings.HasSuffix(m[1], "_COUNT"):
			case name == "enum arb_state":
				out = append(out, strings.TrimPrefix(m[1], "ARB_"))
			case name == "enum arb_reason":
				out = append(out, strings.ToLower(strings.TrimPrefix(m[1], "ARB_REASON_")))
			case name == "struct arb_header" || name == "struct arb_slot" || name == "struct arb_counts" || name == "struct arb_notice":
				out = append(out, "`"+m[2]+"`")
			}
		}
	}
	return out
}

// checkABI looks the words up.
func checkABI(tr *tree) []string {
	header, doc := tr.file("kernelbridge/bpf/arb_abi.h"), tr.file("docs/abi.md")
	if header == nil || doc == nil {
		if tr.real {
			return []string{"kernelbridge/bpf/arb_abi.h or docs/abi.md: missing"}
		}
		return nil
	}
	var out []string
	words := abiWords(header.text)
	if tr.real && len(words) < 30 {
		out = append(out, header.path+": got "+itoa(len(words))+" words, want all fields and states: is it still written as it was?")
	}
	for _, w := range words {
		if !strings.Contains(string(doc.text), w) {
			out = append(out, doc.path+": does not describe "+w)
		}
	}
	if v := cVersion.FindSubmatch(header.text); v != nil && !strings.Contains(string(doc.text), "\n`version` is "+string(v[1])+".") {
		out = append(out, doc.path+": does not say that `version` is "+string(v[1]))
	}
	return out
}

// anchors returns what the headings of a document can be linked as.
func anchors(text []byte) map[string]bool {
	out := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		if level := len(line) - len(strings.TrimLeft(line, "#")); level > 0 && strings.HasPrefix(line[level:], " ") {
			title := strings.ToLower(strings.TrimSpace(line[level:]))
			out[notInAnchor.ReplaceAllString(strings.ReplaceAll(title, " ", "-"), "")] = true
		}
	}
	return out
}

// matches reports whether a file or folder of the tree has that name, which may be
// a pattern of path.Match.
func (tr *tree) matches(pattern string) bool {
	pattern = strings.TrimSuffix(pattern, "/")
	for _, f := range tr.files {
		for d := f.path; d != "."; d = path.Dir(d) {
			if ok, err := path.Match(pattern, d); ok && err == nil {
				return true
			}
		}
	}
	return false
}

var (
	notInAnchor = regexp.MustCompile(`[^\w-]`)

	cBlock   = regexp.MustCompile(`(?s)\n?((?:struct|enum) arb_\w+) \{\n(.*?)\n\};`)
	cMember  = regexp.MustCompile(`^\t(?:(ARB_\w+)|(?:struct )?\w+ (\w+)[^()]*;)`)
	cVersion = regexp.MustCompile(`#define ARB_VERSION (\d+)`)

	namedTest = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	namedFile = regexp.MustCompile("`([a-z][\\w.-]*)/([\\w./*-]*)`")
)
