// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// maintenanceService gives out maintenance tokens.
type maintenanceService struct {
	controlv1.UnimplementedMaintenanceServiceServer
	cfg      *Config
	stopping <-chan struct{}
}

// Hold implements the RPC. That the caller is root is no reason to trust it here: the key
// is what a program that took root over does not have.
func (s *maintenanceService) Hold(req *controlv1.HoldRequest, stream grpc.ServerStreamingServer[controlv1.HoldResponse]) error {
	switch {
	case s.cfg.Maintenance == nil:
		return status.Error(codes.FailedPrecondition, "the daemon does not protect itself: nothing has to be held; see self_protection in its configuration")
	case len(s.cfg.MaintenanceKey) != sha256.Size:
		return status.Error(codes.FailedPrecondition, "the daemon's configuration has no maintenance_key: stop the daemon by its service manager instead")
	}
	who, ok := callerOf(stream.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "the caller's process is not known: call over the unix socket")
	}
	if got := sha256.Sum256([]byte(req.GetKey())); subtle.ConstantTimeCompare(got[:], s.cfg.MaintenanceKey) != 1 {
		s.cfg.Logger.Warn("maintenance refused: another key", slog.Uint64("uid", uint64(who.uid)), slog.Int("pid", int(who.pid)))
		return status.Error(codes.PermissionDenied, "this is not the maintenance key")
	}
	long := req.GetDuration().AsDuration()
	end, err := s.cfg.Maintenance.BeginMaintenance(int(who.pid), long)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	log := s.cfg.Logger.With(slog.Uint64("uid", uint64(who.uid)), slog.Int("pid", int(who.pid)))
	log.Warn("maintenance begins: a process is let past the self-protection", slog.Duration("for", long), slog.String("reason", req.GetReason()))
	defer func() {
		if err := end(); err != nil {
			log.Error("ending maintenance", slog.Any("error", err))
		}
		log.Warn("maintenance has ended")
	}()
	over := time.NewTimer(long)
	defer over.Stop()
	if err := stream.Send(&controlv1.HoldResponse{Until: timestamppb.New(time.Now().Add(long))}); err != nil {
		return err
	}
	select {
	case <-over.C:
	case <-stream.Context().Done():
	case <-s.stopping:
		return status.Error(codes.Unavailable, "the daemon is stopping")
	}
	return nil
}
