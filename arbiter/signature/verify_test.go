// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

const text = "version: 1\ndefault: allow\n"

// newKey returns a key and a directory in which it is trusted.
func newKey(t testing.TB) (SecretKey, string) {
	t.Helper()
	key, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	trust(t, dir, "a.pub", key.Public())
	return key, dir
}

func trust(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readKeys(t testing.TB, dir string) *Keys {
	t.Helper()
	keys, err := ReadKeys(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func sign(t testing.TB, key SecretKey, text string, serial uint64, comment string) []byte {
	t.Helper()
	s, err := key.Sign([]byte(text), serial, comment)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// legacy signs as minisign -l does, with any trusted comment.
func legacy(key SecretKey, text, trusted string) []byte {
	return minisign.SignWithComments(key.key, []byte(text), trusted, "by hand")
}

func TestVerify(t *testing.T) {
	key, dir := newKey(t)
	keys := readKeys(t, dir)
	for _, tt := range []struct {
		name      string
		signature []byte
		want      Signed
	}{
		{"prehashed", sign(t, key, text, 42, "ticket 7"), Signed{key.ID(), 42, "serial:42 ticket 7"}},
		{"legacy", legacy(key, text, "file:rules.yaml serial:18446744073709551615"), Signed{key.ID(), 1<<64 - 1, "file:rules.yaml serial:18446744073709551615"}},
		{"zeros in front", legacy(key, text, "serial:007"), Signed{key.ID(), 7, "serial:007"}},
		{"foreign bytes", legacy(key, text, "serial:1 \x1b[2J\xff"), Signed{key.ID(), 1, "serial:1 \x1b[2J\xff"}},
		{"windows line ends", bytes.ReplaceAll(sign(t, key, text, 3, ""), []byte("\n"), []byte("\r\n")), Signed{key.ID(), 3, "serial:3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := keys.Verify([]byte(text), tt.signature)
			if err != nil || got != tt.want {
				t.Errorf("Verify = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// replaced returns b with old replaced, which must be there.
func replaced(t *testing.T, b []byte, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q does not have %q", b, old)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

// line changes one line of a signature, counted from 0.
func line(b []byte, n int, change func(string) string) []byte {
	lines := strings.Split(string(b), "\n")
	lines[n] = change(lines[n])
	return []byte(strings.Join(lines, "\n"))
}

// raw changes the decoded bytes of a line in base64.
func raw(b []byte, n int, change func([]byte)) []byte {
	return line(b, n, func(s string) string {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		change(data)
		return base64.StdEncoding.EncodeToString(data)
	})
}

func TestVerifyRefuses(t *testing.T) {
	key, dir := newKey(t)
	other, _ := newKey(t)
	keys := readKeys(t, dir)
	good := sign(t, key, text, 42, "ticket 7")
	for _, tt := range []struct {
		name      string
		keys      *Keys
		text      string
		signature []byte
		reason    error
		says      string
	}{
		{"tampered rules", keys, text + " ", good, ErrText, "changed after they were signed"},
		{"signature of other rules", keys, text, sign(t, key, "version: 2\n", 43, ""), ErrText, "belongs to others"},
		{"legacy, tampered rules", keys, text + " ", legacy(key, text, "serial:1"), ErrText, "changed"},
		{"tampered comment", keys, text, replaced(t, good, "serial:42", "serial:43"), ErrComment, "second signature"},
		{"tampered signature", keys, text, raw(good, 1, func(b []byte) { b[20] ^= 1 }), ErrComment, "second signature"},
		{"tampered comment signature", keys, text, raw(good, 3, func(b []byte) { b[20] ^= 1 }), ErrComment, "second signature"},
		{"comment of another signature", keys, text, line(good, 3, func(string) string {
			return strings.Split(string(sign(t, key, text+"x", 42, "ticket 7")), "\n")[3]
		}), ErrComment, "second signature"},
		{"unknown key", keys, text, sign(t, other, text, 42, ""), ErrUnknownKey, "it is " + other.ID() + ", trusted are " + key.ID()},
		{"unknown key with the id of a trusted one", keys, text, raw(sign(t, other, text, 42, ""), 1, func(b []byte) {
			id, _ := base64.StdEncoding.DecodeString(strings.Split(string(good), "\n")[1])
			copy(b[2:10], id[2:10])
		}), ErrComment, "second signature"},
		{"wrong algorithm", keys, text, raw(good, 1, func(b []byte) { copy(b, "XX") }), ErrMalformed, "invalid algorithm"},
		{"prehashed called legacy", keys, text, raw(good, 1, func(b []byte) { copy(b, "Ed") }), ErrText, "changed"},
		{"cut in the comment", keys, text, good[:bytes.Index(good, []byte("ticket"))], ErrMalformed, "invalid signature"},
		{"cut in the last line", keys, text, good[:len(good)-20], ErrMalformed, ""},
		{"empty", keys, text, []byte{}, ErrMalformed, "invalid signature"},
		{"too large", keys, text, append(bytes.Clone(good), make([]byte, MaxBytes)...), ErrMalformed, "more than 1024 bytes"},
		{"no serial", keys, text, legacy(key, text, "timestamp:1 file:rules.yaml"), ErrSerial, "0 words serial:N"},
		{"two serials", keys, text, legacy(key, text, "serial:1 serial:2"), ErrSerial, "2 words serial:N"},
		{"serial 0", keys, text, legacy(key, text, "serial:0"), ErrSerial, `"serial:0" is no number above 0`},
		{"serial below 0", keys, text, legacy(key, text, "serial:-1"), ErrSerial, "no number"},
		{"serial too large", keys, text, legacy(key, text, "serial:18446744073709551616"), ErrSerial, "no number"},
		{"serial in hex", keys, text, legacy(key, text, "serial:0x2a"), ErrSerial, "no number"},
		{"serial without a number", keys, text, legacy(key, text, "serial: 42"), ErrSerial, "no number"},
		{"hostile comment", keys, text, legacy(key, text, "\x1b[2J"), ErrSerial, `\x1b[2J`},
		{"no keys", nil, text, good, ErrNoKeys, "nothing to verify it by"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.keys.Verify([]byte(tt.text), tt.signature)
			var refused *Error
			if !errors.As(err, &refused) || !errors.Is(err, tt.reason) || got != (Signed{}) {
				t.Fatalf("Verify = %+v, %v; want an error that wraps %v", got, err, tt.reason)
			}
			if !strings.Contains(err.Error(), tt.says) || refused.Next == "" {
				t.Errorf("error %q, next %q; want it to say %q and what to do", err, refused.Next, tt.says)
			}
		})
	}
}

// Every single bit and every length but the whole one matters, in what is signed.
func TestVerifyEveryBit(t *testing.T) {
	key, dir := newKey(t)
	keys := readKeys(t, dir)
	good := sign(t, key, text, 42, "ticket 7")
	first := bytes.IndexByte(good, '\n') + 1 // before it is the comment that nobody signed
	for i := first; i < len(good); i++ {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			s, err := keys.Verify([]byte(text), bad)
			if err == nil && s != (Signed{key.ID(), 42, "serial:42 ticket 7"}) {
				t.Fatalf("bit %d of byte %d flipped: it says %+v", bit, i, s)
			}
		}
	}
	for n := range len(good) - 1 { // the last newline may be missing
		if _, err := keys.Verify([]byte(text), good[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes: accepted", n, len(good))
		}
	}
}

func TestFollows(t *testing.T) {
	for _, tt := range []struct {
		name            string
		serial, highest uint64
		same            bool
		says            string
	}{
		{"first", 1, 0, false, ""},
		{"higher", 43, 42, false, ""},
		{"equal, same text", 42, 42, true, ""},
		{"equal, another text", 42, 42, false, "serial 42 was in force already, with another text"},
		{"lower", 41, 42, false, "their serial is 41, and 42 was in force already"},
		{"lower, same text", 41, 42, true, "their serial is 41"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Signed{Serial: tt.serial}.Follows(tt.highest, tt.same)
			if (err == nil) != (tt.says == "") || err != nil && (!errors.Is(err, ErrReplayed) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Follows = %v, want %q", err, tt.says)
			}
		})
	}
}

func TestReadKeys(t *testing.T) {
	key, _ := newKey(t)
	good := key.Public()
	short, _, _ := bytes.Cut(bytes.SplitAfter(good, []byte("\n"))[1], []byte("\n"))
	for _, tt := range []struct {
		name   string
		make   func(dir string)
		permit func(fs.FileInfo) error
		ids    int
		says   string
	}{
		{"one key", func(dir string) { trust(t, dir, "a.pub", good) }, nil, 1, ""},
		{"without the comment", func(dir string) { trust(t, dir, "a.pub", short) }, nil, 1, ""},
		{"the same twice", func(dir string) { trust(t, dir, "a.pub", good); trust(t, dir, "b.pub", good) }, nil, 1, ""},
		{"other files beside", func(dir string) { trust(t, dir, "a.pub", good); trust(t, dir, "README", []byte("hello")) }, nil, 1, ""},
		{"none", func(string) {}, nil, 0, "it holds no *.pub"},
		{"empty file", func(dir string) { trust(t, dir, "a.pub", nil) }, nil, 0, "a.pub\": invalid public key length 0: this is no public key"},
		{"cut short", func(dir string) { trust(t, dir, "a.pub", good[:len(good)-8]) }, nil, 0, "this is no public key of minisign"},
		{"a secret key", func(dir string) {
			secret, err := key.Seal("")
			if err != nil {
				t.Fatal(err)
			}
			trust(t, dir, "a.pub", secret)
		}, nil, 0, "this is no public key of minisign"},
		{"one good, one bad", func(dir string) { trust(t, dir, "a.pub", good); trust(t, dir, "b.pub", []byte("x")) }, nil, 0, "b.pub"},
		{"too large", func(dir string) { trust(t, dir, "a.pub", make([]byte, MaxBytes+1)) }, nil, 0, "more than 1024 bytes"},
		{"a device", func(dir string) {
			if err := os.Symlink("/dev/zero", filepath.Join(dir, "a.pub")); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "no regular file"},
		{"directory", func(dir string) {
			if err := os.Mkdir(filepath.Join(dir, "a.pub"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, nil, 0, "no regular file"},
		{"not permitted", func(dir string) { trust(t, dir, "a.pub", good) }, func(i fs.FileInfo) error {
			if i.IsDir() {
				return nil
			}
			return errors.New("others can write it")
		}, 0, "a.pub\": others can write it"},
		{"no such directory", func(dir string) { os.Remove(dir) }, nil, 0, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tt.make(dir)
			keys, err := ReadKeys(dir, tt.permit)
			if tt.says == "" {
				if err != nil || len(keys.IDs()) != tt.ids {
					t.Fatalf("ReadKeys = %v, %v; want %d keys", keys.IDs(), err, tt.ids)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ReadKeys: %v, want it to say %q", err, tt.says)
			}
		})
	}
}

func TestTooManyKeys(t *testing.T) {
	_, dir := newKey(t)
	good, err := os.ReadFile(filepath.Join(dir, "a.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxKeys {
		trust(t, dir, strings.Repeat("k", i+1)+".pub", good)
	}
	if _, err := ReadKeys(dir, nil); err == nil || !strings.Contains(err.Error(), "65 keys are more than the 64") {
		t.Errorf("ReadKeys: %v, want it to say that they are too many", err)
	}
}

// Two keys may have one id, by chance or because somebody wants it: each one counts.
func TestKeysWithOneID(t *testing.T) {
	key, dir := newKey(t)
	other, _ := newKey(t)
	// Read first, and of another key.
	trust(t, dir, "0.pub", raw(other.Public(), 1, func(b []byte) {
		mine, _ := base64.StdEncoding.DecodeString(strings.Split(string(key.Public()), "\n")[1])
		copy(b[2:10], mine[2:10])
	}))
	keys := readKeys(t, dir)
	if _, err := keys.Verify([]byte(text), sign(t, key, text, 1, "")); err != nil {
		t.Errorf("Verify: %v, want the second key to be tried", err)
	}
	if got := keys.IDs(); len(got) != 1 {
		t.Errorf("IDs = %v, want one", got)
	}
}

// BenchmarkVerify is of a file with a hundred rules or so.
func BenchmarkVerify(b *testing.B) {
	key, dir := newKey(b)
	keys := readKeys(b, dir)
	rules := strings.Repeat(text, 400)
	sig := sign(b, key, rules, 1, "")
	for b.Loop() {
		if _, err := keys.Verify([]byte(rules), sig); err != nil {
			b.Fatal(err)
		}
	}
}
