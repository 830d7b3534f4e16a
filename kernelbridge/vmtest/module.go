// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// maxExtract bounds, in bytes, what is taken out of a package: an image is 8 to 14 MB, a module rarely over 1.
const maxExtract = 128 << 20

func isImage(name string) bool { return strings.HasPrefix(path.Base(name), "vmlinuz") }

// errNotInPackage says that a package has no file of the kind asked for.
var errNotInPackage = errors.New("not in the package")

// extract copies the first regular file that want accepts out of a .deb. An .xz file is unpacked on the way.
func extract(ctx context.Context, deb string, want func(name string) bool, to string) error {
	ctx, stop := context.WithCancel(ctx) // ends dpkg-deb once the file is there
	defer stop()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("unpacking %s: %w; vmrun needs the package dpkg", deb, err)
	}
	defer func() { stop(); _ = cmd.Wait() }() // it is cut short on purpose
	t := tar.NewReader(out)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return fmt.Errorf("unpacking %s: %w", deb, errNotInPackage)
		}
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", deb, err)
		}
		if h.Typeflag != tar.TypeReg || !want(h.Name) {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(t, maxExtract+1))
		if err == nil && len(b) > maxExtract {
			err = fmt.Errorf("over %d bytes", maxExtract)
		}
		if err == nil && strings.HasSuffix(h.Name, ".xz") {
			b, err = unxz(ctx, b)
		}
		if err == nil {
			err = writeFile(to, b)
		}
		if err != nil {
			return fmt.Errorf("unpacking %s of %s: %w", h.Name, deb, err)
		}
		return nil
	}
}

func unxz(ctx context.Context, b []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "xz", "-dc")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w; vmrun needs the package xz-utils", err)
	}
	return out, err
}

// Modules returns the files of the named modules, each after those it depends on. A name that the kernel has no module of
// is left out and told to Logf: in one series a thing is a module that is built in in the next.
func (s *Store) Modules(ctx context.Context, k *Kernel, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	unlock, err := lockFile(filepath.Join(filepath.Dir(k.dir), "lock"), func() {})
	if err != nil {
		return nil, err
	}
	defer unlock()
	var files []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, err := k.module(ctx, name)
		if errors.Is(err, errNotInPackage) {
			s.Logf("kernel %s has no module %s: taken for built in", k.Release, name)
			return nil
		}
		if err != nil {
			return fmt.Errorf("module %s of %s: %w", name, k.Release, err)
		}
		needs, err := dependsOn(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		files = append(files, file)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// module returns the file of one module, taken out of the package at its first use. name has no dashes.
func (k *Kernel) module(ctx context.Context, name string) (string, error) {
	key := "modules/" + name + ".ko"
	file := filepath.Join(k.dir, key)
	if sum := k.Files[key]; sum != "" && checkFile(file, sum) == nil {
		return file, nil
	}
	deb := filepath.Join(k.dir, debFile(k.Candidate.Modules))
	if err := checkFile(deb, k.Candidate.Modules.SHA256); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	want := func(n string) bool {
		base := strings.TrimSuffix(path.Base(n), ".xz")
		return strings.ReplaceAll(base, "-", "_") == name+".ko"
	}
	if err := extract(ctx, deb, want, file); err != nil {
		return "", err
	}
	sum, err := sumFile(file)
	if err != nil {
		return "", err
	}
	k.Files[key] = sum
	return file, k.save()
}

// dependsOn reads "depends=a,b" of a module's .modinfo. Debian's packages have no modules.dep: depmod makes it at installation.
func dependsOn(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", file, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("reading module %s: it has no .modinfo", file)
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", file, err)
	}
	for _, field := range strings.Split(string(b), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
