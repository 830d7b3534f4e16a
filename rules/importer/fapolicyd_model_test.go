// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// modelRule is a rule of fapolicyd as a model of it reads rules, apart from the importer.
type modelRule struct {
	deny     bool
	perm     string
	exe, dir string // of the subject and of the object, "" for any
	path     string
	uid      int // -1 for any
	trusted  bool
}

func (m modelRule) String() string {
	subject, object := []string{}, []string{}
	if m.exe != "" {
		subject = append(subject, "exe="+m.exe)
	}
	if m.uid >= 0 {
		subject = append(subject, fmt.Sprintf("uid=%d", m.uid))
	}
	if m.path != "" {
		object = append(object, "path="+m.path)
	}
	if m.dir != "" && m.path == "" {
		object = append(object, "dir="+m.dir)
	}
	if m.trusted {
		object = append(object, "trust=1")
	}
	if len(subject) == 0 {
		subject = []string{"all"}
	}
	if len(object) == 0 {
		object = []string{"all"}
	}
	return fmt.Sprintf("%s perm=%s %s : %s", map[bool]string{true: "deny", false: "allow"}[m.deny], m.perm, strings.Join(subject, " "), strings.Join(object, " "))
}

// access is one access to decide.
type access struct {
	exec       bool
	exe, path  string
	uid, euid  uint32
	trustworth bool
}

func (m modelRule) matches(a access, perm string) bool {
	return (m.perm == "any" || m.perm == perm) &&
		(m.exe == "" || m.exe == a.exe) && (m.path == "" || m.path == a.path) &&
		(m.dir == "" || m.path != "" || strings.HasPrefix(a.path, m.dir)) &&
		(m.uid < 0 || uint32(m.uid) == a.uid || uint32(m.uid) == a.euid) &&
		(!m.trusted || a.trustworth)
}

// refuses is fapolicyd: an exec is asked about as an exec and as an open, and each time the first rule that
// matches decides, or nothing refuses.
func refuses(ms []modelRule, a access) bool {
	perms := []string{"open"}
	if a.exec {
		perms = []string{"execute", "open"}
	}
	for _, perm := range perms {
		if i := slices.IndexFunc(ms, func(m modelRule) bool { return m.matches(a, perm) }); i >= 0 && ms[i].deny {
			return true
		}
	}
	return false
}

// TestFapolicydDecidesTheSame compares what is imported with a model of fapolicyd. Without findings of
// weight both decide every access alike; but for the effective user id, by which ours allows nothing.
func TestFapolicydDecidesTheSame(t *testing.T) {
	exact, tests := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		var ms []modelRule
		var text strings.Builder
		for range rapid.IntRange(1, 5).Draw(rt, "rules") {
			m := modelRule{
				deny: rapid.Bool().Draw(rt, "deny"),
				perm: rapid.SampledFrom([]string{"open", "execute", "any", "any"}).Draw(rt, "perm"),
				exe:  rapid.SampledFrom([]string{"", "", "/bin/sh", "/bin/vi"}).Draw(rt, "exe"),
				path: rapid.SampledFrom([]string{"", "", "/bin/sh", "/tmp/x"}).Draw(rt, "path"),
				dir:  rapid.SampledFrom([]string{"", "/tmp", "/tmp/", "/bin/"}).Draw(rt, "dir"),
				uid:  rapid.SampledFrom([]int{-1, -1, 0, 7}).Draw(rt, "uid"),
			}
			m.trusted = rapid.IntRange(0, 9).Draw(rt, "trust") == 0
			ms = append(ms, m)
			fmt.Fprintln(&text, m)
		}
		r, err := Import("fapolicyd", []Source{{"m.rules", []byte(text.String())}}, Options{Paths: []string{"/"}})
		if err != nil {
			rt.Fatalf("%v\nin:\n%s", err, &text)
		}
		tests++
		if !r.Complete() {
			return
		}
		exact++
		rs := load(t, r.Rules)
		for _, exe := range []string{"/bin/sh", "/bin/vi", "/bin/x"} {
			for _, path := range []string{"/bin/sh", "/tmp/x", "/tmpx", "/etc/x"} {
				for _, exec := range []bool{false, true} {
					for _, uid := range []uint32{0, 7, 8} {
						for _, euid := range []uint32{0, uid} {
							a := access{exec: exec, exe: exe, path: path, uid: uid, euid: euid}
							e := map[bool]abi.Event{true: abi.EventExec, false: abi.EventOpen}[exec]
							d := rs.Decide(request(e, path, exe, uid, euid))
							got, want := d.Verdict.Action == rules.Deny, refuses(ms, a)
							if got && !want && uid != euid {
								continue // an allow by the effective id
							}
							if got != want {
								rt.Fatalf("%+v: refused %v, fapolicyd %v\nby:\n%s\nimported:\n%s", a, got, want, &text, r.Rules)
							}
						}
					}
				}
			}
		}
	})
	if exact*4 < tests {
		t.Errorf("%d of %d policies were imported exactly, want more for the test to mean something", exact, tests)
	}
}
