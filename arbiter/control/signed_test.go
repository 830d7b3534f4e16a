// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
)

// signers are two keys, of which the first is trusted at the beginning.
type signers struct {
	t          *testing.T
	mine, late signature.SecretKey
	trust      Trust
}

func newSigners(t *testing.T, required bool) *signers {
	t.Helper()
	s := &signers{t: t, trust: Trust{Required: required}}
	for _, key := range []*signature.SecretKey{&s.mine, &s.late} {
		var err error
		if *key, err = signature.NewSecretKey(); err != nil {
			t.Fatal(err)
		}
	}
	s.trustOnly(s.mine)
	return s
}

// trustOnly is what a reload of the keys does. No push may be under way.
func (s *signers) trustOnly(keys ...signature.SecretKey) {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		if err := os.WriteFile(filepath.Join(dir, key.ID()+".pub"), key.Public(), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	var err error
	if s.trust.Keys, err = signature.ReadKeys(dir, nil); err != nil {
		s.t.Fatal(err)
	}
}

// trustTool trusts the key of testdata alone. The tool signs comments that
// SecretKey.Sign refuses to.
func (s *signers) trustTool() {
	s.t.Helper()
	var err error
	if s.trust.Keys, err = signature.ReadKeys("testdata/keys", nil); err != nil {
		s.t.Fatal(err)
	}
}

// fixture serves with the keys of s.
func (s *signers) fixture() *fixture {
	return newFixture(s.t, func(_ *Config, c *RulesConfig) { c.Trust = func() Trust { return s.trust } }, nil)
}

func (s *signers) sign(key signature.SecretKey, text string, serial uint64) []byte {
	s.t.Helper()
	out, err := key.Sign([]byte(text), serial, "ticket 7")
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// pushSigned pushes with a signature, nil for none.
func (f *fixture) pushSigned(text string, sig []byte) (*controlv1.PushResponse, error) {
	return f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(text), Name: "a.yaml", Signature: sig})
}

// wantUnsigned checks that a signature was refused, saying why and what to do.
func wantUnsigned(t *testing.T, err error, says string) {
	t.Helper()
	wantStatus(t, err, codes.FailedPrecondition, "the rules in force still are")
	d := detail[*controlv1.SignatureProblem](t, err)
	if !strings.Contains(d.GetMessage(), says) || d.GetNext() == "" {
		t.Errorf("the problem is %v, want it to say %q and what to do", d, says)
	}
}

// Each way in which a signature can be wrong changes nothing, neither in force nor in the
// store, and says why.
func TestSignatureRefused(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	one, two := ruleFile("one"), ruleFile("two")
	if out, err := f.pushSigned(one, s.sign(s.mine, one, 42)); err != nil || out.GetKeyId() != s.mine.ID() || out.GetSerial() != 42 {
		t.Fatalf("a signed push: %v, %v; want key %s, serial 42", out, err, s.mine.ID())
	}
	good := s.sign(s.mine, two, 43)
	for _, tt := range []struct {
		name string
		text string
		sig  []byte
		says string
	}{
		{"tampered rules", two + "#", good, "not of these rules: they were changed"},
		{"signature of other rules", two, s.sign(s.mine, one, 43), "not of these rules"},
		{"tampered comment", two, bytes.Replace(good, []byte("serial:43"), []byte("serial:99"), 1), "trusted comment was changed"},
		{"serial taken out", two, bytes.Replace(good, []byte("serial:43"), []byte("nothing:0"), 1), "trusted comment was changed"},
		{"truncated", two, good[:len(good)/2], "the signature is damaged"},
		{"empty", two, []byte{}, "the signature is damaged"},
		{"unknown key", two, s.sign(s.late, two, 43), "not trusted: it is " + s.late.ID()},
		{"wrong algorithm", two, bytes.Replace(good, []byte("\nRU"), []byte("\nAA"), 1), "invalid algorithm"},
		{"older serial", two, s.sign(s.mine, two, 41), "their serial is 41, and 42 was in force already"},
		{"the same serial for another text", two, s.sign(s.mine, two, 42), "serial 42 was in force already, with another text"},
		{"missing", two, nil, "the rules are not signed"},
		{"too large", two, bytes.Repeat([]byte("x"), signature.MaxBytes+1), "more than 1024 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, kept := f.engine.Rules(), len(f.store.History(0))
			_, err := f.pushSigned(tt.text, tt.sig)
			wantUnsigned(t, err, tt.says)
			if f.engine.Rules() != before || len(f.store.History(0)) != kept || f.store.High().Serial != 42 {
				t.Errorf("epoch %d, %d sets kept, highest serial %d; want nothing changed", f.engine.Rules().Epoch(), len(f.store.History(0)), f.store.High().Serial)
			}
		})
	}
	if log := f.log.String(); !strings.Contains(log, "rules refused because of their signature") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
	if out, err := f.pushSigned(two, good); err != nil || out.GetSerial() != 43 || out.GetEpoch() != 2 {
		t.Errorf("the good one: %v, %v; want epoch 2, serial 43", out, err)
	}
}

// Signed as minisign does by default: well, and without a serial.
func TestSignatureWithoutSerial(t *testing.T) {
	s := newSigners(t, true)
	s.trustTool()
	f := s.fixture()
	sig, err := os.ReadFile("testdata/noserial.minisig")
	if err != nil {
		t.Fatal(err)
	}
	before := f.engine.Rules()
	_, err = f.pushSigned(ruleFile("two"), sig)
	wantUnsigned(t, err, `"timestamp:1 file:rules.yaml" has 0 words serial:N, not one`)
	if f.engine.Rules() != before || len(f.store.History(0)) != 0 {
		t.Errorf("epoch %d, %d sets kept; want nothing changed", f.engine.Rules().Epoch(), len(f.store.History(0)))
	}
}

// A dry run of what is not signed yet warns; one with a wrong signature is refused.
func TestSignatureDryRun(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	one := ruleFile("one")
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(one), DryRun: true})
	if err != nil || len(out.GetWarnings()) != 1 || !strings.Contains(out.GetWarnings()[0], "a push of it will be refused: the rules are not signed") {
		t.Errorf("unsigned: %v, %v; want a warning", out, err)
	}
	_, err = f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(one), DryRun: true, Signature: s.sign(s.late, one, 1)})
	wantUnsigned(t, err, "not trusted")
	if _, err = f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(one), DryRun: true, Signature: s.sign(s.mine, one, 7)}); err != nil || f.store.High().Serial != 0 {
		t.Errorf("signed: %v, highest serial %d; want neither", err, f.store.High().Serial)
	}
}

// A signature that nobody verifies is refused and not ignored.
func TestSignatureWithoutKeys(t *testing.T) {
	s := newSigners(t, false)
	s.trust.Keys = nil
	f := s.fixture()
	one := ruleFile("one")
	_, err := f.pushSigned(one, s.sign(s.mine, one, 1))
	wantUnsigned(t, err, "no key is trusted")
	f.push(one)
	if st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{}); err != nil || st.GetSigning() != nil {
		t.Errorf("status: %v, %v; want nothing of signing", st.GetSigning(), err)
	}
}

// Where signatures are not required, unsigned rules may come between signed ones; those are
// verified all the same.
func TestSignatureNotRequired(t *testing.T) {
	s := newSigners(t, false)
	f := s.fixture()
	one, two := ruleFile("one"), ruleFile("two")
	f.push(one)
	_, err := f.pushSigned(two, s.sign(s.late, two, 1))
	wantUnsigned(t, err, "not trusted")
	if _, err := f.pushSigned(two, s.sign(s.mine, two, 5)); err != nil {
		t.Fatal(err)
	}
	f.push(one)
	_, err = f.pushSigned(two, s.sign(s.mine, two, 4))
	wantUnsigned(t, err, "their serial is 4, and 5 was in force")
}

// The same text with a signature, or a newer one, is recorded; with the same or without one
// nothing is done.
func TestSignedText(t *testing.T) {
	s := newSigners(t, false)
	f := s.fixture()
	text := ruleFile("one")
	for _, tt := range []struct {
		name      string
		sig       []byte
		epoch     uint64
		unchanged bool
	}{
		{"unsigned", nil, 1, false},
		{"unsigned again", nil, 1, true},
		{"signed", s.sign(s.mine, text, 3), 2, false},
		{"the same again", s.sign(s.mine, text, 3), 2, true},
		{"unsigned once more", nil, 2, true},
		{"signed with a higher serial", s.sign(s.mine, text, 4), 3, false},
	} {
		out, err := f.pushSigned(text, tt.sig)
		if err != nil || out.GetEpoch() != tt.epoch || out.GetUnchanged() != tt.unchanged {
			t.Errorf("%s: %v, %v; want epoch %d, unchanged %t", tt.name, out, err, tt.epoch, tt.unchanged)
		}
	}
	got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{Epoch: proto.Uint64(2)})
	if err != nil || !bytes.Equal(got.GetSignature(), s.sign(s.mine, text, 3)) || got.GetInfo().GetSerial() != 3 || got.GetInfo().GetKeyId() != s.mine.ID() {
		t.Errorf("epoch 2: %v, %v; want its signature", got, err)
	}
	h, err := f.rules.History(f.ctx(), &controlv1.HistoryRequest{})
	if err != nil || h.GetEntries()[0].GetSerial() != 4 || h.GetEntries()[2].GetKeyId() != "" {
		t.Errorf("history: %v, %v; want serial 4 first, and no key last", h, err)
	}
}

// What somebody takes back within its time has used up no serial; what he confirms has.
func TestSerialOfUnconfirmed(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	text := ruleFile("one")
	request := &controlv1.PushRequest{Source: []byte(text), Signature: s.sign(s.mine, text, 9), ConfirmWithin: durationpb.New(MaxConfirmWithin)}
	for i, end := range []func(uint64) error{
		func(epoch uint64) error {
			_, err := f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: epoch})
			return err
		},
		func(epoch uint64) error {
			_, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: epoch})
			return err
		},
	} {
		out, err := f.rules.Push(f.ctx(), request)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{}); err != nil || got.GetInfo().GetSerial() != 9 {
			t.Errorf("while it waits: %v, %v; want serial 9", got.GetInfo(), err)
		}
		if err := end(out.GetEpoch()); err != nil {
			t.Fatal(err)
		}
		if got, want := f.store.High().Serial, uint64(9*i); got != want {
			t.Errorf("highest serial %d, want %d", got, want)
		}
	}
}

func TestRollbackOfSigned(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	one, two := ruleFile("one"), ruleFile("two")
	for i, text := range []string{one, two} {
		if _, err := f.pushSigned(text, s.sign(s.mine, text, uint64(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	// To a lower serial: it was accepted once.
	out, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1})
	if err != nil || out.GetSerial() != 1 || out.GetKeyId() != s.mine.ID() {
		t.Fatalf("rollback: %v, %v; want serial 1", out, err)
	}
	if got := f.store.High().Serial; got != 2 {
		t.Errorf("the highest serial is %d after a rollback, want 2", got)
	}
	m, _ := f.store.Current()
	if m.RollbackOf != 1 || m.Serial != 1 || len(m.Signature) == 0 {
		t.Errorf("recorded as %+v, want a rollback of 1 with its signature", m)
	}
	_, err = f.pushSigned(one, s.sign(s.mine, one, 1))
	wantUnsigned(t, err, "their serial is 1, and 2 was in force")

	// The key is taken away: what it has signed does not come back.
	s.trustOnly(s.late)
	_, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 2})
	wantUnsigned(t, err, "not trusted: epoch 2: it is "+s.mine.ID())
	if got := f.engine.Rules().Epoch(); got != 3 {
		t.Errorf("epoch %d is in force, want 3", got)
	}
	// Where none is required it comes back unsigned, and a warning says so.
	s.trust.Required = false
	out, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 2})
	if err != nil || out.GetKeyId() != "" || len(out.GetWarnings()) != 1 || !strings.Contains(out.GetWarnings()[0], "the signature of epoch 2 does not count") {
		t.Errorf("rollback where none is required: %v, %v; want it unsigned, with a warning", out, err)
	}
	s.trust.Required = true
	_, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 4})
	wantUnsigned(t, err, "epoch 4 was pushed without a signature")
}

func TestSigningStatus(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	one, two := ruleFile("one"), ruleFile("two")
	for i, text := range []string{one, two} {
		if _, err := f.pushSigned(text, s.sign(s.mine, text, uint64(i+5))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	want := &controlv1.SigningState{Required: true, TrustedKeys: []string{s.mine.ID()}, HighestSerial: 6, KeyId: s.mine.ID(), Serial: 5}
	if err != nil || !proto.Equal(st.GetSigning(), want) {
		t.Errorf("status says %v, %v; want %v", st.GetSigning(), err, want)
	}
}

// A candidate brings its signature along, and is refused without one where rules must have it.
func TestShadowOfSigned(t *testing.T) {
	s := newSigners(t, true)
	f := s.fixture()
	first, next := ruleFile("a"), ruleFile("a", "b")
	if _, err := f.pushSigned(first, s.sign(s.mine, first, 1)); err != nil {
		t.Fatal(err)
	}
	start := func(sig []byte) {
		t.Helper()
		f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(next), Name: "next.yaml", Signature: sig})
	}
	start(nil)
	_, err := f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{Force: true})
	wantUnsigned(t, err, "not signed")
	if _, err := f.shadow.Stop(f.ctx(), &controlv1.ShadowStopRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = f.shadow.Start(f.ctx(), &controlv1.ShadowStartRequest{Source: []byte(next), Name: "next.yaml", Signature: s.sign(s.late, next, 2)})
	wantUnsigned(t, err, "not trusted")
	start(s.sign(s.mine, next, 2))
	out, err := f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{Force: true})
	if err != nil || out.GetEpoch() != 2 || out.GetSerial() != 2 || out.GetKeyId() != s.mine.ID() {
		t.Errorf("promoted: %v, %v; want epoch 2 with serial 2", out, err)
	}
}
