// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

// fileChunk is how many bytes of a rule file a message brings.
const fileChunk = 1 << 20

// PushFile implements the RPC. The caller is authorised before the first message is read, so
// nobody else has the daemon keep what he sends.
func (s *rulesService) PushFile(stream grpc.ClientStreamingServer[controlv1.PushFileRequest, controlv1.PushResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	push := first.GetPush()
	if push == nil || len(push.GetSource()) > 0 {
		return status.Error(codes.InvalidArgument, "pushing a file: the first message must be a push without source, and the next ones the text")
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if m.GetPush() != nil {
			return status.Error(codes.InvalidArgument, "pushing a file: there is a push behind the first message")
		}
		// One byte too many is enough for the ordinary report that it is too large.
		if room := rules.MaxFileBytes + 1 - len(push.Source); room > 0 {
			push.Source = append(push.Source, m.GetText()[:min(len(m.GetText()), room)]...)
		}
	}
	answer, err := s.Push(stream.Context(), push)
	if err != nil {
		return err
	}
	return stream.SendAndClose(answer)
}

// A file is whole in memory while it is sent, and whoever gets it may be slow.
const (
	maxFiles = 2                // at once
	fileWait = 10 * time.Second // for its place
	fileTime = time.Minute      // for sending it
)

// GetFile implements the RPC.
func (s *rulesService) GetFile(req *controlv1.GetFileRequest, stream grpc.ServerStreamingServer[controlv1.GetFileResponse]) error {
	select {
	case s.files <- struct{}{}:
	case <-stream.Context().Done():
		return status.FromContextError(stream.Context().Err()).Err()
	case <-time.After(fileWait):
		return status.Errorf(codes.ResourceExhausted, "%d callers are getting rule files: try again when one of them is done", maxFiles)
	}
	sent := make(chan error, 1)
	go func() {
		defer func() { <-s.files }()
		defer func() {
			if v := recover(); v != nil {
				s.rules.cfg.Logger.Error("BUG: sending a rule file panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
				sent <- status.Error(codes.Internal, "sending the rule file failed: the daemon's log says why")
			}
		}()
		sent <- s.sendFile(req, stream)
	}()
	select {
	case err := <-sent:
		return err
	case <-time.After(fileTime): // to return ends what is still being sent
		return status.Errorf(codes.DeadlineExceeded, "the file was not read within %v: try again over a faster connection", fileTime)
	}
}

func (s *rulesService) sendFile(req *controlv1.GetFileRequest, stream grpc.ServerStreamingServer[controlv1.GetFileResponse]) error {
	out, err := s.get(req.Epoch)
	if err != nil {
		return err
	}
	source := out.Source
	out.Source = nil
	if err := stream.Send(&controlv1.GetFileResponse{Part: &controlv1.GetFileResponse_Get{Get: out}}); err != nil {
		return err
	}
	for text := range slices.Chunk(source, fileChunk) {
		if err := stream.Send(&controlv1.GetFileResponse{Part: &controlv1.GetFileResponse_Text{Text: text}}); err != nil {
			return err
		}
	}
	return nil
}
