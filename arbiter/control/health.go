// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthService is that of gRPC, whose watchers it ends when the daemon stops: they
// would keep the server waiting.
type healthService struct {
	*health.Server
	stopping <-chan struct{}
}

// Watch implements the RPC. Whoever follows the health is told NOT_SERVING last.
func (h *healthService) Watch(req *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-h.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	follower := &healthStream{ServerStreamingServer: stream, ctx: ctx}
	err := h.Server.Watch(req, follower)
	select {
	case <-h.stopping:
	default:
		return err
	}
	if follower.last != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		if err := stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "the daemon is stopping")
}

// healthStream is a stream that ends with ctx and knows what was sent last.
type healthStream struct {
	grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]
	ctx  context.Context
	last grpc_health_v1.HealthCheckResponse_ServingStatus
}

// Context implements grpc.ServerStream.
func (s *healthStream) Context() context.Context { return s.ctx }

// Send implements grpc.ServerStreamingServer.
func (s *healthStream) Send(m *grpc_health_v1.HealthCheckResponse) error {
	s.last = m.GetStatus()
	return s.ServerStreamingServer.Send(m)
}
