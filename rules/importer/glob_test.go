// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// TestGlobsMatchTheSame compares every short foreign pattern with a plain evaluator of its language,
// on every short path that the kernel can report.
func TestGlobsMatchTheSame(t *testing.T) {
	const longest = 4 // pieces of a pattern, characters of a path
	paths := texts(5, []string{"a", ".", "/"}, func(s string) bool { return unclean("/"+s) == "" })
	tests := []struct {
		name      string
		pieces    []string
		translate func(string) (pattern, string)
		matches   func(pattern, path string) bool
	}{
		{"fnmatch", []string{"a", ".", "/", "*", "?", "[!a]", "[a.]"}, fnmatchGlob, fnmatch},
		{"kernel", []string{"a", ".", "/", "*", "?", "[!a]", "[a/]"}, kernelGlob, globMatch},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			written := 0
			for _, rest := range texts(longest, tc.pieces, nil) {
				for _, p := range []string{"/" + rest, rest} {
					got, why := tc.translate(p)
					if why != "" {
						continue
					}
					written++
					rs := patternRule(t, got)
					for _, path := range paths {
						if got, want := matchesPath(rs, "/"+path), tc.matches(p, "/"+path); got != want {
							t.Fatalf("%s as %s on %s: matches %v, want %v", p, rs.Source(), "/"+path, got, want)
						}
					}
				}
			}
			if written < 1000 {
				t.Errorf("%d patterns were translated, want most of them", written)
			}
		})
	}
}

// TestGlobs are patterns whose translation is worth reading.
func TestGlobs(t *testing.T) {
	type maker func(string) (pattern, string)
	tests := []struct {
		name   string
		make   maker
		text   string
		want   string
		reason string
	}{
		{"fnmatch within a component", fnmatchGlob, "/opt/v-*/bin/tool", "/opt/v-*/bin/tool", ""},
		{"fnmatch for a component", fnmatchGlob, "/home/*/bin", "/home/[!.]*/bin", ""},
		{"fnmatch with a suffix", fnmatchGlob, "/tmp/*.so", "/tmp/[!.]*.so", ""},
		{"fnmatch with a prefix of nothing", fnmatchGlob, "/tmp/*so", "/tmp/{[!.]*,}so", ""},
		{"fnmatch with braces, which are ordinary", fnmatchGlob, "/tmp/{a}", `/tmp/\{a\}`, ""},
		{"fnmatch with a class", fnmatchGlob, "/a/x[^0-9]", "/a/x[!0-9]", ""},
		{"fnmatch with a [ alone", fnmatchGlob, "/a/x[", `/a/x\[`, ""},
		{"fnmatch with a named class", fnmatchGlob, "/a/[[:alpha:]]", "", "locales"},
		{"fnmatch, relative", fnmatchGlob, "a*", "", "not absolute"},
		{"kernel, any directory", kernelGlob, "*/bash", "/**/bash", ""},
		{"kernel, everything below", kernelGlob, "/usr/bin/*", "/usr/bin/**", ""},
		{"kernel, something between", kernelGlob, "/a/*/b", "/a/?**/b", ""},
		{"kernel, one character", kernelGlob, "/a?b", "/a{?,/}b", ""},
		{"kernel, relative", kernelGlob, "bash", "", "neither / nor *"},
		{"a beginning", beginning, "/tmp", "/tmp**", ""},
		{"a beginning that is a directory", beginning, "/tmp/", "/tmp", ""},
		{"a beginning with a wildcard in it", beginning, "/tmp/[x", `/tmp/\[x**`, ""},
		{"an end", ending, ".so", "/**.so", ""},
		{"an end of whole components", ending, "/bash", "/**/bash", ""},
		{"a part", containing, "ssh", "/**ssh**", ""},
		{"too long", beginning, "/" + strings.Repeat("x", maxGlobSteps), "", "too long"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, why := tc.make(tc.text)
			if why != "" || tc.reason != "" {
				if tc.reason == "" || !strings.Contains(why, tc.reason) {
					t.Errorf("got the reason %q, want one with %q", why, tc.reason)
				}
				return
			}
			if got.text != tc.want {
				t.Errorf("got %s, want %s", got.text, tc.want)
			}
			patternRule(t, got)
		})
	}
}

// texts returns all texts of up to most pieces that keep passes; keep may be nil.
func texts(most int, pieces []string, keep func(string) bool) []string {
	last, all := []string{""}, []string{}
	for range most {
		var next []string
		for _, t := range last {
			for _, p := range pieces {
				next = append(next, t+p)
				if keep == nil || keep(t+p) {
					all = append(all, t+p)
				}
			}
		}
		last = next
	}
	return all
}

// patternRule loads a rule that denies what the pattern matches.
func patternRule(t *testing.T, p pattern) *rules.RuleSet {
	t.Helper()
	text := "version: 1\ndefault: allow\nscope: {paths: [/]}\nrules: [{id: p, events: [open], object: {path: " + p.node().flow() + "}, verdict: deny}]\n"
	rs, err := rules.Load("pattern.yaml", []byte(text), rules.Options{})
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, text)
	}
	return rs
}

func matchesPath(rs *rules.RuleSet, path string) bool {
	return rs.Decide(request(abi.EventOpen, path, "/bin/x", 0, 0)).Verdict.Action == rules.Deny
}

// request is an open for reading, or another event, with what rules look at.
func request(e abi.Event, path, exe string, uid, euid uint32) *abi.Request {
	r := &abi.Request{Event: e, UID: uid, EUID: euid, Access: abi.AccessRead}
	r.PathLen = uint32(copy(r.PathBuf[:], path))
	r.ExeLen = uint32(copy(r.ExeBuf[:], exe))
	return r
}

// fnmatch is fnmatch(3) with FNM_PATHNAME and FNM_PERIOD.
func fnmatch(p, s string) bool { return fnmatchFrom(p, s, true) }

func fnmatchFrom(p, s string, start bool) bool {
	if p == "" {
		return s == ""
	}
	leading := start && strings.HasPrefix(s, ".")
	switch p[0] {
	case '*':
		if leading {
			return false
		}
		for i := 0; ; i++ {
			if fnmatchFrom(p[1:], s[i:], start && i == 0) {
				return true
			}
			if i == len(s) || s[i] == '/' {
				return false
			}
		}
	case '?':
		return s != "" && s[0] != '/' && !leading && fnmatchFrom(p[1:], s[1:], false)
	case '[':
		if k, rest, closed := parseClass(p[1:], "!^", true); closed {
			return s != "" && s[0] != '/' && !leading && k.has(s[0]) && fnmatchFrom(rest, s[1:], false)
		}
	}
	return s != "" && s[0] == p[0] && fnmatchFrom(p[1:], s[1:], p[0] == '/')
}

// globMatch is the kernel's glob_match().
func globMatch(p, s string) bool {
	if p == "" {
		return s == ""
	}
	switch p[0] {
	case '*':
		for i := 0; i <= len(s); i++ {
			if globMatch(p[1:], s[i:]) {
				return true
			}
		}
		return false
	case '?':
		return s != "" && globMatch(p[1:], s[1:])
	case '[':
		if k, rest, closed := parseClass(p[1:], "!", false); closed {
			return s != "" && k.has(s[0]) && globMatch(rest, s[1:])
		}
	}
	return s != "" && s[0] == p[0] && globMatch(p[1:], s[1:])
}
