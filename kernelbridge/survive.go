// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// Survive has the hooks outlive this process when it ends without Close: all that is in
// scope then gets one failure verdict, until RemoveSurvivors or the break-glass file.
type Survive struct {
	Dir    string   // on a bpffs; made if it is missing
	Errno  uint16   // the verdict
	Rescue []string // executables that go on; those that are not there are left out
	// BreakGlass is a file that ends the refusing when root makes it. Its directory must
	// be there.
	BreakGlass string
}

// death is what sees to the hooks that outlive the daemon.
type death struct {
	objs  deathObjects
	links []link.Link
	pins  *pins
}

// pins is the directory of this process's pins.
type pins struct{ dir string }

func (p *pins) pin(name string, l link.Link) error {
	if p == nil {
		return nil
	}
	if err := l.Pin(filepath.Join(p.dir, name)); err != nil {
		return fmt.Errorf("pinning the hook %s: %w", name, err)
	}
	return nil
}

func (p *pins) unpin(l link.Link) error {
	if p == nil {
		return nil
	}
	if err := l.Unpin(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpinning a hook: %w", err)
	}
	return nil
}

// survive sees to it that the hooks outlive this process, if they are to.
func (b *LSM) survive(s *Survive) (err error) {
	if s == nil {
		return nil
	}
	wrong := func(err error) error { return fmt.Errorf("having the hooks outlive the daemon: %w", err) }
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(s.Dir), &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		return wrong(fmt.Errorf("%s is no bpffs (%w): mount -t bpf bpf %[1]s", filepath.Dir(s.Dir), errors.Join(err, fs.ErrInvalid)))
	}
	ticks, err := gate.StartTicks(os.Getpid())
	if err != nil {
		return wrong(err)
	}
	p := &pins{filepath.Join(s.Dir, fmt.Sprintf("%d-%d", os.Getpid(), ticks))}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return wrong(err)
	}
	b.death = &death{pins: p}
	var r resolver
	for _, path := range s.Rescue {
		f, err := r.identify(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return wrong(err)
		}
		if err := b.hooks.maps.ArbRescue.Put(f.key, uint32(1)); err != nil {
			return wrong(err)
		}
	}
	if err := loadDeathObjects(&b.death.objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"arb_header": b.hooks.maps.ArbHeader}}); err != nil {
		return wrong(loadError("programs for the daemon's death", err))
	}
	dir, err := r.identify(filepath.Dir(s.BreakGlass))
	if err != nil {
		return wrong(fmt.Errorf("directory of the break-glass file: %w", err))
	}
	if err := os.Remove(s.BreakGlass); err != nil && !errors.Is(err, fs.ErrNotExist) { // of the last time
		return wrong(err)
	}
	glass := deathArbGlassFile{Dev: dir.key.Dev, Ino: dir.key.Ino}
	for i, c := range []byte(filepath.Base(s.BreakGlass)) {
		if i < len(glass.Name)-1 {
			glass.Name[i] = int8(c)
		}
	}
	if err := b.death.objs.ArbGlass.Put(uint32(0), glass); err != nil {
		return wrong(err)
	}
	b.queue.Header().DeadErrno = min(s.Errno, abi.MaxErrno)
	for _, attach := range []func() (link.Link, string, error){
		func() (link.Link, string, error) {
			l, err := link.AttachTracing(link.TracingOptions{Program: b.death.objs.ArbExit})
			return l, "arb_exit", err
		},
		func() (link.Link, string, error) {
			l, err := link.AttachLSM(link.LSMOptions{Program: b.death.objs.ArbBreakGlass})
			return l, "arb_break_glass", err
		},
	} {
		l, name, err := attach()
		if err != nil {
			return wrong(err)
		}
		b.death.links = append(b.death.links, l)
		if err := p.pin(name, l); err != nil {
			return wrong(err)
		}
	}
	b.hooks.pins = p
	return nil
}

func (d *death) close() error {
	var errs []error
	for _, l := range d.links {
		errs = append(errs, d.pins.unpin(l), l.Close())
	}
	return errors.Join(append(errs, d.objs.Close(), os.RemoveAll(d.pins.dir))...)
}

// DefaultPins is where hooks that are to outlive their daemon are pinned, unless it is told
// another place.
const DefaultPins = "/sys/fs/bpf/arbiter"

// Survivors returns the directories of pins whose daemons are dead.
func Survivors(dir string) (dead []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		var pid int
		var ticks uint64
		if n, _ := fmt.Sscanf(strings.ReplaceAll(e.Name(), "-", " "), "%d %d", &pid, &ticks); n != 2 {
			continue
		}
		if now, err := gate.StartTicks(pid); err != nil || now != ticks {
			dead = append(dead, filepath.Join(dir, e.Name()))
		}
	}
	return dead, err
}

// RemoveSurvivors ends the hooks that outlived their daemons, and returns how many had.
func RemoveSurvivors(dir string) (n int, err error) {
	dead, err := Survivors(dir)
	errs := []error{err}
	for _, d := range dead {
		errs = append(errs, os.RemoveAll(d))
	}
	return len(dead), errors.Join(errs...)
}
