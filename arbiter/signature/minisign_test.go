// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool runs minisign(1) in dir.
func tool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "minisign", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("minisign %v: %v\n%s", args, err, out)
	}
}

// TestMinisign exchanges keys and signatures with the tool whose format this is, both ways.
func TestMinisign(t *testing.T) {
	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip("the program minisign is not installed: apt-get install minisign")
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	rules := []byte(text)
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "-G", "-W", "-p", "keys/theirs.pub", "-s", "theirs.key")
	for _, tt := range []struct {
		name string
		flag []string
	}{{"prehashed", nil}, {"legacy", []string{"-l"}}} {
		t.Run(tt.name, func(t *testing.T) {
			tool(t, dir, append([]string{"-S", "-W", "-s", "theirs.key", "-t", "serial:42 by hand", "-m", "rules.yaml"}, tt.flag...)...)
			signature, err := ReadFile(filepath.Join(dir, "rules.yaml.minisig"), nil)
			if err != nil {
				t.Fatal(err)
			}
			trusted := readKeys(t, keys)
			got, err := trusted.Verify(rules, signature)
			want := Signed{trusted.IDs()[0], 42, "serial:42 by hand"}
			if err != nil || got != want {
				t.Errorf("Verify = %+v, %v; want %+v", got, err, want)
			}
			if !bytes.Contains(signature, []byte("\ntrusted comment: serial:42")) {
				t.Errorf("the tool wrote %q", signature)
			}
		})
	}

	// Its secret key is one of ours, and what we sign it takes.
	file, err := ReadFile(filepath.Join(dir, "theirs.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := OpenSecretKey(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := newKey(t)
	trust(t, dir, "ours.pub", ours.Public())
	for pub, key := range map[string]SecretKey{"keys/theirs.pub": theirs, "ours.pub": ours} {
		trust(t, dir, "rules.yaml.minisig", sign(t, key, text, 43, "by us"))
		tool(t, dir, "-V", "-p", pub, "-m", "rules.yaml")
	}
	// And our secret key is one of its.
	secret, err := ours.Seal("")
	if err != nil {
		t.Fatal(err)
	}
	trust(t, dir, "ours.key", secret)
	tool(t, dir, "-S", "-W", "-s", "ours.key", "-t", "serial:44", "-m", "rules.yaml")
	tool(t, dir, "-V", "-p", "ours.pub", "-m", "rules.yaml")
}
