// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// dialSocket returns a connection of its own.
func dialSocket(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// startStop stops the server and returns a channel that tells when it has. It
// may take as long as patience for calls that are under way.
func (f *fixture) startStop(patience time.Duration) <-chan struct{} {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	go func() {
		defer close(done)
		defer cancel()
		f.server.Stop(ctx)
	}()
	return done
}

func TestHealth(t *testing.T) {
	f := newFixture(t, nil, nil)
	got, err := grpc_health_v1.NewHealthClient(dialSocket(t, f.socket)).Check(f.ctx(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v; want SERVING", got, err)
	}
}

// TestHealthWhileStopping: who follows the health, be it of a service that is not
// there, is told before it is cut off, and does not keep the daemon from stopping.
func TestHealthWhileStopping(t *testing.T) {
	for _, service := range []string{"", "nowhere"} {
		f := newFixture(t, nil, nil)
		stream, err := grpc_health_v1.NewHealthClient(dialSocket(t, f.socket)).Watch(f.ctx(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		stopped := f.startStop(testTimeout)
		got, err := stream.Recv()
		if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("service %q: got %v, %v; want NOT_SERVING", service, got, err)
		}
		wantStatus(t, drain(stream), codes.Unavailable, "stopping")
		await(t, "the end of the server", stopped)
		if took := time.Since(start); took > testTimeout/2 {
			t.Errorf("service %q: the stop took %v, as long as its patience", service, took)
		}
	}
}

func TestReflection(t *testing.T) {
	f := newFixture(t, nil, nil)
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialSocket(t, f.socket)).ServerReflectionInfo(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var names []string
	for _, s := range ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"arbiter.control.v1.EventsService", "arbiter.control.v1.RulesService",
		"arbiter.control.v1.StatusService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("services %q, want %s among them", names, want)
		}
	}
	got := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "arbiter.control.v1.RulesService.Push"}})
	if len(got.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("no description of Push: %v", got)
	}
}

// TestStopFinishesAPush: a push that is being put in force is in force and kept,
// also when the server has lost its patience.
func TestStopFinishesAPush(t *testing.T) {
	f := newFixture(t, nil, nil)
	applying, goOn := make(chan struct{}), make(chan struct{})
	f.applier.applying = func(ctx context.Context) {
		close(applying)
		select {
		case <-goOn:
		case <-ctx.Done(): // by DefaultApplyTimeout at the latest
		}
		if err := ctx.Err(); err != nil {
			t.Errorf("the context of Apply: %v", err)
		}
	}
	pushed := make(chan error, 1)
	go func() {
		_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("a"))})
		pushed <- err
	}()
	await(t, "Apply", applying)
	stopped := f.startStop(50 * time.Millisecond)
	// The caller is cut off when the patience ends; the push is still on its way.
	if err := await(t, "the end of the call", pushed); status.Code(err) != codes.Unavailable {
		t.Errorf("the caller got %v, want %v", err, codes.Unavailable)
	}
	select {
	case <-stopped:
		t.Error("Stop did not wait for the push")
	default:
	}
	close(goOn)
	await(t, "the end of the server", stopped)
	if epoch := f.engine.Rules().Epoch(); epoch != 1 {
		t.Errorf("epoch %d is in force, want 1", epoch)
	}
	if m, ok := f.store.Current(); !ok || m.Epoch != 1 {
		t.Errorf("the store's current epoch is %d (%v), want 1", m.Epoch, ok)
	}
}

// TestStop: once the server has stopped its socket is gone, and stopping again
// does nothing.
func TestStop(t *testing.T) {
	f := newFixture(t, nil, nil)
	if err := f.getStatus(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the server", f.startStop(testTimeout))
	await(t, "the second end of the server", f.startStop(testTimeout))
	wantStatus(t, f.getStatus(), codes.Unavailable)
	until(t, "the socket is free", func() bool {
		l, err := Listen(SocketConfig{Path: f.socket})
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}
