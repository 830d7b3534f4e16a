// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
)

// ProtectLSM protects the backend's maps, its programs, its pins, and the helper of its
// gate, those that it loads and starts later among them.
func (p *Protection) ProtectLSM(b *LSM) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	for name, m := range b.hooks.object.maps {
		if err := p.protectMap(m); err != nil {
			return fmt.Errorf("protecting the map %s: %w", name, err)
		}
	}
	if b.death != nil {
		if err := p.protectDeath(b.death); err != nil {
			return fmt.Errorf("protecting the hooks that outlive the daemon: %w", err)
		}
	}
	b.hooks.loaded = p.protectHook
	for _, h := range b.hooks.hooks {
		if h.prog != nil {
			p.protectHook(h)
		}
	}
	if b.gates != nil {
		b.gates.onHelper(p.protectHelper)
	}
	return nil
}

func (p *Protection) protectDeath(d *death) error {
	return errors.Join(p.protectMap(d.objs.ArbGlass), p.protectProgram(d.objs.ArbExit),
		p.protectProgram(d.objs.ArbBreakGlass), p.ProtectFile(d.pins.dir))
}

func (p *Protection) protectHook(h *hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if err := p.protectProgram(h.prog); err != nil {
		p.logger.Error("self-protection: a program is not protected", slog.String("hook", h.name), slog.Any("error", err))
	}
}

func (p *Protection) protectHelper(pid int) {
	if err := p.ProtectProcess(pid); err != nil && !errors.Is(err, ErrClosed) {
		p.logger.Error("self-protection: the gate's helper is not protected", slog.Any("error", err))
	}
}

// protectMap protects the kernel's object, by whatever descriptor.
func (p *Protection) protectMap(m *ebpf.Map) error {
	info, err := m.Info()
	if err != nil {
		return err
	}
	id, ok := info.ID()
	if !ok {
		return errors.New("the kernel does not tell its id")
	}
	return p.maps.ArbMapIds.Put(uint32(id), uint32(0))
}

func (p *Protection) protectProgram(prog *ebpf.Program) error {
	info, err := prog.Info()
	if err != nil {
		return err
	}
	id, ok := info.ID()
	if !ok {
		return errors.New("the kernel does not tell its id")
	}
	return p.maps.ArbProgIds.Put(uint32(id), uint32(0))
}
