// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"pgregory.net/rapid"
)

// What DecideKnown decides by some of the facts is what Decide says whatever the others are,
// and what it gives up it could not have known.
func TestDecideKnownGuessesNothing(t *testing.T) {
	var decided, gaveUp int
	rapid.Check(t, func(t *rapid.T) {
		src := genFile(t)
		rs, err := Load("f.yaml", []byte(src), Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatalf("the generator wrote a bad file:\n%s\n%v", src, err)
		}
		rs = withFakeMarks(rs)
		for range 8 {
			r := genRequest(t)
			r.Have = abi.Fields(rapid.Uint32Range(0, uint32(abi.AllFields)).Draw(t, "have"))
			d, missing := rs.DecideKnown(r)
			if missing&r.Have != 0 {
				t.Fatalf("%v are missing though they are there", FieldNames(missing&r.Have))
			}
			if missing != 0 {
				if missing&rs.Consulted(r.Event) == 0 {
					t.Fatalf("%v are missing, and nobody looks at them\n%s", FieldNames(missing), src)
				}
				gaveUp++
				continue
			}
			decided++
			if got := rs.Decide(r); got != d {
				t.Fatalf("DecideKnown by %v: rule %d, Decide: rule %d\n%s\n%s", FieldNames(r.Have), d.Rule, got.Rule, src, rs.Explain(r))
			}
			other := genRequest(t) // the facts that are not known are these
			for fact := abi.Fields(1); fact < abi.AllFields; fact <<= 1 {
				if r.Have&fact == 0 {
					copyFact(r, other, fact)
				}
			}
			if got := rs.Decide(r); got != d {
				t.Fatalf("DecideKnown by %v: rule %d; with other facts beside, Decide: rule %d\n%s\n%s", FieldNames(r.Have), d.Rule, got.Rule, src, rs.Explain(r))
			}
		}
	})
	if decided == 0 || gaveUp == 0 {
		t.Errorf("%d decided and %d given up: the generators only reach one of them", decided, gaveUp)
	}
}

// copyFact makes one fact of r that of other.
func copyFact(r, other *abi.Request, fact abi.Fields) {
	flags := func(mask uint32) { r.Flags = r.Flags&^mask | other.Flags&mask }
	switch fact {
	case abi.FieldPath:
		r.PathLen, r.PathBuf = other.PathLen, other.PathBuf
		flags(abi.FlagPathTruncated)
		if r.Have&(abi.ContentFields|abi.FieldAttributes) == 0 { // else it is known whether there is one
			flags(abi.FlagNoObject)
		}
	case abi.FieldDetail:
		r.DetailLen, r.DetailBuf = other.DetailLen, other.DetailBuf
		flags(abi.FlagDetailTruncated)
	case abi.FieldExe:
		r.ExeLen, r.ExeBuf = other.ExeLen, other.ExeBuf
		flags(abi.FlagNoExe)
	case abi.FieldUID:
		r.UID, r.EUID = other.UID, other.EUID
	case abi.FieldGID:
		r.GID, r.EGID = other.GID, other.EGID
	case abi.FieldCgroup:
		r.Cgroup = other.Cgroup
	case abi.FieldTree:
		r.Trees = other.Trees
	case abi.FieldAccess:
		r.Access = other.Access
	case abi.FieldArgs:
		r.Arg = other.Arg
	case abi.FieldDigest:
		r.Digest = other.Digest
	case abi.FieldFormat:
		r.Format = other.Format
	case abi.FieldVerity:
		r.Verity = other.Verity
	case abi.FieldCredentials:
		r.Credentials = other.Credentials
	case abi.FieldSize:
		r.Size = other.Size
	case abi.FieldAttributes:
		r.OwnerUID, r.OwnerGID, r.Mode = other.OwnerUID, other.OwnerGID, r.Mode&^abi.ModeBits|other.Mode&abi.ModeBits
	case abi.FieldScan:
		r.Scan = other.Scan
	}
	if r.Have&(abi.ContentFields|abi.FieldAttributes) == 0 {
		r.Mode = other.Mode
	}
}

// A fact that is missing keeps only those rules from being judged that hang on it.
func TestDecideKnown(t *testing.T) {
	rs := mustLoad(t, head+`rules:
- {id: root, events: [open], subject: {uid: 0}, verdict: allow}
- {id: grouped, events: [open], subject: {cgroup: /a}, object: {path: /srv/a}, verdict: deny}
- {id: of-cron, events: [open], subject: {process_tree: /cron, uid: 7}, verdict: deny}
- {id: not-mine, events: [open], not: {subject: {cgroup: /a, gid: 5}}, verdict: audit}
`)
	const all = abi.AllFields
	for _, tc := range []struct {
		name     string
		have     abi.Fields
		uid, gid uint32
		path     string
		rule     string
		missing  string
	}{
		{"decided before it is looked at", all &^ abi.FieldCgroup, 0, 0, "/srv/a", "root", "nothing"},
		{"it decides", all &^ abi.FieldCgroup, 1, 5, "/srv/a", "", "cgroup"},
		{"a condition beside it fails", all &^ abi.FieldCgroup, 1, 5, "/srv/b", "", "cgroup"},
		{"a condition beside it in not fails", all &^ abi.FieldCgroup, 1, 4, "/srv/b", "not-mine", "nothing"},
		{"two are missing", all &^ (abi.FieldCgroup | abi.FieldPath), 1, 5, "/srv/b", "", "path cgroup"},
		{"a process tree decides", all &^ abi.FieldTree, 7, 5, "/srv/b", "", "process_tree"},
		{"a condition beside a process tree fails", all &^ abi.FieldTree, 1, 5, "/srv/b", "not-mine", "nothing"},
		{"everything is there", all, 1, 5, "/srv/b", "not-mine", "nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(abi.EventOpen, tc.path, "/bin/x", func(r *abi.Request) { r.UID, r.GID, r.Have = tc.uid, tc.gid, tc.have })
			d, missing := rs.DecideKnown(r)
			if got := strings.Join(FieldNames(missing), " "); got != tc.missing {
				t.Errorf("missing: got %s, want %s", got, tc.missing)
			}
			if got := rs.RuleID(d.Rule); missing == 0 && got != tc.rule {
				t.Errorf("got rule %s, want %s", got, tc.rule)
			}
		})
	}
}
