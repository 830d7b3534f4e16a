// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
)

// newSigner returns a key.
func newSigner(t *testing.T) signature.SecretKey {
	t.Helper()
	key, err := signature.NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// requireSigned trusts the keys in dir/keys and returns the arguments of a daemon that
// wants rules to be signed by one of them.
func requireSigned(t *testing.T, dir string, trusted ...signature.SecretKey) []string {
	t.Helper()
	if err := os.MkdirAll(dir+"/keys", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, key := range trusted {
		writeFile(t, keyFile(dir, key), key.Public())
	}
	writeFile(t, dir+"/config", []byte("require_signed: true\ntrusted_keys: "+dir+"/keys\n"))
	return []string{"--config", dir + "/config"}
}

func keyFile(dir string, key signature.SecretKey) string { return dir + "/keys/" + key.ID() + ".pub" }

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func sign(t *testing.T, key signature.SecretKey, text string, serial uint64) []byte {
	t.Helper()
	sig, err := key.Sign([]byte(text), serial, "")
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// pushSigned pushes with a signature, nil for none, and returns the error.
func (d *runs) pushSigned(text string, sig []byte) error {
	d.t.Helper()
	_, err := pb.NewRulesServiceClient(d.conn).Push(d.t.Context(), &pb.PushRequest{Source: []byte(text), Name: "test.yaml", Signature: sig})
	return err
}

// hangup sends SIGHUP and waits until the log has one more line with the text.
func (d *runs) hangup(want string) {
	d.t.Helper()
	before := strings.Count(d.log.String(), want)
	d.cmd.Process.Signal(unix.SIGHUP)
	d.until(want, func() bool { return strings.Count(d.log.String(), want) > before })
}

// warns reports whether status has a warning with the text.
func (d *runs) warns(text string) bool {
	d.t.Helper()
	return strings.Contains(strings.Join(d.status().Warnings, "\n"), text)
}

// Rules have to be signed: the file of the configuration at the first start, what is
// pushed, the file again at a reload, and the set of the store at the next start.
func TestRequireSigned(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	key, other := newSigner(t), newSigner(t)
	file, text := dir+"/rules.yaml", ruleText(dir, "EACCES")
	args := append(requireSigned(t, dir, key), "--rules", file)
	writeFile(t, file, []byte(text))
	writeFile(t, file+".minisig", sign(t, key, text, 1))
	d := startDaemon(t, dir, args...)
	if s := d.status(); s.Epoch != 1 || s.GetSigning().GetKeyId() != key.ID() || !s.GetSigning().GetRequired() {
		t.Fatalf("epoch %d at the first start, signing %v; want 1 by key %s", s.Epoch, s.GetSigning(), key.ID())
	}
	d.soon(unix.EPERM, "bad")
	changed := strings.Replace(text, "/tree/bad", "/tree/good", 1)
	for name, sig := range map[string][]byte{"unsigned": nil, "by another key": sign(t, other, changed, 2), "for another text": sign(t, key, text, 2), "of before": sign(t, key, text, 1)} {
		if err := d.pushSigned(changed, sig); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a push %s: %v, want FAILED_PRECONDITION", name, err)
		}
	}
	writeFile(t, file, []byte(changed)) // the signature beside it is of what it was
	d.hangup("reloading the rule file; the rules in force stay")
	if s := d.status(); s.Epoch != 1 || !strings.Contains(d.log.String(), "the signature is not of these rules") {
		t.Errorf("epoch %d after a reload of an unsigned file, want 1, and why:\n%s", s.Epoch, d.log)
	}
	writeFile(t, file+".minisig", sign(t, key, changed, 2)) // the signature alone is a change, too
	d.hangup("reloaded the rule file")
	if s := d.status(); s.Epoch != 2 || s.GetSigning().GetSerial() != 2 {
		t.Errorf("epoch %d after a reload of the signed file, want 2", s.Epoch)
	}
	d.soon(unix.EPERM, "good")
	d.stop()

	d = startDaemon(t, dir, args...)
	if s := d.status(); s.Epoch != 2 || s.GetSigning().GetHighestSerial() != 2 || d.warns("signed") {
		t.Errorf("after a restart: epoch %d, %v, warnings %q; want 2", s.Epoch, s.GetSigning(), s.Warnings)
	}
	d.soon(unix.EPERM, "good")
	d.stop()

	// The key is gone: the set of the store is not in force, and status says so.
	if err := os.Remove(keyFile(dir, key)); err != nil {
		t.Fatal(err)
	}
	d = startDaemon(t, dir, requireSigned(t, dir, other)...)
	if s := d.status(); s.Epoch != 0 || !d.warns("the stored rule set of epoch 2 is not in force, nothing is arbitrated: the signing key is not trusted: epoch 2: it is "+key.ID()) {
		t.Errorf("with another key: epoch %d, warnings %q; want 0, and why", s.Epoch, s.Warnings)
	}
	if got := d.try("good"); got != 0 {
		t.Errorf("an exec without rules: %v, want success", got)
	}
	if err := d.pushSigned(changed, sign(t, other, changed, 3)); err != nil {
		t.Fatal(err)
	}
	d.soon(unix.EPERM, "good")
}

// Keys change while the daemon runs: add the new one, push what it has signed, remove the
// old one.
func TestKeyRotation(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	old, next := newSigner(t), newSigner(t)
	d := startDaemon(t, dir, requireSigned(t, dir, old)...)
	text := ruleText(dir, "EACCES")
	if err := d.pushSigned(text, sign(t, old, text, 1)); err != nil {
		t.Fatal(err)
	}

	// A damaged file changes nothing, and status says so until it is repaired.
	writeFile(t, keyFile(dir, next), next.Public()[:40])
	d.hangup("reloading the trusted keys; those of before stay")
	if !d.warns("the keys of before the reload are trusted") || !d.warns(next.ID()+".pub") {
		t.Errorf("warnings %q, want one of the damaged key", d.status().Warnings)
	}
	changed := text + "# changed\n"
	if err := d.pushSigned(changed, sign(t, next, changed, 2)); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a push by the new key: %v, want FAILED_PRECONDITION", err)
	}
	if err := d.pushSigned(changed, sign(t, old, changed, 2)); err != nil {
		t.Errorf("a push by the old key: %v", err)
	}

	writeFile(t, keyFile(dir, next), next.Public())
	d.hangup("trusted keys of rules")
	if got := d.status().GetSigning().GetTrustedKeys(); len(got) != 2 || d.warns("the keys of before") {
		t.Errorf("trusted are %v, warnings %q; want both keys and none", got, d.status().Warnings)
	}
	if err := os.Remove(keyFile(dir, old)); err != nil {
		t.Fatal(err)
	}
	d.hangup("trusted keys of rules")
	if !d.warns("the rules in force are signed by key " + old.ID() + ", which is not trusted: after a restart they are not in force") {
		t.Errorf("warnings %q, want one of the rules in force", d.status().Warnings)
	}
	d.soon(unix.EPERM, "bad") // they are in force all the same
	if err := d.pushSigned(text, sign(t, old, text, 3)); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a push by the old key: %v, want FAILED_PRECONDITION", err)
	}
	if err := d.pushSigned(text, sign(t, next, text, 3)); err != nil {
		t.Errorf("a push by the new key: %v", err)
	}
	if d.warns("not trusted") {
		t.Errorf("warnings %q, want none of keys", d.status().Warnings)
	}
}

// A daemon whose keys cannot be relied on does not start, and says what to do.
func TestKeysAtStart(t *testing.T) {
	notInGuest(t)
	key := newSigner(t)
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		says   string
	}{
		{"damaged", func(t *testing.T, dir string) { writeFile(t, keyFile(dir, key), []byte("key")) }, "this is no public key of minisign"},
		{"none", func(t *testing.T, dir string) { os.Remove(keyFile(dir, key)) }, "it holds no *.pub"},
		{"others can write the file", func(t *testing.T, dir string) { os.Chmod(keyFile(dir, key), 0o666) }, "others can write it: run chmod go-w"},
		{"others can write the directory", func(t *testing.T, dir string) { os.Chmod(dir+"/keys", 0o777) }, "others can write it: run chmod go-w"},
		{"of another user", func(t *testing.T, dir string) { os.Chown(keyFile(dir, key), 1000, -1) }, "it belongs to uid 1000: run chown"},
		{"unsigned first rules", func(t *testing.T, dir string) { os.Remove(dir + "/rules.yaml.minisig") }, "the rules are not signed; sign them with a trusted key"},
		{"damaged signature", func(t *testing.T, dir string) { writeFile(t, dir+"/rules.yaml.minisig", nil) }, "the signature is damaged"},
		{"signature that cannot be read", func(t *testing.T, dir string) {
			os.Remove(dir + "/rules.yaml.minisig")
			os.Mkdir(dir+"/rules.yaml.minisig", 0o700)
		}, "reading the signature of the rule file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := newTree(t)
			text := ruleText(dir, "EACCES")
			args := append(requireSigned(t, dir, key), "--rules", dir+"/rules.yaml")
			writeFile(t, dir+"/rules.yaml", []byte(text))
			writeFile(t, dir+"/rules.yaml.minisig", sign(t, key, text, 1))
			tt.damage(t, dir)
			cmd, log := daemonCommand(dir, args...)
			if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), tt.says) {
				t.Errorf("it ends with %v and says\n%s\nwant status 1 and %q", err, log, tt.says)
			}
		})
	}
}

// The stored text is changed behind the daemon's back, checksum and all: root can do that,
// and still does not put it in force.
func TestStoredRulesThatWereChanged(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	key := newSigner(t)
	args := requireSigned(t, dir, key)
	d := startDaemon(t, dir, args...)
	text := ruleText(dir, "EACCES")
	if err := d.pushSigned(text, sign(t, key, text, 1)); err != nil {
		t.Fatal(err)
	}
	d.stop()
	forge(t, dir, "/tree/bad", "/tree/BAD")
	d = startDaemon(t, dir, args...)
	if s := d.status(); s.Epoch != 0 || !d.warns("the signature is not of these rules") {
		t.Errorf("epoch %d, warnings %q; want 0, and why", s.Epoch, s.Warnings)
	}
	d.stop()
	// Whoever does not require signatures gets a set that is called unsigned.
	d = startDaemon(t, dir)
	if s := d.status(); s.Epoch != 1 || !strings.Contains(d.log.String(), "the stored rules are in force as unsigned") {
		t.Errorf("epoch %d where none is required, want 1; the log:\n%s", s.Epoch, d.log)
	}
}

// forge changes the text of epoch 1 in the store and writes the checksum anew.
func forge(t *testing.T, dir, old, new string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/state/*1.rules")
	if err != nil || len(files) != 1 {
		t.Fatalf("the file of epoch 1: %v %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(data, []byte("\n"))
	body = bytes.Replace(body, []byte(old), []byte(new), 1)
	writeFile(t, files[0], fmt.Appendf(nil, "arbiter-rules 1 sha256=%x length=%d\n%s", sha256.Sum256(body), len(body), body))
}

// A daemon that requires signatures does not take over rules that have none.
func TestReplaceRequiresSigned(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	key := newSigner(t)
	d := startDaemon(t, dir)
	text := ruleText(dir, "EACCES")
	d.push(text)
	args := requireSigned(t, dir, key)
	if said := failedSuccessor(t, dir, args...); !strings.Contains(said, "which stays in charge: the rules are not signed: epoch 1") {
		t.Errorf("it says %q; want that epoch 1 is not signed", said)
	}
	d.until("the old one goes on", func() bool { return strings.Contains(d.log.String(), "this one stays in charge") })
	d.soon(unix.EPERM, "bad")
	// The way there: trust the key, push the same text signed, then require it.
	writeFile(t, dir+"/config", []byte("trusted_keys: "+dir+"/keys\n"))
	next := successor(t, dir, args...)
	d.ended()
	if err := next.pushSigned(text, sign(t, key, text, 1)); err != nil {
		t.Fatal(err)
	}
	last := successor(t, dir, requireSigned(t, dir)...)
	next.ended()
	if s := last.status(); s.Epoch != 2 || !s.GetSigning().GetRequired() || s.GetSigning().GetSerial() != 1 {
		t.Errorf("epoch %d, signing %v; want 2, required, serial 1", s.Epoch, s.GetSigning())
	}
	last.soon(unix.EPERM, "bad")
}
