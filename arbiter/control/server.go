// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	promgrpc "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

const (
	// handshakeTimeout bounds what a peer may take to send its preface.
	handshakeTimeout = 5 * time.Second
	// maxStreams bounds the open calls of one connection.
	maxStreams = 100
)

// Server serves the control interface. All methods may be called concurrently.
type Server struct {
	grpc    *grpc.Server
	health  *health.Server
	events  *eventsService
	metrics []prometheus.Collector

	stopping chan struct{}
	stop     func()
}

// New checks the whole configuration and reports all that is wrong with it.
func New(cfg Config) (*Server, error) {
	return newServer(cfg, nil)
}

// newServer is New with a place for tests to register more services.
func newServer(cfg Config, more func(*grpc.Server)) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuring the control interface: %w", err)
	}
	s := &Server{health: health.NewServer(), stopping: make(chan struct{})}
	s.stop = sync.OnceFunc(func() {
		close(s.stopping)
		s.health.Shutdown()
	})
	calls := promgrpc.NewServerMetrics(promgrpc.WithServerHandlingTimeHistogram())
	s.grpc = grpc.NewServer(append(chain(&cfg, calls),
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.WaitForHandlers(true),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(handshakeTimeout))...)
	s.events = &eventsService{cfg: &cfg, stopping: s.stopping}
	controlv1.RegisterRulesServiceServer(s.grpc, &rulesService{rules: cfg.Rules, info: cfg.Info, files: make(chan struct{}, maxFiles), compiling: make(chan struct{}, 1)})
	controlv1.RegisterShadowServiceServer(s.grpc, &shadowService{rules: cfg.Rules})
	controlv1.RegisterCanaryServiceServer(s.grpc, &canaryService{rules: cfg.Rules})
	controlv1.RegisterEventsServiceServer(s.grpc, s.events)
	controlv1.RegisterRefusalsServiceServer(s.grpc, &refusalsService{cfg: &cfg})
	if cfg.Asks != nil {
		controlv1.RegisterAsksServiceServer(s.grpc, &asksService{cfg: &cfg, stopping: s.stopping})
	}
	controlv1.RegisterStatusServiceServer(s.grpc, &statusService{cfg: &cfg})
	controlv1.RegisterMaintenanceServiceServer(s.grpc, &maintenanceService{cfg: &cfg, stopping: s.stopping})
	controlv1.RegisterLifecycleServiceServer(s.grpc, &lifecycleService{daemon: cfg.Lifecycle, stopping: s.stopping})
	grpc_health_v1.RegisterHealthServer(s.grpc, &healthService{s.health, s.stopping})
	reflection.Register(s.grpc)
	if more != nil {
		more(s.grpc)
	}
	calls.InitializeMetrics(s.grpc)
	s.metrics = []prometheus.Collector{calls, Collector(cfg.Engine), watchCollector{s.events}, kernelCollector{cfg.Info}, shadowCollector{cfg.Rules}, canaryCollector{cfg.Rules}}
	return s, nil
}

// Collectors returns the metrics: of calls, engine, watchers, kernel side, candidate and canary. The
// caller registers them.
func (s *Server) Collectors() []prometheus.Collector { return s.metrics }

// Serve answers on l until Stop; then it returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(l)
	if errors.Is(err, grpc.ErrServerStopped) {
		l.Close()
		return nil
	}
	if err != nil {
		return fmt.Errorf("serving the control interface: %w", err)
	}
	return nil
}

// Stop ends the watchers of events and health, lets the calls under way finish until ctx ends, then
// cuts them off, and waits for all handlers. It may be called more than once. A
// push that is being put in force is finished in either case.
func (s *Server) Stop(ctx context.Context) {
	s.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}
