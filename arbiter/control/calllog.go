// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"strings"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// maxLoggedError bounds the error in the line of a call, in bytes: the caller has all
// of it.
const maxLoggedError = 200

// callLogger makes one short line of what the interceptor says of a call.
func callLogger(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, _ string, fields ...any) {
		method, _ := grpc.Method(ctx)
		if follows(method) && stopped(fields) {
			level = logging.LevelDebug // one for each watcher of a daemon that stops
		}
		if !l.Enabled(ctx, slog.Level(level)) {
			return
		}
		who, _ := callerOf(ctx)
		attrs := []slog.Attr{slog.String("method", method), slog.Any("uid", who.uid), slog.Any("pid", who.pid)}
		for i := 0; i+1 < len(fields); i += 2 {
			switch fields[i] {
			case "grpc.code":
				attrs = append(attrs, slog.Any("code", fields[i+1]))
			case "grpc.time_ms":
				attrs = append(attrs, slog.Any("ms", fields[i+1]))
			case "grpc.error":
				text, _ := fields[i+1].(string)
				attrs = append(attrs, slog.String("error", short(text)))
			}
		}
		l.LogAttrs(ctx, slog.Level(level), "call", attrs...)
	})
}

// follows reports whether a call of this method lasts until one side ends it.
func follows(method string) bool {
	return method == controlv1.EventsService_Watch_FullMethodName || method == grpc_health_v1.Health_Watch_FullMethodName
}

// stopped reports whether a call ended because the daemon stops.
func stopped(fields []any) bool {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "grpc.code" {
			return fields[i+1] == codes.Unavailable.String()
		}
	}
	return false
}

// short cuts a text off, between characters.
func short(text string) string {
	if len(text) <= maxLoggedError {
		return text
	}
	return strings.ToValidUTF8(text[:maxLoggedError], "") + "..."
}

// logLevel keeps the log for what somebody has to know: a monitor that asks for
// the status every second is no news, and a push logs a line of its own.
func logLevel(code codes.Code) logging.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return logging.LevelDebug
	case codes.FailedPrecondition, codes.Aborted, codes.DeadlineExceeded, codes.OutOfRange:
		return logging.LevelInfo // the caller's trouble, and told to it
	case codes.PermissionDenied, codes.Unauthenticated:
		return logging.LevelWarn
	}
	return logging.DefaultServerCodeToLevel(code)
}
