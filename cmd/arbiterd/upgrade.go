// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// upgrade starts the program that is installed where this one was, with our arguments and
// --replace: what SIGUSR2 asks for. It runs in our control group, so that the service
// manager takes it for the same service.
func (d *daemon) upgrade() {
	if err := d.startSuccessor(); err != nil {
		d.log.Error("starting the daemon that is to take over: this one stays in charge", slog.Any("error", err))
	}
}

func (d *daemon) startSuccessor() error {
	if d.chosen != kernelbridge.BackendLSM {
		// Executing a file in a scope of fanotify's can make the daemon wait for itself.
		return errors.New("on fanotify start it by hand: arbiterd --replace")
	}
	path, err := os.Executable() // as it was when this process started
	if err != nil {
		return fmt.Errorf("finding the own program: %w", err)
	}
	cmd := exec.Command(path, successorArgs(os.Args[1:])...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	d.log.Info("started the daemon that is to take over", slog.String("program", path), slog.Int("pid", cmd.Process.Pid))
	go func() { // until it ends, or we do
		if err := cmd.Wait(); err != nil {
			d.log.Error("the daemon that was to take over has ended: this one stays in charge", slog.Any("error", err))
		}
	}()
	// Until it says hello it reads its configuration, which the rules may be about.
	return d.backend.exemptPeer(cmd.Process.Pid)
}

func successorArgs(args []string) []string {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--replace" || a == "-replace" })
	return append(args, "--replace")
}
