// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// What the kernel side decides by patterns of paths is what Decide does, and it leaves nothing to a
// worker that it could decide but refusals.
func TestKernelRulesOfPaths(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "ab", "b", "usr", "é", "x.y"})
	path := rapid.Map(rapid.SliceOfN(part, 1, 4), func(parts []string) string { return "/" + strings.Join(parts, "/") })
	simple := rapid.Custom(func(t *rapid.T) string {
		p := path.Draw(t, "path")
		return rapid.SampledFrom([]string{"{literal: %s}", "{prefix: %s}", "{glob: '%s/*'}", "{glob: '%s/**'}", "{glob: '%s*'}", "'%s'"}).Draw(t, "pattern") + "|" + p
	})
	odd := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"{glob: '%s/*/a'}", "{glob: '%s?'}", "{glob: '/**%s'}", "{glob: '/{x,b}%s'}"}).Draw(t, "pattern") + "|" + path.Draw(t, "path")
	})
	decided, refused, allowed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var src strings.Builder
		fmt.Fprintf(&src, "version: 1\ndefault: %s\nscope: {paths: [/]}\nrules:\n", rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "default"))
		var named []string
		for i := range rapid.IntRange(1, 5).Draw(t, "rules") {
			var patterns []string
			for range rapid.SampledFrom([]int{1, 1, 3, 30}).Draw(t, "patterns") {
				of := simple
				if rapid.IntRange(0, 40).Draw(t, "odd") == 0 {
					of = odd
				}
				form, p, _ := strings.Cut(of.Draw(t, "pattern"), "|")
				patterns, named = append(patterns, fmt.Sprintf(form, p)), append(named, p)
			}
			uid := rapid.SampledFrom([]string{"", "", "", ", subject: {uid: [0, 2-3]}"}).Draw(t, "uid")
			fmt.Fprintf(&src, "  - {id: r%d, events: [unlink], object: {path: [%s]}%s, verdict: %s}\n", i, strings.Join(patterns, ", "), uid,
				rapid.SampledFrom([]string{"allow", "allow", "deny"}).Draw(t, "verdict"))
		}
		rs, err := Load("f.yaml", []byte(src.String()), Options{})
		if err != nil {
			t.Fatalf("the generator wrote a bad file:\n%s\n%v", &src, err)
		}
		kernel := rs.KernelRules(abi.EventUnlink)
		whole := len(kernel) > 0 && kernel[len(kernel)-1].Rule < 0 // it has all rules
		for range 12 {
			r := &abi.Request{Event: abi.EventUnlink, UID: rapid.Uint32Range(0, 3).Draw(t, "uid")}
			asked := path.Draw(t, "asked")
			if near := rapid.SampledFrom([]string{"", "-", "", "a", "/a", "/a/b"}).Draw(t, "near"); near != "-" {
				asked = rapid.SampledFrom(named).Draw(t, "named") + near
			}
			r.PathLen = uint32(copy(r.PathBuf[:], asked))
			d := rs.Decide(r)
			k, ok := abi.DecideKernel(kernel, r)
			if ok && (k.Rule != d.Rule || k.Errno != d.Verdict.Errno || d.Verdict.Action != Allow) {
				t.Fatalf("%s by uid %d: the kernel: rule %d, errno %d; Decide: rule %d, %v\n%s", r.Path(), r.UID, k.Rule, k.Errno, d.Rule, d.Verdict, &src)
			}
			if whole && ok != (d.Verdict.Action == Allow) {
				t.Fatalf("%s by uid %d: the kernel decides %t, and it is %v\n%s", r.Path(), r.UID, ok, d.Verdict, &src)
			}
			switch {
			case !ok:
				refused++
			case k.Rule < 0:
				allowed++
			default:
				decided++
			}
		}
	})
	if decided < 50 || refused < 50 || allowed < 50 {
		t.Errorf("%d allowed by rules, %d by the default, %d left to workers: want more of each", decided, allowed, refused)
	}
}

// What is decided by the rules that come first does not wait for facts that others look at.
func TestSure(t *testing.T) {
	rs := mustLoad(t, head+`rules:
- {id: root, events: [rename], subject: {uid: 7}, verdict: deny}
- {id: here, events: [rename], object: {path: {prefix: /srv/}}, verdict: allow}
- {id: not-there, events: [rename], detail: {prefix: /etc/}, verdict: deny}
`)
	for _, tc := range []struct {
		path  string
		uid   uint32
		flags uint32
		want  bool
	}{
		{"/srv/x", 0, abi.FlagDetailTruncated, true},
		{"/opt/x", 0, abi.FlagDetailTruncated, false},
		{"/opt/x", 7, abi.FlagDetailTruncated | abi.FlagPathTruncated, true},
		{"/srv/x", 0, abi.FlagPathTruncated, false},
	} {
		r := request(abi.EventRename, tc.path, "/exe", func(r *abi.Request) { r.UID, r.Flags = tc.uid, r.Flags|tc.flags })
		if got := rs.Sure(r); got != tc.want {
			t.Errorf("%s by uid %d, flags %#x: got %t, want %t", tc.path, tc.uid, tc.flags, got, tc.want)
		}
		if n := testing.AllocsPerRun(100, func() { rs.Sure(r) }); n > 0 { // a worker asks it
			t.Errorf("%s: %v allocations, want none", tc.path, n)
		}
	}
}
