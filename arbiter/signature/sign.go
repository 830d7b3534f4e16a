// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"aead.dev/minisign"
)

// SecretKey signs. Its files are those of minisign -G.
type SecretKey struct{ key minisign.PrivateKey }

// NewSecretKey makes a key.
func NewSecretKey() (SecretKey, error) {
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return SecretKey{}, fmt.Errorf("making a key: %w", err)
	}
	return SecretKey{key}, nil
}

// ID returns the id of the key and of its signatures.
func (k SecretKey) ID() string { return idText(k.key.ID()) }

// Public returns the file of the public key.
func (k SecretKey) Public() []byte {
	text, _ := k.key.Public().(minisign.PublicKey).MarshalText() // never fails
	return append(text, '\n')
}

// Seal returns the file of the secret key, encrypted unless the password is empty. To
// encrypt takes a GiB of memory and some seconds, and so does to read it: that is what a
// guess at the password costs.
func (k SecretKey) Seal(password string) ([]byte, error) {
	var text []byte
	var err error
	if password == "" {
		text, err = k.key.MarshalText()
	} else {
		text, err = minisign.EncryptKey(password, k.key)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting the key: %s", libraryText(err))
	}
	return append(text, '\n'), nil
}

// OpenSecretKey is the way back from Seal; password is called if there is one.
func OpenSecretKey(file []byte, password func() (string, error)) (SecretKey, error) {
	var k SecretKey
	if len(file) > MaxBytes {
		return k, fmt.Errorf("more than %d bytes: this is no secret key of minisign", MaxBytes)
	}
	if !minisign.IsEncrypted(file) {
		if err := k.key.UnmarshalText(file); err != nil {
			return k, errors.New(libraryText(err))
		}
		return k, nil
	}
	secret, err := password()
	if err != nil {
		return k, err
	}
	if k.key, err = minisign.DecryptKey(secret, file); err != nil {
		return k, errors.New("the password is wrong, or the file is damaged")
	}
	return k, nil
}

// Sign returns the signature of text, which has the serial and a comment, if one is given,
// in its trusted comment. It is prehashed, as minisign's is.
func (k SecretKey) Sign(text []byte, serial uint64, comment string) ([]byte, error) {
	trusted := strings.TrimSpace(fmt.Sprintf("%s%d %s", serialWord, serial, comment))
	if strings.ContainsAny(trusted, "\r\n") {
		return nil, errors.New("the comment has more than one line")
	}
	if _, err := serialIn(trusted); err != nil {
		return nil, err
	}
	r := minisign.NewReader(bytes.NewReader(text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	out := r.SignWithComments(k.key, trusted, "signature of rules by key "+k.ID())
	if len(out) > MaxBytes {
		return nil, fmt.Errorf("the signature would have %d bytes, more than %d: shorten the comment", len(out), MaxBytes)
	}
	return out, nil
}
