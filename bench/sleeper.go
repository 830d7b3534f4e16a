// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// SleeperWord is the hidden command of the process that sleeps at the gate.
const SleeperWord = "sleeper"

// sleeperOrder is one round; the answer is the number of samples and the samples.
type sleeperOrder struct {
	Warmup, Samples uint32
	Budget          int64 // nanoseconds
}

// Sleeper is the process that sleeps at the gate of another one: args are the id of the
// gate's helper and a CPU. It does a round for each order on in, until that ends.
func Sleeper(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("the sleeper is started by a scenario itself")
	}
	cpu, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("CPU %q: %w", args[1], err)
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread() // never unlocked: the process has nothing else to do
	if err := pinThread(cpu); err != nil {
		return err
	}
	fd, err := unix.Open("/proc/"+args[0]+"/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the gate: %w", err)
	}
	defer unix.Close(fd)
	c, err := fgetxattrCall(fd, gate.Attribute, 1)
	if err != nil {
		return err
	}
	q := newRequester(c)
	for {
		var o sleeperOrder
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
