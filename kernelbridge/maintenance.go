// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// MaxMaintenance bounds how long a token holds.
const MaxMaintenance = 8 * time.Hour

// BeginMaintenance gives a token to a process: for that long it and its descendants may
// do what the protection refuses to others. A descendant whose ancestors in between have
// ended is none any more. Nobody else may trace them meanwhile. end takes the token back
// and may be called more than once.
func (p *Protection) BeginMaintenance(pid int, long time.Duration) (end func() error, err error) {
	if long <= 0 || long > MaxMaintenance {
		return nil, fmt.Errorf("beginning maintenance: %v: give more than 0 and at most %v", long, MaxMaintenance)
	}
	ticks, err := gate.StartTicks(pid)
	if err != nil {
		return nil, fmt.Errorf("beginning maintenance for process %d: %w", pid, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	token := protectArbToken{StartTicks: ticks, UntilNs: uint64(monotonic() + long.Nanoseconds())}
	if err := p.maps.ArbTokens.Put(uint32(pid), &token); err != nil {
		return nil, fmt.Errorf("beginning maintenance for process %d: %w", pid, err)
	}
	return func() error { return p.endMaintenance(uint32(pid)) }, nil
}

func (p *Protection) endMaintenance(pid uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if err := p.maps.ArbTokens.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("ending maintenance of process %d: %w", pid, err)
	}
	return nil
}
