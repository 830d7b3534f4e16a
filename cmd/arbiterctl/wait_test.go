// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestWaitFindsADaemonThatStartsLater starts the daemon while "status --wait" looks
// for it.
func TestWaitFindsADaemonThatStartsLater(t *testing.T) {
	dir, err := os.MkdirTemp("", "ctl") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	var stderr bytes.Buffer
	code := make(chan int, 1)
	looked := make(chan struct{})
	a := testApp(nil, io.Discard, &stderr)
	a.onRetry = func() {
		select {
		case <-looked:
		default:
			close(looked)
		}
	}
	go func() { code <- a.run([]string{"status", "--socket", socket, "--wait", "20s"}) }()
	<-looked // bounded by --wait
	d, err := newDaemon(socket, "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	if got := <-code; got != exitOK {
		t.Errorf("exit code = %d, stderr = %q; want 0", got, &stderr)
	}
}
