// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// indexAge is how long the list of kernels is believed before the archive is asked again.
const indexAge = 24 * time.Hour

// Store is a folder of kernels, shared by all clones and runs on a machine.
//
// What is trusted: apt's verification of the suites' signatures, and from there SHA256 all the way. A package is checked
// when it arrives; what was taken out of it is written down with its own sum in kernel.json and checked at each use, so
// that a damaged cache is noticed and fetched again. The folder belongs to whoever runs the tests; whoever can write
// there can choose the kernel, as with any build cache.
//
// A Store is for one goroutine; several Stores, in several processes too, may share a folder.
//
// Layout: index.json (kernels known, and when they were asked for), apt/ (private apt state), and a folder for each
// kernel with kernel.json, vmlinuz, the .deb files and the modules taken out so far. All changes happen under one lock.
type Store struct {
	Dir     string                           // see DefaultDir
	Offline bool                             // never ask the archive
	Refresh bool                             // ask it even when the index is fresh
	Logf    func(format string, args ...any) // one line for the user; must be set

	asked bool // once is enough for the life of a Store, also when it failed: without a network it takes half a minute
}

// Kernel is a kernel in the store, ready to boot.
type Kernel struct {
	Candidate
	Files map[string]string // name below its folder -> SHA256
	dir   string
}

// Image is the path of the bootable image.
func (k *Kernel) Image() string { return filepath.Join(k.dir, imageFile) }

// Names in a kernel's folder.
const (
	manifestFile = "kernel.json"
	imageFile    = "vmlinuz"
)

type index struct {
	Checked time.Time
	Kernels []Candidate
}

// DefaultDir is where kernels are kept: ARBITER_CACHE/kernels if that is set, else in the user's cache folder if there is
// one, so that a fresh clone finds them, else in .cache/kernels at the root of the module that dir is in, where git ignores
// it, or in dir itself without one.
func DefaultDir(dir string) string {
	if d := os.Getenv("ARBITER_CACHE"); d != "" {
		return filepath.Join(d, "kernels")
	}
	if d := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "arbiter", "kernels")
	}
	if home, err := os.UserHomeDir(); err == nil {
		d := filepath.Join(home, ".cache")
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			return filepath.Join(d, "arbiter", "kernels")
		}
	}
	if root := moduleRoot(dir); root != "" {
		dir = root
	}
	return filepath.Join(dir, ".cache", "kernels")
}

// Resolve returns the newest kernel of a series ("6.1", "6.12.117") or of all (SeriesNewest), fetching what is missing.
// When the archive cannot be asked and the store has a kernel of the series, that one is used, and Logf told so.
func (s *Store) Resolve(ctx context.Context, series string) (*Kernel, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the kernel cache: %w", err)
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"), func() { s.Logf("waiting for another vmrun to finish with %s", dir) })
	if err != nil {
		return nil, err
	}
	defer unlock()

	c, err := Newest(s.known(ctx, dir), series)
	if err == nil {
		var k *Kernel
		if k, err = s.open(dir, c); err == nil {
			return k, nil
		}
		if s.Offline {
			err = fmt.Errorf("kernel %s is not in the cache: %w", c.Release, err)
		} else if k, err = s.fetch(ctx, dir, c); err == nil {
			return k, nil
		}
	}
	// Slow path: what the archive has now is not to be had. Take what there is.
	have, cerr := Newest(s.cached(dir), series)
	if cerr == nil {
		if k, oerr := s.open(dir, have); oerr == nil {
			s.Logf("using %s from the cache: %v", k.Release, err)
			return k, nil
		}
	}
	return nil, fmt.Errorf("finding a kernel of series %s: %w", series, err)
}

// known returns the kernels of the index, refreshed when it is due.
func (s *Store) known(ctx context.Context, dir string) []Candidate {
	path := filepath.Join(dir, "index.json")
	var x index
	if b, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(b, &x); err != nil {
			s.Logf("reading %s: %v; asking again", path, err)
			x = index{}
		}
	}
	age := time.Since(x.Checked)
	if s.Offline || s.asked || (!s.Refresh && age >= 0 && age < indexAge) {
		return x.Kernels
	}
	s.asked = true
	fresh, err := s.refresh(ctx, dir)
	if err != nil {
		s.Logf("the Debian archive could not be asked for kernels: %v", err)
		return x.Kernels
	}
	b, err := json.MarshalIndent(index{Checked: time.Now().UTC(), Kernels: fresh}, "", "\t")
	if err == nil {
		err = writeFile(path, b)
	}
	if err != nil {
		s.Logf("writing the list of kernels: %v", err)
	}
	return fresh
}

// refresh asks each suite. It fails only when none could be read.
func (s *Store) refresh(ctx context.Context, dir string) ([]Candidate, error) {
	a := &apt{dir: filepath.Join(dir, "apt")}
	sources, err := a.sources(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.setUp(); err != nil {
		return nil, err
	}
	s.Logf("asking the Debian archive for kernels: %d suites", len(sources))
	var (
		found  []Candidate
		failed []error
	)
	for _, src := range sources {
		kernels, err := a.update(ctx, src)
		if err != nil {
			failed = append(failed, fmt.Errorf("suite %s: %w", src.suite, err))
			continue
		}
		found = append(found, kernels...)
	}
	if len(failed) == len(sources) {
		return nil, failed[0]
	}
	for _, err := range failed {
		s.Logf("left out: %v", err)
	}
	return found, nil
}

// folder is the name of a kernel's folder. A colon, of an epoch, is no good in paths that go on a command line.
func folder(c Candidate) string {
	return strings.ReplaceAll(c.Release+"_"+c.Version, ":", "%3a")
}

// cached lists the kernels that are in the store, usable or not.
func (s *Store) cached(dir string) []Candidate {
	var found []Candidate
	files, _ := filepath.Glob(filepath.Join(dir, "*", manifestFile)) // only a bad pattern fails
	for _, f := range files {
		if k, err := readKernel(filepath.Dir(f)); err == nil {
			found = append(found, k.Candidate)
		}
	}
	return found
}

func readKernel(dir string) (*Kernel, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	k := &Kernel{dir: dir}
	if err := json.Unmarshal(b, k); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, manifestFile), err)
	}
	return k, nil
}

// open returns a cached kernel whose image is what it was. A damaged one is removed.
func (s *Store) open(dir string, c Candidate) (*Kernel, error) {
	k, err := readKernel(filepath.Join(dir, folder(c)))
	if err == nil {
		err = checkFile(k.Image(), k.Files[imageFile])
	}
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.Logf("the cached kernel %s is damaged and not used: %v", c.Release, err)
	}
	return nil, err
}

// fetch downloads a kernel beside its place and moves it there when it is complete.
func (s *Store) fetch(ctx context.Context, dir string, c Candidate) (*Kernel, error) {
	s.Logf("fetching %s from %s (%d MB)", c.Release, c.Suite, (c.Image.Size+c.Modules.Size)>>20)
	tmp, err := os.MkdirTemp(dir, ".fetch-")
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", c.Release, err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	k := &Kernel{Candidate: c, Files: map[string]string{}, dir: tmp}
	a := &apt{dir: filepath.Join(dir, "apt")}
	for _, p := range []Package{c.Image, c.Modules} {
		name := debFile(p)
		if k.Files[name] != "" {
			continue
		}
		got, err := a.download(ctx, tmp, c.Suite, p)
		if err != nil {
			return nil, err
		}
		if err := os.Rename(got, filepath.Join(tmp, name)); err != nil {
			return nil, err
		}
		k.Files[name] = p.SHA256
	}
	err = extract(ctx, filepath.Join(tmp, debFile(c.Image)), isImage, k.Image())
	if err != nil {
		return nil, err
	}
	if k.Files[imageFile], err = sumFile(k.Image()); err != nil {
		return nil, err
	}
	if err := k.save(); err != nil {
		return nil, err
	}
	to := filepath.Join(dir, folder(c))
	if err := os.RemoveAll(to); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, to); err != nil {
		return nil, fmt.Errorf("keeping %s: %w", c.Release, err)
	}
	k.dir = to
	return k, nil
}

func debFile(p Package) string { return p.Name + ".deb" }

func (k *Kernel) save() error {
	b, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(k.dir, manifestFile), b); err != nil {
		return fmt.Errorf("keeping %s: %w", k.Release, err)
	}
	return nil
}
