// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// ProtectionOptions configures OpenProtection.
type ProtectionOptions struct {
	// OnRefusal is told of every refusal, from one goroutine. Nil: nobody is. What it
	// gets is the callee's.
	OnRefusal func(*Refusal)
	Logger    *slog.Logger // nil discards
}

// Protection is the daemon's self-protection: LSM programs that refuse, with EPERM and
// without asking anybody, what would stop the daemon, change it, or lead around it. This
// process, what it names, and holders of a token of BeginMaintenance may do everything.
// It works beside every backend, and ends with this process at the latest.
type Protection struct {
	maps    protectMaps
	object  *object
	links   []link.Link
	missing []error
	notices *ringbuf.Reader
	logger  *slog.Logger
	wg      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	places []place
}

// OpenProtection attaches the programs and protects this process, its executable, and the
// maps and programs of the protection. A hook that is not to be had is in Missing, and the
// others work; the error is an UnsupportedError where there are no BPF LSM programs.
func OpenProtection(o ProtectionOptions) (_ *Protection, err error) {
	p := &Protection{logger: o.Logger}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(lsmActive(), hostPIDs()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	spec, err := loadProtect()
	if err != nil {
		return nil, fmt.Errorf("reading the programs of the self-protection: %w", err)
	}
	if p.object, err = openObject(spec, &p.maps); err != nil {
		return nil, loadError("maps of the self-protection", err)
	}
	if err := p.ProtectProcess(os.Getpid()); err != nil {
		return nil, err
	}
	if p.notices, err = ringbuf.NewReader(p.maps.ArbRefusalNotices); err != nil {
		return nil, fmt.Errorf("reading the refusals of the self-protection: %w", err)
	}
	p.wg.Go(func() { p.readNotices(o.OnRefusal) })
	if err := p.attach(); err != nil {
		return nil, err
	}
	for name, m := range p.object.maps {
		if err := p.protectMap(m); err != nil {
			return nil, fmt.Errorf("protecting the map %s: %w", name, err)
		}
	}
	if err := p.ProtectFile("/proc/self/exe"); err != nil {
		return nil, err
	}
	return p, p.arm(true)
}

// attach loads the programs and attaches them. The error says that none can be.
func (p *Protection) attach() error {
	hooks := slices.Sorted(maps.Keys(p.object.hooks))
	failed := map[string]error{} // by hook
	p.object.load(hooks, func(i int, prog *ebpf.Program, err error) {
		if err == nil {
			err = p.attachOne(hooks[i], prog)
		}
		if err != nil {
			failed[hooks[i]] = err
		}
	})
	if len(failed) == len(hooks) {
		return fmt.Errorf("attaching the self-protection: %w", failed["task_kill"])
	}
	for _, on := range slices.Sorted(maps.Keys(failed)) {
		if lacksNothing(on, failed[on]) {
			continue
		}
		p.missing = append(p.missing, failed[on])
		p.logger.Warn("self-protection: a hook is not to be had, what it is about is not protected",
			slog.String("hook", on), slog.Any("error", failed[on]))
	}
	return nil
}

func (p *Protection) attachOne(hook string, prog *ebpf.Program) error {
	defer prog.Close() // the link holds it
	l, err := link.AttachLSM(link.LSMOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attaching to the LSM hook %s: %w", hook, err)
	}
	p.links = append(p.links, l)
	return p.protectProgram(prog)
}

// arm puts the protection in force, or ends it at once.
func (p *Protection) arm(on bool) error {
	var ns unix.Stat_t // its inode number is that of the namespace
	if err := unix.Stat("/proc/self/ns/mnt", &ns); err != nil {
		return fmt.Errorf("looking at the mount namespace: %w", err)
	}
	word := protectArbProtection{MountNs: uint32(ns.Ino)}
	if on {
		word.Armed = 1
	}
	if err := p.maps.ArbProtection.Put(uint32(0), &word); err != nil {
		return fmt.Errorf("writing whether the self-protection is armed: %w", err)
	}
	return nil
}

// The signals that anybody may send to the daemon who may send it signals at all: it
// takes the first as a word to read its rule file again, the second ends no stop that
// could have come, and by the third the installed program takes over.
const harmlessSignals = 1<<(unix.SIGHUP-1) | 1<<(unix.SIGCONT-1) | 1<<(unix.SIGUSR2-1)

// ProtectProcess protects this process, or one that belongs to it; that one may then do
// what this one may. It is to be called by the parent, which knows that the number is not
// another process's by now. An entry of a process that has ended harms nobody.
func (p *Protection) ProtectProcess(pid int) error {
	ticks, err := gate.StartTicks(pid)
	if err != nil {
		return fmt.Errorf("protecting process %d: %w", pid, err)
	}
	g := protectArbGuarded{StartTicks: ticks}
	if pid == os.Getpid() {
		g.IsDaemon, g.Signals = 1, harmlessSignals
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if err := p.forgetEnded(); err != nil {
		return err
	}
	if err := p.maps.ArbGuarded.Put(uint32(pid), &g); err != nil {
		return fmt.Errorf("protecting process %d: %w", pid, err)
	}
	return nil
}

// LeaveProcess ends ProtectProcess.
func (p *Protection) LeaveProcess(pid int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if err := p.maps.ArbGuarded.Delete(uint32(pid)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("leaving process %d: %w", pid, err)
	}
	return nil
}

// forgetEnded makes room: helpers and guards are replaced when they end.
func (p *Protection) forgetEnded() error {
	var pid uint32
	var g protectArbGuarded
	var ended []uint32
	for all := p.maps.ArbGuarded.Iterate(); all.Next(&pid, &g); {
		if ticks, err := gate.StartTicks(int(pid)); err != nil || ticks != g.StartTicks {
			ended = append(ended, pid)
		}
	}
	for _, pid := range ended {
		if err := p.maps.ArbGuarded.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forgetting process %d: %w", pid, err)
		}
	}
	return nil
}

// Missing says which hooks could not be attached, and why.
func (p *Protection) Missing() []error { return slices.Clone(p.missing) }

// Close ends the protection. It may be called more than once.
func (p *Protection) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true // from here on all others return at once
	p.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	if p.maps.ArbProtection != nil {
		errs = append(errs, p.arm(false))
	}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	if p.notices != nil {
		errs = append(errs, p.notices.Close())
		p.wg.Wait()
	}
	errs = append(errs, p.closePlaces(), p.maps.Close())
	if p.object != nil {
		p.object.close()
	}
	return errors.Join(errs...)
}
