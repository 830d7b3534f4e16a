// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// holder lets everybody do maintenance, for as long as is asked for.
type holder struct {
	controlv1.UnimplementedMaintenanceServiceServer
	key chan string
}

func (h *holder) Hold(req *controlv1.HoldRequest, stream grpc.ServerStreamingServer[controlv1.HoldResponse]) error {
	h.key <- req.Key
	if err := stream.Send(&controlv1.HoldResponse{}); err != nil {
		return err
	}
	select {
	case <-time.After(req.Duration.AsDuration()):
	case <-stream.Context().Done():
	}
	return nil
}

// startHolder serves it on a socket in a new directory.
func startHolder(t *testing.T) (h *holder, dir, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h = &holder{key: make(chan string, 1)}
	server := grpc.NewServer()
	controlv1.RegisterMaintenanceServiceServer(server, h)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return h, dir, socket
}

// A command that outlasts --for goes on, and whoever looks is told.
func TestMaintenanceTellsItsEnd(t *testing.T) {
	h, dir, socket := startHolder(t)
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	a := testApp(strings.NewReader("the key\nfor the command\n"), stderr, stderr)
	wait := `read line; i=0; until grep -q "maintenance has ended" "$0" || [ $i = 500 ]; do i=$((i+1)); sleep 0.02; done; echo "saw $i, read $line"`
	code := a.run([]string{"maintenance", "run", "--socket", socket, "--for", "50ms", "--key-file", "-", "--", "sh", "-c", wait, stderr.Name()})
	got, err := os.ReadFile(stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	if key := <-h.key; code != exitOK || key != "the key" {
		t.Errorf("exit code %d, key %q, want 0 and the key", code, key)
	}
	if s := string(got); strings.Count(s, "--for is over") != 1 || !strings.Contains(s, "read for the command") || strings.Contains(s, "saw 500") {
		t.Errorf("it said %q, want once that the time is over, before the command ended", s)
	}
}

// A command that ends in time ends the maintenance, and nothing is said.
func TestMaintenanceEndsWithItsCommand(t *testing.T) {
	_, dir, socket := startHolder(t)
	var stderr strings.Builder
	a := testApp(strings.NewReader("k\n"), &stderr, &stderr)
	if code := a.run([]string{"maintenance", "run", "--socket", socket, "--key-file", "-", "--", "touch", dir + "/done"}); code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit code %d, %q, want 0 and nothing", code, stderr.String())
	}
	if _, err := os.Stat(dir + "/done"); err != nil {
		t.Error(err)
	}
}

// A prompt for the key ends when it is interrupted: the terminal gets its echo back.
func TestMaintenanceKeyInterrupted(t *testing.T) {
	r, w, err := os.Pipe() // nobody writes
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if key, err := testApp(r, nil, nil).readSecret(ctx, "key", "-"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("key %q, error %v, want that it was interrupted", key, err)
	}
}

// SIGTERM lets the command end in its own way.
func TestMaintenancePassesTheEndOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := testApp(nil, w, w)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- a.runMaintained(ctx, []string{"sh", "-c", `trap 'echo left; exit 0' TERM; echo ready; while :; do sleep 0.01; done`})
		w.Close()
	}()
	line := make([]byte, 100)
	if n, err := r.Read(line); err != nil || string(line[:n]) != "ready\n" {
		t.Fatalf("the command said %q, %v", line[:n], err)
	}
	cancel()
	if n, err := r.Read(line); err != nil || string(line[:n]) != "left\n" {
		t.Errorf("the command said %q, %v, want that it left", line[:n], err)
	}
	<-done
}
