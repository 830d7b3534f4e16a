// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// TestSelfProtection has a daemon that protects itself: this process, which is root and
// not it, cannot write its store, until it shows the key.
func TestSelfProtection(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	dir := newTree(t)
	sum := sha256.Sum256([]byte("key"))
	config := dir + "/config"
	if err := os.WriteFile(config, []byte("self_protection: true\nmaintenance_key: "+hex.EncodeToString(sum[:])+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "--config", config)
	if got := d.status().SelfProtection; got != "on" {
		t.Errorf("status: self-protection %q, want on; %v", got, d.status().Warnings)
	}
	events := d.watch()
	for _, path := range []string{config, dir + "/state/lock", dir + "/state/new", dir + "/good"} {
		err := os.WriteFile(path, nil, 0o600)
		if refused := path != dir+"/good"; os.IsPermission(err) != refused || !refused && err != nil {
			t.Errorf("writing %s: %v, want refused: %t", path, err, refused)
		}
	}
	if err := os.Remove(d.socket); !os.IsPermission(err) {
		t.Errorf("removing the control socket: %v, want it to be refused", err)
	}
	for {
		m, err := events.Recv()
		if err != nil {
			t.Fatalf("waiting for the event: %v", err)
		}
		if e := m.GetEvent(); e.GetRule() == ruleSelfProtection {
			if got := string(e.GetObject().GetPath()); got != config || e.GetEvent() != "open" || e.GetSubject().GetTgid() != uint32(os.Getpid()) {
				t.Errorf("the first event: %s of %s by %d, want open of %s by %d", e.GetEvent(), got, e.GetSubject().GetTgid(), config, os.Getpid())
			}
			break
		}
	}
	counted := false
	for name, n := range d.status().KernelCounters {
		counted = counted || strings.HasPrefix(name, "self_protection.refused.") && n > 0
	}
	if !counted {
		t.Errorf("counters %v, want some of self_protection", d.status().KernelCounters)
	}
	hold, err := pb.NewMaintenanceServiceClient(d.conn).Hold(t.Context(), &pb.HoldRequest{Key: "key", Duration: durationpb.New(time.Minute)})
	if err == nil {
		_, err = hold.Recv()
	}
	if err != nil {
		t.Fatalf("beginning maintenance: %v", err)
	}
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		t.Errorf("writing the configuration with a token: %v", err)
	}
	d.stop() // we are its parent
	if err := os.WriteFile(dir+"/state/new", nil, 0o600); err != nil {
		t.Errorf("writing the store after the daemon's end: %v", err)
	}
}
