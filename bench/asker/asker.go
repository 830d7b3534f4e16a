// SPDX-License-Identifier: Apache-2.0

// Package asker is who asks while a measurement disturbs the one who answers: a process
// of its own on the queue of package ringtest. What stops the threads of a Go program,
// a collection of its garbage above all, then stops the daemon's side alone, as it
// does when tasks ask from the kernel.
//
// It waits as a held task does: it polls for 20 µs, then sleeps until the verdict is there, so
// that it does not keep the CPU from those who are to bring it. A task sleeps at the gate, and is
// woken; the asker looks again every ringtest.SleepStep.
package asker

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
)

// PollFor is after how long the asker sleeps, as tasks do: ring.Header.SpinNS in a daemon.
const PollFor = 20 * time.Microsecond

// Word is the hidden command of the process: a program with an asker calls Main for it.
const Word = "asker"

// Order is one turn of asking.
type Order struct {
	Samples int           `json:"samples"`   // at most
	Pace    time.Duration `json:"pace_ns"`   // from an answer to the next question
	Budget  time.Duration `json:"budget_ns"` // no question begins later
}

// Answer is one question that was asked and how it ended.
type Answer struct {
	Begin  int64  // CLOCK_MONOTONIC, nanoseconds
	Took   uint32 // nanoseconds; what is longer than 4.29 s counts as that
	Errno  uint16
	Failed bool // a failure verdict
	_      uint8
}

// Asker is the process. Its methods are called from one goroutine.
type Asker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Start starts the process, which this program must be able to be: see Word. It asks on the queue of k,
// on a CPU, whether a program may open one of the 64 files prefix00 to prefix63, one after
// another. Close ends it.
func Start(k *ringtest.Kernel, cpu int, prefix string) (*Asker, error) {
	a := &Asker{cmd: exec.Command("/proc/self/exe", Word, strconv.Itoa(cpu), prefix)}
	memory, kick := k.Files()
	for _, fd := range []int{memory, kick} {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("starting the asker: %w", err)
		}
		f := os.NewFile(uintptr(own), "ring")
		defer f.Close()
		a.cmd.ExtraFiles = append(a.cmd.ExtraFiles, f)
	}
	a.cmd.Stderr = os.Stderr
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the asker: %w", err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the asker: %w", err)
	}
	a.out = bufio.NewReader(out)
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the asker: %w", err)
	}
	return a, nil
}

// Begin has it ask. Wait or End must follow.
func (a *Asker) Begin(o Order) error {
	if err := json.NewEncoder(a.in).Encode(o); err != nil {
		return fmt.Errorf("telling the asker: %w", err)
	}
	return nil
}

// Wait returns the answers when the order is carried out.
func (a *Asker) Wait() ([]Answer, error) {
	var n uint32
	if err := binary.Read(a.out, binary.NativeEndian, &n); err != nil {
		return nil, fmt.Errorf("hearing from the asker: %w", err)
	}
	answers := make([]Answer, n)
	if err := binary.Read(a.out, binary.NativeEndian, answers); err != nil {
		return nil, fmt.Errorf("hearing from the asker: %w", err)
	}
	return answers, nil
}

// End ends the order and returns the answers.
func (a *Asker) End() ([]Answer, error) {
	if err := a.Begin(Order{}); err != nil {
		return nil, err
	}
	return a.Wait()
}

// Close ends the process.
func (a *Asker) Close() error { return errors.Join(a.in.Close(), a.cmd.Wait()) }
