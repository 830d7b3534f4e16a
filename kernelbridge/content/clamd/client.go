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
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/content"
)

const (
	// maxReply is the longest reply that is read, bytes. clamd's are a number and a name.
	maxReply = 4096
	// signOfLife is how long it takes at most to be told of the edition. clamd answers that
	// from the thread that takes commands, while others scan.
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
}

var _ content.Scanner = (*Client)(nil)

// New returns a client. It connects to nothing yet.
func New(o Options) *Client {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{opts: o, gate: gate{now: time.Now, log: o.Logger}}
}

// Problem says what is wrong with clamd, "" when nothing is known to be.
func (c *Client) Problem() string { return c.gate.problem() }

// Scan implements content.Scanner. What is wrong with one file is no error of all: only where
// clamd cannot be reached, or is silent altogether, it is left alone for a while.
func (c *Client) Scan(ctx context.Context, fd int) (signature string, err error) {
	try, err := c.gate.enter()
	if err != nil {
		return "", err
	}
	inner, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	reply, err := c.ask(inner, "zFILDES\x00\x00", unix.UnixRights(fd))
	switch {
	case err == nil:
		c.gate.leave(try, nil)
		return verdict(reply)
	case ctx.Err() != nil:
		c.gate.abandon(try)
		return "", ctx.Err()
	case inner.Err() == nil && !errors.Is(err, errBabble):
		return "", c.gate.leave(try, err)
	}
	// It may be this file alone: is somebody there?
	if _, dead := c.edition(ctx); dead != nil && ctx.Err() == nil {
		return "", c.gate.leave(try, dead)
	}
	c.gate.leave(try, nil)
	if inner.Err() != nil {
		return "", fmt.Errorf("%w: it took longer than the scanner's timeout, %v", errUnscanned, c.opts.Timeout)
	}
	return "", err
}

// Edition implements content.Scanner: the version of clamd and of its official signatures. It
// says nothing of other signatures.
func (c *Client) Edition(ctx context.Context) (string, error) {
	try, err := c.gate.enter()
	if err != nil {
		return "", err
	}
	name, err := c.edition(ctx)
	if ctx.Err() != nil {
		c.gate.abandon(try)
		return "", ctx.Err()
	}
	return name, c.gate.leave(try, err)
}

func (c *Client) edition(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, signOfLife)
	defer cancel()
	reply, err := c.ask(ctx, "zVERSION\x00", nil)
	return string(reply), err
}

var errBabble = errors.New("the reply of clamd has no end, or something behind it")

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
	// A reply counts when its end is there: one that was cut short can look like another.
	reply := make([]byte, 0, 256)
	for {
		if len(reply) == cap(reply) {
			reply = append(reply, 0)[:len(reply)]
		}
		n, err := conn.Read(reply[len(reply):min(cap(reply), maxReply)])
		reply = reply[:len(reply)+n]
		switch end := bytes.IndexByte(reply, 0); {
		case end >= 0 && end == len(reply)-1:
			return reply[:end], nil
		case end >= 0 || len(reply) == maxReply:
			return nil, errBabble
		case err != nil:
			return nil, fmt.Errorf("reading a reply of clamd: %w", err)
		}
	}
}
