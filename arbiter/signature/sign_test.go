// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestSecretKeyFile(t *testing.T) {
	key, _ := newKey(t)
	file, err := key.Seal("")
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenSecretKey(file, func() (string, error) { return "", errors.New("asked for a password") })
	if err != nil || again.ID() != key.ID() || string(again.Public()) != string(key.Public()) {
		t.Errorf("OpenSecretKey = %s, %v; want %s", again.ID(), err, key.ID())
	}
	for name, bad := range map[string][]byte{"cut": file[:len(file)-9], "empty": nil, "public": key.Public(), "too large": make([]byte, MaxBytes+1)} {
		if _, err := OpenSecretKey(bad, func() (string, error) { return "", nil }); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// What Seal encrypts takes a GiB and seconds to open, by design. The file of this test says
// of itself that it is cheap.
func TestEncryptedSecretKey(t *testing.T) {
	file, err := os.ReadFile("testdata/cheap.key")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		file     []byte
		password string
		err      error // of asking for it
		says     string
	}{
		{"right", file, "opensesame", nil, ""},
		{"another password", file, "guess", nil, "the password is wrong, or the file is damaged"},
		{"damaged", raw(file, 1, func(b []byte) { b[60] ^= 1 }), "opensesame", nil, "the password is wrong, or the file is damaged"},
		// More memory than minisign ever takes: refused before it gets it.
		{"greedy", raw(file, 1, func(b []byte) { b[53] = 0xff }), "opensesame", nil, "the password is wrong, or the file is damaged"},
		{"no password", file, "", errors.New("stdin is no terminal"), "stdin is no terminal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := OpenSecretKey(tt.file, func() (string, error) { return tt.password, tt.err })
			if tt.says == "" {
				if err != nil || key.ID() != "14B22D0A432C87C1" {
					t.Errorf("OpenSecretKey = %s, %v", key.ID(), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("OpenSecretKey: %v, want it to say %q", err, tt.says)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	key, _ := newKey(t)
	for _, tt := range []struct {
		name    string
		serial  uint64
		comment string
		says    string
	}{
		{"serial 0", 0, "", "no number above 0"},
		{"a second serial", 1, "serial:2", "2 words"},
		{"two lines", 1, "a\nuntrusted comment: b", "more than one line"},
		{"too long", 1, strings.Repeat("x", MaxBytes), "shorten the comment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := key.Sign([]byte(text), tt.serial, tt.comment); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Sign: %v, want it to say %q", err, tt.says)
			}
		})
	}
}
