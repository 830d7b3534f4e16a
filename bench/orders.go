// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// order is one round of a process that asks for a scenario, and is not the scenario's own: who
// answers must not be who is held. Its answer is the number of samples and the samples.
type order struct {
	Warmup, Samples uint32
	Budget          int64 // nanoseconds
}

// settleOn puts the calling thread of such a process on a CPU, for good.
func settleOn(cpu string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return fmt.Errorf("CPU %q: %w", cpu, err)
	}
	debug.SetGCPercent(-1) // the thread holds its processor inside raw system calls
	return pinThread(n)
}

// takeOrders does a round for each order on in, until that ends.
func takeOrders(q *requester, in io.Reader, out io.Writer) error {
	for {
		var o order
		if err := binary.Read(in, binary.NativeEndian, &o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an order: %w", err)
		}
		samples := make([]uint32, min(o.Samples, MaxSamples))
		n, err := q.ask(RoundOptions{Warmup: int(o.Warmup), Budget: time.Duration(o.Budget)}, samples)
		if err != nil {
			return err
		}
		if err := errors.Join(binary.Write(out, binary.NativeEndian, uint32(n)), binary.Write(out, binary.NativeEndian, samples[:n])); err != nil {
			return fmt.Errorf("reporting a round: %w", err)
		}
	}
}

// ordered is such a process. One goroutine uses it, but for close, which ends the round of another one.
type ordered struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	inRound atomic.Bool
}

// startOrdered starts this program with the given hidden command.
func startOrdered(args ...string) (*ordered, error) {
	p := &ordered{cmd: exec.Command("/proc/self/exe", args...)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", args[0], err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", args[0], err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", args[0], err)
	}
	return p, nil
}

// round has the process do one, and returns how many samples it took.
func (p *ordered) round(o RoundOptions, samples []uint32) (int, error) {
	p.inRound.Store(true)
	defer p.inRound.Store(false)
	next := order{Warmup: uint32(o.Warmup), Budget: int64(o.Budget), Samples: uint32(len(samples))}
	if err := binary.Write(p.in, binary.NativeEndian, next); err != nil {
		return 0, fmt.Errorf("giving an order: %w", err)
	}
	var n uint32
	if err := binary.Read(p.out, binary.NativeEndian, &n); err != nil {
		return 0, fmt.Errorf("waiting for a round: %w", err)
	}
	if n > uint32(len(samples)) {
		return 0, fmt.Errorf("waiting for a round: %d samples, want at most %d", n, len(samples))
	}
	if err := binary.Read(p.out, binary.NativeEndian, samples[:n]); err != nil {
		return 0, fmt.Errorf("waiting for a round: %w", err)
	}
	return int(n), nil
}

// orderedLimit is how long a process that has no order may take to end: who started it waits for
// it with stopLimit, and an exit takes its time where a CPU is shared by many.
const orderedLimit = stopLimit / 2

// close ends the process; whoever answers it must still do so. In the middle of a round it does not see
// the end of its orders, so it is killed; else it ends by itself.
func (p *ordered) close() error {
	fault := p.in.Close()
	limit := orderedLimit
	if p.inRound.Load() {
		limit = 0
	}
	timer := time.AfterFunc(limit, func() { p.cmd.Process.Kill() }) // fails only when it has ended
	defer timer.Stop()
	return errors.Join(fault, p.cmd.Wait())
}
