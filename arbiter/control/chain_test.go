// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// getStatus is the call that the tests of the chain make.
func (f *fixture) getStatus() error {
	_, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	return err
}

func TestRateLimit(t *testing.T) {
	const burst = 5
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.CallsPerSecond, c.CallBurst = 2, burst }, nil)
	var err error
	calls := 0
	// Twice the burst at two calls a second would take seconds.
	for calls = 0; err == nil && calls < 2*burst; calls++ {
		err = f.getStatus()
	}
	wantStatus(t, err, codes.ResourceExhausted, "2 calls per second", "burst 5", "wait a second")
	if calls <= burst {
		t.Errorf("call %d was refused, want a burst of %d to be let through", calls, burst)
	}
	// Watchers are counted by their calls too, and so is health.
	conn := dialSocket(t, f.socket)
	for _, m := range []string{controlv1.EventsService_Watch_FullMethodName, grpc_health_v1.Health_Check_FullMethodName} {
		until(t, m+" is refused", func() bool { return status.Code(tryMethod(f.ctx(), conn, m)) == codes.ResourceExhausted })
	}
	until(t, "a call is let through again", func() bool {
		err := f.getStatus()
		if err != nil && status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("meanwhile: %v", err)
		}
		return err == nil
	})
}

// TestRateLimitIsPerUser: who calls too often keeps nobody else out, not even when
// it may call nothing.
func TestRateLimitIsPerUser(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.CallsPerSecond, c.CallBurst = 0.001, 3 }, nil)
	stranger := controlv1.NewStatusServiceClient(dialAs(t, f.socket, 1003, 1003))
	for i := range 5 {
		_, err := stranger.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
		want := codes.PermissionDenied
		if i >= 3 {
			want = codes.ResourceExhausted
		}
		wantStatus(t, err, want, "1003")
	}
	if err := f.getStatus(); err != nil {
		t.Errorf("root: got %v, want no error", err)
	}
}

// panicService has methods that panic.
const panicSecret = "the secret of /etc/shadow"

var panicService = grpc.ServiceDesc{
	ServiceName: "test.Panics",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		in := &emptypb.Empty{}
		if err := decode(in); err != nil {
			return nil, err
		}
		return chain(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Panics/Call"},
			func(context.Context, any) (any, error) { panic(panicSecret) })
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true,
		Handler: func(any, grpc.ServerStream) error {
			var list []int
			_ = list[len(panicSecret)]
			return nil
		}}},
}

// TestPanicStaysInside: a handler that panics ends its call; the caller learns a
// number, the log the rest, and the next call is served.
func TestPanicStaysInside(t *testing.T) {
	f := newFixture(t, nil, func(s *grpc.Server) { s.RegisterService(&panicService, struct{}{}) })
	conn := dialSocket(t, f.socket)
	for i, tt := range []struct{ method, logged string }{
		{"/test.Panics/Call", panicSecret},
		{"/test.Panics/Stream", "index out of range"},
	} {
		err := tryMethod(f.ctx(), conn, tt.method)
		wantStatus(t, err, codes.Internal, fmt.Sprint("incident ", i+1), "daemon's log")
		for _, secret := range []string{panicSecret, "goroutine", ".go", "out of range", "0x"} {
			if text := status.Convert(err).String(); strings.Contains(text, secret) {
				t.Errorf("%s: the caller reads %q, which has %q", tt.method, text, secret)
			}
		}
		if n := len(status.Convert(err).Details()); n != 0 {
			t.Errorf("%s: the caller gets %d details, want none", tt.method, n)
		}
		line := ""
		for l := range strings.Lines(f.log.String()) {
			if strings.Contains(l, fmt.Sprint("incident=", i+1, " ")) {
				line = l
			}
		}
		for _, part := range []string{"level=ERROR", "method=" + tt.method, tt.logged, "goroutine", "chain_test.go"} {
			if !strings.Contains(line, part) {
				t.Errorf("%s: the log line %q does not have %q", tt.method, line, part)
			}
		}
	}
	if err := f.getStatus(); err != nil {
		t.Errorf("after the panics: %v", err)
	}
}
