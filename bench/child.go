// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// startLimit bounds the start of a child: loading a BPF program takes well
	// under a second even on slow machines.
	startLimit = 15 * time.Second
	// slowStart is the same for a child that compiles a million rules.
	slowStart = 2 * time.Minute
	// roundGrace is what a round may take beyond its budget: the last ask, a
	// chunk of the native queue, encoding.
	roundGrace = 10 * time.Second
	// stopLimit bounds the orderly end of a child before it is killed, with all that it started: a daemon may take
	// daemonStopLimit for its own. A child that may start slowly has as long as that for its end.
	stopLimit = 2 * daemonStopLimit
)

// child is a scenario in a process of its own. One goroutine uses it.
type child struct {
	info   Info
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	dec    *json.Decoder
	stderr bytes.Buffer
	cancel context.CancelFunc
}

// startChild runs argv with the scenario's id and place appended and waits for
// its hello. When ctx ends the child's input does, and it is killed when it has not ended in stopLimit.
func startChild(ctx context.Context, o *Options, info Info, at Place) (_ *child, err error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &child{info: info, cancel: cancel}
	self := o.Self
	if info.Program != nil {
		self = info.Program
	}
	argv := append(append([]string(nil), self...), info.ID, fmt.Sprintf("%d,%d", at.Requester, at.Responder))
	c.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.cmd.Env = append(os.Environ(), o.Env...)
	if info.Lean {
		// Both pinned threads hold a processor, the rest of the program needs one
		// as well; and no signal is to end a system call early.
		c.cmd.Env = append(c.cmd.Env, "GOMAXPROCS=4", "GODEBUG=asyncpreemptoff=1")
	}
	c.cmd.Stderr = &limitedWriter{&c.stderr, 8 << 10}
	// An interrupted run ends its children in order as well: they have folders, and children of their own.
	c.cmd.Cancel = func() error { return c.in.Close() }
	c.cmd.WaitDelay = c.stopLimit()
	// A group of its own: Ctrl-C reaches the parent alone, which ends the child.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", info.ID, err)
	}
	c.cmd.Stdout, c.out = write, read
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	write.Close()
	if err != nil {
		cancel()
		read.Close()
		return nil, fmt.Errorf("starting %s: %w", info.ID, err)
	}
	c.dec = json.NewDecoder(read)
	var h hello
	if err := c.receive(ctx, cmp.Or(info.StartLimit, startLimit), &h); err != nil {
		c.end(ctx)
		return nil, fmt.Errorf("starting %s: %w", info.ID, err)
	}
	if h.Unavailable != "" || h.Error != "" {
		c.close()
		if h.Unavailable != "" {
			return nil, &unavailableText{h.Unavailable}
		}
		return nil, fmt.Errorf("starting %s: %s", info.ID, h.Error)
	}
	return c, nil
}

// unavailableText is an UnavailableError that came through the pipe.
type unavailableText struct{ text string }

func (e *unavailableText) Error() string { return e.text }

// round has the child do one round.
func (c *child) round(ctx context.Context, cmd command) (result, error) {
	b, err := json.Marshal(cmd)
	if err != nil {
		return result{}, err
	}
	if _, err := c.in.Write(append(b, '\n')); err != nil {
		if ctx.Err() != nil {
			return result{}, ctx.Err() // the input was closed, for an orderly end
		}
		return result{}, fmt.Errorf("starting a round: %w", c.why(err))
	}
	var r result
	if err := c.receive(ctx, cmd.Budget+roundGrace, &r); err != nil {
		return result{}, err
	}
	if r.Error != "" {
		return result{}, errors.New(r.Error)
	}
	return r, nil
}

// receive reads one value within the limit.
func (c *child) receive(ctx context.Context, limit time.Duration, v any) error {
	stop := context.AfterFunc(ctx, func() { c.out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.out.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("bounding the wait: %w", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := c.dec.Decode(v)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no word for %v: it hangs", limit)
	}
	if err != nil {
		return c.why(err)
	}
	return nil
}

// why explains the end of a pipe by the end of the child.
func (c *child) why(err error) error {
	c.kill()
	text := strings.TrimSpace(c.stderr.String())
	if first, _, cut := strings.Cut(text, "\n"); cut {
		text = first + " ..."
	}
	if text == "" {
		text = "it said nothing"
	}
	return fmt.Errorf("the child ended (%v): %s: %w", c.cmd.ProcessState, text, err)
}

// stopLimit is how long its orderly end may take.
func (c *child) stopLimit() time.Duration { return max(c.info.StartLimit, stopLimit) }

// close ends the child in order, by the end of its input, and waits.
func (c *child) close() {
	c.in.Close()
	timer := time.AfterFunc(c.stopLimit(), func() { c.cmd.Process.Kill() })
	c.cmd.Wait() // how it ended does not matter any more
	timer.Stop()
	c.cancel()
	c.out.Close()
}

// end ends a child that is of no more use: in order when the run was interrupted, as the fault is not
// its own then.
func (c *child) end(run context.Context) {
	if run.Err() != nil {
		c.close()
		return
	}
	c.kill()
}

// kill ends the child at once and waits. It may be called more than once.
func (c *child) kill() {
	c.cmd.Process.Kill() // fails only when it has ended
	c.cancel()
	c.in.Close()
	if c.cmd.ProcessState == nil {
		c.cmd.Wait()
	}
	c.out.Close()
}

// limitedWriter keeps the first bytes and drops the rest.
type limitedWriter struct {
	buf  *bytes.Buffer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	w.buf.Write(p[:n])
	return len(p), nil
}
