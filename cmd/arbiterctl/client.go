// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

const (
	startHint = "systemctl start arbiterd, or arbiterd --config FILE"
	// maxMessageBytes is the daemon's limit too; it has room for the largest rule file.
	maxMessageBytes = 16 << 20
)

// whoami names the caller as the daemon sees it.
func whoami() string { return fmt.Sprintf("uid %d, gid %d", os.Getuid(), os.Getgid()) }

// client is a connection to the daemon.
type client struct {
	app    *app
	conn   *grpc.ClientConn
	rules  controlv1.RulesServiceClient
	events controlv1.EventsServiceClient
	status controlv1.StatusServiceClient
	shadow controlv1.ShadowServiceClient
	mine   controlv1.RefusalsServiceClient
	asks   controlv1.AsksServiceClient
	canary controlv1.CanaryServiceClient

	mu      sync.Mutex
	dialErr error // of the last attempt to connect
}

// retryEvery is how often --wait looks for a daemon.
const retryEvery = 50 * time.Millisecond

// await returns when a daemon listens on the socket, when --wait is over, or when
// ctx ends. A socket that refuses to let us in needs no waiting for.
func (a *app) await(ctx context.Context) {
	if a.wait == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
		if err == nil {
			conn.Close()
			return
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		if a.onRetry != nil {
			a.onRetry()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// connect prepares a connection; the first call makes it. The caller closes it.
// With --wait it first waits until somebody listens.
func (a *app) connect(ctx context.Context) (*client, error) {
	a.await(ctx)
	c := &client{app: a}
	conn, err := grpc.NewClient("passthrough:///arbiterd",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel says who we are
		grpc.WithContextDialer(c.dial),
		grpc.WithAuthority("arbiterd"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)))
	if err != nil {
		return nil, fail(exitFailure, "", fmt.Errorf("preparing the connection: %w", err))
	}
	c.conn = conn
	c.rules = controlv1.NewRulesServiceClient(conn)
	c.events = controlv1.NewEventsServiceClient(conn)
	c.status = controlv1.NewStatusServiceClient(conn)
	c.shadow = controlv1.NewShadowServiceClient(conn)
	c.mine = controlv1.NewRefusalsServiceClient(conn)
	c.asks = controlv1.NewAsksServiceClient(conn)
	c.canary = controlv1.NewCanaryServiceClient(conn)
	return c, nil
}

func (c *client) close() { c.conn.Close() }

// dial connects to the socket and remembers how that went: the error of a call
// says it in words only.
func (c *client) dial(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.app.socket)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	return conn, err
}

func (c *client) dialError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialErr
}

// unreachable explains why there is no connection.
func (c *client) unreachable(err error) *failure {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	wrapped := fmt.Errorf("reaching the daemon at %s: %w", c.app.socket, err)
	if errors.Is(err, fs.ErrPermission) {
		return fail(exitPermission, "run it as root, or as a member of the socket's group: socket_group in the daemon's configuration",
			fmt.Errorf("%w; you are %s", wrapped, whoami()))
	}
	return fail(exitUnreachable, "is arbiterd running? Start it with "+startHint+"; if it listens elsewhere, give --socket", wrapped)
}

// call runs one unary call of cmd with the timeout of the command line. doing says
// what it is for, in messages.
func call[Q, A any](a *app, cmd *cobra.Command, doing string,
	method func(*client) func(context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q) (*A, error) {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	answer, err := method(c)(ctx, request)
	if err != nil {
		return nil, c.rpcFailure(cmd, doing, err)
	}
	return answer, nil
}
