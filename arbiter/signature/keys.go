// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"aead.dev/minisign"
)

const (
	// MaxBytes is the largest file of a signature or a key that is looked at: minisign
	// writes 300 bytes and the comments.
	MaxBytes = 1024
	// MaxKeys is how many keys can be trusted at once.
	MaxKeys = 64
	// keySuffix is what the names of public keys end with.
	keySuffix = ".pub"
	// Suffix is what the name of a signature has more than that of what is signed.
	Suffix = ".minisig"
)

// Keys are the public keys of those who are trusted. They do not change and may be used
// concurrently; nil are none.
type Keys struct{ keys []minisign.PublicKey }

// ReadKeys reads all *.pub of a directory. A file that is no key is an error that names
// it, and so is a directory without any: to trust nobody is never meant. permit, if not
// nil, says whether the directory and each file may be relied on.
func ReadKeys(dir string, permit func(fs.FileInfo) error) (*Keys, error) {
	wrong := func(name string, err error) error {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err // the name is said already
		}
		return fmt.Errorf("reading trusted keys: %q: %w", name, err)
	}
	if permit == nil {
		permit = func(fs.FileInfo) error { return nil }
	}
	info, err := os.Stat(dir)
	if err == nil {
		err = permit(info)
	}
	var entries []fs.DirEntry
	if err == nil {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil, wrong(dir, err)
	}
	k := &Keys{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), keySuffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		key, err := readKey(path, permit)
		if err != nil {
			return nil, wrong(path, err)
		}
		k.keys = append(k.keys, key)
	}
	switch n := len(k.keys); {
	case n == 0:
		return nil, wrong(dir, fmt.Errorf("it holds no *%s: put the public keys of those who may sign there", keySuffix))
	case n > MaxKeys:
		return nil, wrong(dir, fmt.Errorf("%d keys are more than the %d that can be trusted", n, MaxKeys))
	}
	return k, nil
}

func readKey(path string, permit func(fs.FileInfo) error) (key minisign.PublicKey, err error) {
	data, err := ReadFile(path, permit)
	if err != nil {
		return key, err
	}
	return parseKey(data)
}

// parseKey decodes a public key.
func parseKey(data []byte) (key minisign.PublicKey, err error) {
	if len(data) > MaxBytes {
		return key, fmt.Errorf("more than %d bytes: this is no public key of minisign", MaxBytes)
	}
	if err := key.UnmarshalText(data); err != nil {
		return key, fmt.Errorf("%s: this is no public key of minisign; take the .pub file as minisign -G has written it", libraryText(err))
	}
	return key, nil
}

// libraryText is an error of the library without its name.
func libraryText(err error) string { return strings.TrimPrefix(err.Error(), "minisign: ") }

// ReadFile reads a signature or a key: a regular file, of which it returns at most one
// byte more than MaxBytes, so that Verify can say that it is too large. It does not wait
// for a writer. permit, if not nil, says whether the file may be relied on.
func ReadFile(path string, permit func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no regular file (%s)", info.Mode())
	}
	if permit != nil {
		if err := permit(info); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, MaxBytes+1))
}

// IDs returns the ids of all keys, sorted, each once.
func (k *Keys) IDs() []string {
	if k == nil {
		return nil
	}
	var ids []string
	for _, key := range k.keys {
		ids = append(ids, idText(key.ID()))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// idText writes an id as minisign does, in full.
func idText(id uint64) string { return fmt.Sprintf("%016X", id) }
