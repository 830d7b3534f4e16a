// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// keeper remembers who was let past, and when that ended.
type keeper struct {
	begun chan int
	ended chan struct{}
}

// BeginMaintenance implements Maintainer.
func (k keeper) BeginMaintenance(pid int, long time.Duration) (func() error, error) {
	if long <= 0 {
		return nil, errors.New("give more than 0")
	}
	k.begun <- pid
	return func() error { k.ended <- struct{}{}; return nil }, nil
}

func maintenanceClient(t *testing.T, f *fixture) controlv1.MaintenanceServiceClient {
	t.Helper()
	conn, err := dial(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return controlv1.NewMaintenanceServiceClient(conn)
}

func TestMaintenance(t *testing.T) {
	sum := sha256.Sum256([]byte("secret"))
	f := func(name string, with Maintainer, key []byte, req *controlv1.HoldRequest, want codes.Code) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			fx := newFixture(t, func(c *Config, _ *RulesConfig) { c.Maintenance, c.MaintenanceKey = with, key }, nil)
			stream, err := maintenanceClient(t, fx).Hold(t.Context(), req)
			if err == nil {
				_, err = stream.Recv()
			}
			if got := status.Code(err); got != want {
				t.Errorf("%s: %v (%v), want %v", name, got, err, want)
			}
		})
	}
	k := keeper{make(chan int, 1), make(chan struct{}, 1)}
	req := func(key string, long time.Duration) *controlv1.HoldRequest {
		return &controlv1.HoldRequest{Key: key, Duration: durationpb.New(long)}
	}
	f("no protection", nil, sum[:], req("secret", time.Minute), codes.FailedPrecondition)
	f("no key", k, nil, req("", time.Minute), codes.FailedPrecondition)
	f("another key", k, sum[:], req("Secret", time.Minute), codes.PermissionDenied)
	f("no time", k, sum[:], req("secret", 0), codes.InvalidArgument)
	if len(k.begun) != 0 {
		t.Fatal("somebody was let past who must not be")
	}

	for name, long := range map[string]time.Duration{"until the caller goes": time.Hour, "until the time is over": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			fx := newFixture(t, func(c *Config, _ *RulesConfig) { c.Maintenance, c.MaintenanceKey = k, sum[:] }, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := maintenanceClient(t, fx).Hold(ctx, req("secret", long))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatalf("holding: %v", err)
			}
			if pid := <-k.begun; pid != os.Getpid() {
				t.Errorf("process %d was let past, want the caller, %d", pid, os.Getpid())
			}
			if long == time.Hour {
				cancel()
			} else if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("after the time: %v, want the end", err)
			}
			select {
			case <-k.ended:
			case <-time.After(testTimeout):
				t.Error("the token was not taken back")
			}
		})
	}
}
