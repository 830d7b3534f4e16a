// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// recordRules look at every fact, so that every fact is in the key of the cache.
const recordRules = `version: 1
default: audit
scope: {paths: [/]}
rules:
  - id: all
    events: [rename]
    object: {path: /t/**, owner: 1, mode: {any: other_write}, size: 0-3}
    detail: {prefix: /t}
    args: {flags: 1}
    subject: {exe: /bin/**, uid: 1, euid: 2, gid: 3, egid: 4, cgroup: /a, loginuid: 0, session: 1, capabilities: {any: 1}, host_namespaces: {any: mnt}, process_tree: [/p, /q]}
    not: {subject: {uid: 7, process_tree: /r}}
    verdict: {deny: ENOENT}
`

// randomRequest draws a request in which all facts are random.
func randomRequest(random *rand.Rand) abi.Request {
	r := abi.Request{Event: abi.Event(1 + random.IntN(int(abi.EventCount)-1)), Access: abi.Access(random.Uint32N(64)), Flags: random.Uint32N(16),
		Have: abi.Fields(random.Uint32()) & abi.AllFields &^ abi.ContentFields, TGID: random.Uint32(), TID: random.Uint32(), StartBoottime: random.Uint64(),
		UID: random.Uint32N(5), GID: random.Uint32N(5), EUID: random.Uint32N(5), EGID: random.Uint32N(5), Dev: random.Uint64(), Ino: random.Uint64()}
	copy(r.Comm[:], "c\xffmm")
	for i := range random.IntN(abi.CgroupLevels + 1) {
		r.Cgroup[i] = 1 + random.Uint64N(9)
	}
	r.Trees, r.Marks = random.Uint64(), 1+random.Uint32N(4)
	for i := range r.Arg {
		r.Arg[i] = random.Uint64N(4)
	}
	text := func(buf *[abi.PathBytes]byte) uint32 {
		n := random.IntN(40)
		if random.IntN(20) == 0 {
			n = abi.PathBytes - 1
		}
		for i := range n {
			buf[i] = byte(random.Uint32())
		}
		return uint32(n)
	}
	r.PathLen, r.DetailLen, r.ExeLen = text(&r.PathBuf), text(&r.DetailBuf), text(&r.ExeBuf)
	r.OwnerUID, r.OwnerGID = random.Uint32N(5), random.Uint32N(5)
	r.Size = []abi.Size{{}, {Known: true}, {Known: true, Bytes: random.Uint64N(5)}, {Known: true, Bytes: 1<<63 - 1}}[random.IntN(4)]
	r.Credentials = abi.Credentials{Known: true, LoginUID: random.Uint32N(3) - 1, Session: random.Uint32N(3) - 1, Capabilities: random.Uint64N(4), HostNamespaces: abi.Namespaces(random.Uint32N(128))}
	if r.Mode = []uint32{0, 0o100644, 0o40755}[random.IntN(3)]; !r.NoContent() {
		r.Learn(&abi.Content{Known: abi.ContentFields & abi.Fields(random.Uint32()), Format: 1 + abi.Format(random.IntN(3)), Verity: someVerity(random), Digest: [32]byte{byte(random.IntN(3)), 31: 1},
			Scan: 1 + abi.Scan(random.IntN(2))})
		if r.Scan == abi.ScanInfected {
			for i := range random.IntN(abi.SignatureBytes + 1) {
				r.Signature[i] = byte(1 + random.IntN(255))
			}
		}
	}
	if r.LacksRole() {
		r.Have &^= abi.FieldArgs
	}
	return r
}

// The record of a decision is the request as far as rules can look at it, of one that was
// decided and of one from the cache alike.
func TestRecordIsTheRequest(t *testing.T) {
	rs, err := rules.Load("r.yaml", []byte(recordRules), rules.Options{Epoch: 1, CgroupID: func(string) (uint64, error) { return 5, nil }})
	if err != nil {
		t.Fatal(err)
	}
	const since = 3
	rs = rs.WithMarks([]uint64{1 << 7, 1 << 63, 1}, since)
	random := rand.New(rand.NewPCG(11, 12))
	g := &given{}
	w := one(t, rs, 4096, g)
	for i := range 3000 {
		g.r = randomRequest(random)
		g.r.Flags &^= abi.FlagPathTruncated | abi.FlagDetailTruncated // those get a failure verdict
		if g.r.Event == abi.EventRename {
			g.r.Marks = since // else that is a failure verdict, too
		}
		w.step()
		var decided, cached Event
		o, _ := w.journal.next(&decided)
		w.arbiter.stream.name(&decided, o)
		before := w.counters.hits.Load()
		first := g.r
		// The same to the rules, and another one for the record.
		g.r.TGID, g.r.Have, g.r.Ino = g.r.TGID+1, g.r.Have^abi.FieldCgroup, g.r.Ino+1
		w.step()
		o, _ = w.journal.next(&cached)
		w.arbiter.stream.name(&cached, o)
		if long := len(w.cacheKey()) > cache.KeyBytes; w.counters.hits.Load() == before && !long {
			t.Fatalf("request %d: the second time is no hit", i)
		}
		for _, tc := range []struct {
			name string
			e    *Event
			want *abi.Request
		}{{"decided", &decided, &first}, {"cached", &cached, &g.r}} {
			var got abi.Request
			tc.e.Question(&got)
			if tc.want.Have&abi.FieldTree != 0 {
				marks, known := rs.MarksOf(tc.e.InTrees, tc.e.NotInTrees)
				if want := tc.want.Trees & rs.Marks(); known != (tc.want.Marks >= since) || known && marks != want {
					t.Fatalf("request %d, %s: in %v and not in %v, the marks are %#x of %d", i, tc.name, tc.e.InTrees, tc.e.NotInTrees, want, tc.want.Marks)
				}
			}
			if tc.want.NoContent() {
				tc.want.Have |= abi.ContentFields // which it is known to have nothing in
			}
			if !sameQuestion(&got, tc.want) {
				t.Fatalf("request %d, %s: got %+v\nof %+v", i, tc.name, tc.e, tc.want)
			}
		}
	}
}

// sameQuestion compares all that rules can look at, and who asked.
func sameQuestion(a, b *abi.Request) bool {
	return a.Event == b.Event && a.Access == b.Access && a.Flags == b.Flags && a.Have == b.Have && a.TGID == b.TGID && a.TID == b.TID &&
		a.StartBoottime == b.StartBoottime && a.UID == b.UID && a.GID == b.GID && a.EUID == b.EUID && a.EGID == b.EGID && a.Dev == b.Dev && a.Ino == b.Ino &&
		a.Format == b.Format && a.Verity == b.Verity && a.Scan == b.Scan && a.Signature == b.Signature && (a.Flags&abi.FlagDigest == 0 || a.Digest == b.Digest) &&
		a.NoContent() == b.NoContent() && a.Attributes() == b.Attributes() && a.Size == b.Size && a.Credentials == b.Credentials && a.Cgroup == b.Cgroup && a.Arg == b.Arg && a.Comm == b.Comm &&
		bytes.Equal(a.Path(), b.Path()) && bytes.Equal(a.Detail(), b.Detail()) && bytes.Equal(a.Exe(), b.Exe())
}

// A text that no request has room for is one that is not known, and nothing of the request
// before is left.
func TestQuestionWithLongTexts(t *testing.T) {
	long := strings.Repeat("x", abi.PathBytes)
	r := abi.Request{PathLen: 9, DetailLen: 9, ExeLen: 9}
	const facts = abi.AllFields &^ abi.ContentFields
	(&Event{Event: abi.EventRename, Path: long, Detail: long, Exe: long, Facts: facts}).Question(&r)
	if want := facts &^ (abi.FieldPath | abi.FieldDetail | abi.FieldExe); r.Have != want || r.PathLen+r.DetailLen+r.ExeLen != 0 {
		t.Errorf("got the facts %v and texts of %d, %d and %d bytes, want %v and none", r.Have.Names(), r.PathLen, r.DetailLen, r.ExeLen, want.Names())
	}
}

// An exec without a role, of fanotify or of a version that had none, is one whose numbers are not known.
func TestQuestionOfRole(t *testing.T) {
	for role, want := range map[abi.Role]abi.Fields{abi.RoleUnknown: 0, abi.RoleProgram: abi.FieldArgs, abi.RoleInterpreter: abi.FieldArgs} {
		for _, event := range []abi.Event{abi.EventExec, abi.EventMkdir} {
			if event != abi.EventExec {
				want = abi.FieldArgs
			}
			var r abi.Request
			(&Event{Event: event, Args: [abi.Args]uint64{abi.ArgRole: uint64(role)}, Facts: abi.FieldArgs}).Question(&r)
			if got := r.Have & abi.FieldArgs; got != want {
				t.Errorf("%s, role %d: the facts are %v, want %v", event, role, got.Names(), want.Names())
			}
		}
	}
}

// What a record says of the content is known, and what it is silent about is not.
func TestQuestionOfContent(t *testing.T) {
	sum := strings.Repeat("01", 32)
	for _, tc := range []struct {
		name string
		e    Event
		have abi.Fields
		none bool // it has no content
	}{
		{"nobody has looked", Event{}, 0, false},
		{"a digest", Event{SHA256: sum, Facts: abi.FieldDigest}, abi.FieldDigest, false},
		{"a format", Event{Format: abi.FormatELF, Facts: abi.FieldFormat}, abi.FieldFormat, false},
		{"an fs-verity digest", Event{Verity: abi.Verity{Alg: abi.VeritySHA256}, Facts: abi.FieldVerity}, abi.FieldVerity, false},
		{"no fs-verity digest", Event{Verity: abi.Verity{Alg: abi.VerityNone}, Facts: abi.FieldVerity}, abi.FieldVerity, false},
		{"all", Event{SHA256: sum, Format: abi.FormatELF, Verity: abi.Verity{Alg: abi.VerityNone}, Scan: abi.ScanClean, Facts: abi.ContentFields}, abi.ContentFields, false},
		{"half a digest", Event{SHA256: sum[:32], Format: abi.FormatELF, Facts: abi.ContentFields}, abi.FieldFormat, false},
		{"a directory", Event{Facts: abi.ContentFields}, abi.ContentFields, true},
		{"no object", Event{Flags: abi.FlagNoObject}, abi.ContentFields, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := abi.Request{Mode: 0o40755, Format: abi.FormatScript, Verity: abi.Verity{Alg: abi.VeritySHA512}, Flags: abi.FlagDigest} // of the one before
			tc.e.Question(&r)
			if r.Have != tc.have || r.NoContent() != tc.none || r.Format != tc.e.Format || r.Verity != tc.e.Verity || r.Flags&abi.FlagDigest != 0 != (tc.have&abi.FieldDigest != 0 && !tc.none) {
				t.Errorf("got the facts %v, no content: %t, format %q, flags %#x", r.Have.Names(), r.NoContent(), r.Format, r.Flags)
			}
		})
	}
}

// someVerity draws one of few fs-verity digests, or that there is none.
func someVerity(random *rand.Rand) abi.Verity {
	v := abi.Verity{Alg: 1 + abi.VerityAlg(random.IntN(int(abi.VerityCount)-1))}
	for i := range v.Bytes() {
		v.Sum[i] = byte(random.IntN(2))
	}
	return v
}
