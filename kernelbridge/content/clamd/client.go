// SPDX-License-Identifier: Apache-2.0

// Package clamd asks ClamAV's daemon, by its own protocol, what is in a file.
//
// The file is handed over as a descriptor (FILDES): clamd reads what is held, whatever its name
// leads to now, without a copy through the socket and into a temporary file, which INSTREAM
// makes of each. It needs no right to the file.
//
// Each question has a connection of its own, which costs some 50 µs: nothing that went wrong
// with one file can be taken for the answer about another.
package clamd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/content"
)

const (
	// maxReply is the longest reply that is read, bytes. clamd's are a number and a name.
	maxReply = 4096
	// signOfLife is how long it takes at most to be told of the edition, and after how long, and
	// how often, one is asked for while a scan takes long. clamd answers that from the thread that
	// takes commands, while others scan.
	signOfLife = time.Second
)

// Options configures a Client.
type Options struct {
	Socket  string        // LocalSocket of clamd.conf
	Timeout time.Duration // of one scan
	Logger  *slog.Logger  // told when clamd goes and comes; nil discards
}

// Client is a content.Scanner. Its methods may be called concurrently.
type Client struct {
	opts Options
	gate gate
	life time.Duration // signOfLife, another one in tests
}

var _ content.Scanner = (*Client)(nil)

// New returns a client. It connects to nothing yet.
func New(o Options) *Client {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{opts: o, gate: gate{now: time.Now, log: o.Logger}, life: signOfLife}
}

// Problem says what is wrong with clamd, "" when nothing is known to be.
func (c *Client) Problem() string { return c.gate.problem() }

// Scan implements content.Scanner. What is wrong with one file is no error of all: only where
// clamd does not say that it is there it is left alone for a while.
func (c *Client) Scan(ctx context.Context, fd int) (signature string, err error) {
	try, err := c.gate.enter()
	if err == nil && try { // the file may be slow, and all others wait for what comes of a try
		_, err = c.told(ctx, true)
	}
	if err != nil && !errors.Is(err, errNoEdition) {
		return "", err
	}
	inner, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	reply, err := c.watched(inner, fd)
	switch {
	case err == nil:
		c.gate.leave(false, nil)
		return verdict(reply)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errSilent):
		return "", c.gate.leave(false, err)
	}
	// It may be this file alone, or a descriptor that we lack: is somebody there?
	if _, dead := c.told(ctx, false); dead != nil && !errors.Is(dead, errNoEdition) {
		return "", dead
	}
	if inner.Err() != nil {
		return "", fmt.Errorf("%w: it took longer than the scanner's timeout, %v", errUnscanned, c.opts.Timeout)
	}
	return "", fmt.Errorf("%w: %w", errUnscanned, err)
}

// watched asks for a scan. It can take long, so clamd is asked meanwhile whether it is there, and
// the scan is given up when it does not say so: errSilent.
func (c *Client) watched(ctx context.Context, fd int) (reply []byte, err error) {
	ctx, end := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(c.life)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := c.edition(ctx); err != nil && !errors.Is(err, errNoEdition) && !ours(err) {
				end(fmt.Errorf("%w: %w", errSilent, err)) // nothing, if the scan has ended
			}
		}
	})
	reply, err = c.ask(ctx, "zFILDES\x00\x00", unix.UnixRights(fd))
	if silent := context.Cause(ctx); err != nil && errors.Is(silent, errSilent) {
		err = silent
	}
	end(nil)
	watch.Wait()
	return reply, err
}

// Edition implements content.Scanner: the version of clamd and of its daily signatures. It says
// nothing of other signatures.
func (c *Client) Edition(ctx context.Context) (string, error) {
	try, err := c.gate.enter()
	if err != nil {
		return "", err
	}
	return c.told(ctx, try)
}

// told asks for the edition, and tells the gate what that says of clamd.
func (c *Client) told(ctx context.Context, try bool) (name string, err error) {
	name, err = c.edition(ctx)
	switch {
	case err == nil:
		c.gate.leave(try, nil)
		return name, nil
	case ctx.Err() != nil:
		c.gate.abandon(try)
		return "", ctx.Err()
	case ours(err):
		c.gate.abandon(try)
		return "", err
	case errors.Is(err, errNoEdition):
		c.gate.leave(try, nil)
		return "", err
	}
	return "", c.gate.leave(try, err)
}

func (c *Client) edition(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.life)
	defer cancel()
	reply, err := c.ask(ctx, "zVERSION\x00", nil)
	if err == nil && !bytes.HasPrefix(reply, []byte("ClamAV ")) {
		err = fmt.Errorf("%w: %q", errNoEdition, reply[:min(len(reply), shown)])
	}
	if err != nil {
		return "", err
	}
	return string(reply), nil
}

// ours reports whether an error says nothing of clamd: we have too many files open.
func ours(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

var (
	errBabble = errors.New("the reply of clamd has no end, or something behind it")
	// errSilent: clamd does not say that it is there.
	errSilent = errors.New("clamd is silent")
	// errNoEdition: clamd is there, and does not say what it looks for.
	errNoEdition = errors.New("clamd does not tell its version: set EnableVersionCommand yes in clamd.conf")
)

// ask sends one command, with descriptors, and returns the reply without its end.
func (c *Client) ask(ctx context.Context, command string, rights []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.opts.Socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to clamd: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() // long ago
	if _, _, err := conn.(*net.UnixConn).WriteMsgUnix([]byte(command), rights, nil); err != nil {
		return nil, fmt.Errorf("asking clamd: %w", err)
	}
	// A reply counts when its end is there, for one that was cut short can look like another; and
	// when clamd has nothing to say behind it, and so closes the connection.
	reply := make([]byte, 0, 256)
	for {
		if len(reply) == cap(reply) {
			reply = append(reply, 0)[:len(reply)]
		}
		n, err := conn.Read(reply[len(reply):min(cap(reply), maxReply)])
		reply = reply[:len(reply)+n]
		switch end := bytes.IndexByte(reply, 0); {
		case end >= 0 && end < len(reply)-1 || len(reply) == maxReply:
			return nil, errBabble
		case end >= 0 && err == io.EOF:
			return reply[:end], nil
		case err != nil:
			return nil, fmt.Errorf("reading a reply of clamd: %w", err)
		}
	}
}
