// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

const (
	// fileChunk is how many bytes of a rule file a message brings.
	fileChunk = 1 << 20
	// slowest is how many bytes of a rule file the daemon takes in a second at least, with
	// reading, compiling and storing it, on a machine that does something else too: an answer
	// about so many more is waited for that much longer.
	slowest = 2 << 20
)

// fileCall is how long a call about a rule file may take.
func (a *app) fileCall(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.timeout+time.Duration(size/slowest)*time.Second)
}

// push pushes a rule file, of any size.
func (a *app) push(cmd *cobra.Command, request *controlv1.PushRequest) (*controlv1.PushResponse, error) {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer c.close()
	source := request.Source
	request.Source = nil
	ctx, cancel := a.fileCall(cmd.Context(), len(source))
	defer cancel()
	answer, err := func() (*controlv1.PushResponse, error) {
		stream, err := c.rules.PushFile(ctx)
		if err != nil {
			return nil, err
		}
		err = stream.Send(&controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Push{Push: request}})
		for text := range slices.Chunk(source, fileChunk) {
			if err == nil {
				err = stream.Send(&controlv1.PushFileRequest{Part: &controlv1.PushFileRequest_Text{Text: text}})
			}
		}
		if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why nothing more is taken
			return nil, err
		}
		return stream.CloseAndRecv()
	}()
	if err != nil {
		return nil, c.rpcFailure(cmd, "pushing rules", err)
	}
	return answer, nil
}

// getFile gets a rule file, of any size.
func (a *app) getFile(cmd *cobra.Command, request *controlv1.GetFileRequest) (*controlv1.GetResponse, error) {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := a.fileCall(cmd.Context(), 0)
	defer cancel()
	answer, err := func() (*controlv1.GetResponse, error) {
		stream, err := c.rules.GetFile(ctx, request)
		if err != nil {
			return nil, err
		}
		var out *controlv1.GetResponse
		var text bytes.Buffer
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) && out != nil {
				out.Source = text.Bytes()
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			if get := m.GetGet(); get != nil {
				out = get
			}
			text.Write(m.GetText())
		}
	}()
	if err != nil {
		return nil, c.rpcFailure(cmd, "getting rules", err)
	}
	return answer, nil
}
