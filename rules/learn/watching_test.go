// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

const watchedCgroup = 7

// The set that asks refuses nothing, marks the requests of its cgroup and no others, and
// looks at every fact that a proposal needs.
func TestWatching(t *testing.T) {
	for _, cgroup := range []string{"", "/user.slice/it's {odd}\n"} {
		source, ids := Watching([]string{"/srv/[x]"}, everyEvent(), cgroup)
		rs, err := rules.Load("watching", source, rules.Options{CgroupID: func(path string) (uint64, error) {
			if path != cgroup {
				t.Errorf("cgroup %q, want %q", path, cgroup)
			}
			return watchedCgroup, nil
		}})
		if err != nil {
			t.Fatalf("%v\n%s", err, source)
		}
		if got := rs.Scope().Paths; !slices.Equal(got, []string{"/srv/[x]"}) {
			t.Errorf("scope %q", got)
		}
		for _, e := range everyEvent() {
			ev, want := catalogue.Of(e), abi.FieldExe
			for field, has := range map[abi.Fields]bool{abi.FieldPath: ev.Object != "", abi.FieldDetail: ev.Detail != "", abi.FieldAccess: ev.Access} {
				if has {
					want |= field
				}
			}
			if got := rs.Consulted(e); got&want != want {
				t.Errorf("%v: looks at %v, want %v", e, rules.FieldNames(got), rules.FieldNames(want))
			}
			if kernel := rs.KernelRules(e); len(kernel) > 0 {
				t.Errorf("%v: the kernel would decide by itself, unseen: %v", e, kernel)
			}
		}
		rapid.Check(t, func(t *rapid.T) {
			r := request(genFact.Draw(t, "request"))
			r.Flags |= rapid.Uint32Range(0, 15).Draw(t, "flags")
			if cgroup == "" {
				if d := rs.Decide(r); d.Verdict.Action != rules.Allow || !slices.Contains(ids, rs.RuleID(d.Rule)) {
					t.Fatalf("%v by %s, want that one of %v allows", d.Verdict, rs.RuleID(d.Rule), ids)
				}
				return
			}
			if d := rs.Decide(r); d.Verdict.Action != rules.Allow || d.Rule != -1 {
				t.Fatalf("of another cgroup: %v by %s, want allow by default", d.Verdict, rs.RuleID(d.Rule))
			}
			r.Cgroup[0] = watchedCgroup
			if d := rs.Decide(r); d.Verdict.Action != rules.Audit || !slices.Contains(ids, rs.RuleID(d.Rule)) {
				t.Fatalf("%v by %s, want audit by one of %v", d.Verdict, rs.RuleID(d.Rule), ids)
			}
		})
	}
}

func TestProposeRefusesOptions(t *testing.T) {
	_, err := Propose(&Observed{}, Options{Scope: []string{"relative"}, Level: "some"})
	for _, want := range []string{"absolute", "no event", "none, low, high", "without a disk", "audit or deny"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want that it says %q", err, want)
		}
	}
}

// What there is no room for is counted.
func TestObservedIsBounded(t *testing.T) {
	var o Observed
	for i := range MaxFacts + 3 {
		o.Add(Fact{Event: abi.EventOpen, UID: uint32(i)})
	}
	o.Add(Fact{Event: abi.EventOpen, UID: 0})
	if o.Kinds() != MaxFacts || o.Overflowed() != 3 || o.Requests() != MaxFacts+1 {
		t.Errorf("%d kinds, %d over, %d requests; want %d, 3, %d", o.Kinds(), o.Overflowed(), o.Requests(), MaxFacts, MaxFacts+1)
	}
}

// blindDisk cannot be read.
type blindDisk struct{ tree }

func (blindDisk) List(string) ([]Entry, error) { return nil, errBlind }

// A pattern whose price cannot be counted is not made, and that is said; so is one that
// would allow more than is counted.
func TestUncounted(t *testing.T) {
	for name, d := range map[string]Disk{"a directory cannot be read": blindDisk{}, "enough names": listed(countedMost + 1)} {
		var o Observed
		for _, f := range []string{"1", "2", "3", "4"} {
			o.Add(Fact{Event: abi.EventOpen, Path: "/srv/d/f" + f, Exe: "/bin/app"})
		}
		p, err := Propose(&o, Options{Scope: []string{"/srv"}, Events: []abi.Event{abi.EventOpen, abi.EventExec}, Level: Low, Default: rules.Deny, Disk: d})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Prices) != 0 || len(p.Uncounted) == 0 || !strings.Contains(p.Uncounted[0], name) {
			t.Errorf("%s: prices %v, uncounted %q", name, p.Prices, p.Uncounted)
		}
	}
}

// listed is a disk whose every directory has that many names.
type listed int

func (n listed) List(string) ([]Entry, error) { return make([]Entry, n), nil }
func (listed) Exists(string) bool             { return true }
