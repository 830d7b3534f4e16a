// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	promgrpc "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// chain returns the interceptors, outermost first as package control says.
func chain(cfg *Config, metrics *promgrpc.ServerMetrics) []grpc.ServerOption {
	logger := callLogger(cfg.Logger)
	logOptions := []logging.Option{
		// The default is a line at the start too.
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(logLevel),
	}
	limits := newCallLimits(cfg)
	authorize := authorizer{cfg.Admin, cfg.ReadOnly, cfg.TellRefused != TellNothing}.authorize
	selected := selector.MatchFunc(needsAuth)
	// Without a handler of its own the interceptor sends the stack to the caller.
	recovered := recovery.WithRecoveryHandlerContext((&incidents{log: cfg.Logger}).handle)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			metrics.UnaryServerInterceptor(),
			logging.UnaryServerInterceptor(logger, logOptions...),
			ratelimit.UnaryServerInterceptor(limits),
			selector.UnaryServerInterceptor(auth.UnaryServerInterceptor(authorize), selected),
			recovery.UnaryServerInterceptor(recovered),
		),
		grpc.ChainStreamInterceptor(
			metrics.StreamServerInterceptor(),
			logging.StreamServerInterceptor(logger, logOptions...),
			ratelimit.StreamServerInterceptor(limits),
			selector.StreamServerInterceptor(auth.StreamServerInterceptor(authorize), selected),
			recovery.StreamServerInterceptor(recovered),
		),
	}
}

// incidents numbers the panics of handlers.
type incidents struct {
	log   *slog.Logger
	count atomic.Uint64
}

// handle logs a panic with its stack and returns what the caller may know.
func (i *incidents) handle(ctx context.Context, p any) error {
	n := i.count.Add(1)
	method, _ := grpc.Method(ctx)
	i.log.ErrorContext(ctx, "handling a call panicked", "incident", n, "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "internal error, incident %d; see the daemon's log", n)
}
