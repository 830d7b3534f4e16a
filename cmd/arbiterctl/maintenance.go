// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func (a *app) maintenanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "Work on a daemon that protects itself",
		Long: `A daemon with self_protection refuses changes of its files, maps and processes to all
others, root too. Who has the maintenance key is let past it for a time.`,
	}
	return a.group(cmd, a.maintenanceKeyCommand(), a.maintenanceRunCommand())
}

func (a *app) maintenanceKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a maintenance key",
		Long: `key prints a new key, and the line for the daemon's configuration that knows it again.
Keep the key off the machine: the line does not give it away.`,
		Args: noArgs,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		var b [32]byte
		rand.Read(b[:]) // never fails
		key := hex.EncodeToString(b[:])
		sum := sha256.Sum256([]byte(key))
		return a.print("key: " + key + "\nmaintenance_key: " + hex.EncodeToString(sum[:]) + "\n")
	}
	return cmd
}

func (a *app) maintenanceRunCommand() *cobra.Command {
	var long time.Duration
	var file, reason string
	cmd := &cobra.Command{
		Use:   "run -- COMMAND [ARGUMENT]...",
		Short: "Run a command that the self-protection lets through",
		Long: `run runs a command which, with all that it starts, may do what the daemon's
self-protection refuses to others. That ends with the command, after --for, or when the
daemon stops; what the command leaves running is refused again. The key is read from the
terminal without showing it, else from the first line of --key-file.`,
		Example: `  arbiterctl maintenance run --for 30m -- bash
  arbiterctl maintenance run --reason "ticket 42" -- cp arbiterd.yaml /etc/arbiter/`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give a command to run")
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&long, "for", 10*time.Minute, "how long at most")
	cmd.Flags().StringVar(&file, "key-file", "", "file with the key, - for stdin")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the daemon's log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if long <= 0 {
			return usage(cmd, fmt.Errorf("--for %v: give more than 0", long))
		}
		key, err := a.readKey(file)
		if err != nil {
			return fail(exitFailure, "give the key with --key-file", fmt.Errorf("reading the maintenance key: %w", err))
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer c.close()
		// The call is the token: it ends with this function.
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		late := time.AfterFunc(a.timeout, cancel)
		stream, err := controlv1.NewMaintenanceServiceClient(c.conn).Hold(ctx,
			&controlv1.HoldRequest{Key: key, Duration: durationpb.New(long), Reason: reason})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			return c.rpcFailure(cmd, "beginning maintenance", err)
		}
		late.Stop()
		run := exec.CommandContext(ctx, args[0], args[1:]...)
		run.Stdin, run.Stdout, run.Stderr = a.stdin, a.stdout, a.stderr
		if err := run.Run(); err != nil {
			return fail(exitFailure, "", fmt.Errorf("running %s: %w", quoteArg(args[0]), err))
		}
		return nil
	}
	return cmd
}

// readKey reads the key from a file, or from the terminal without an echo.
func (a *app) readKey(file string) (string, error) {
	in := a.stdin
	switch {
	case file == "":
		show, err := hideInput(0)
		if err != nil {
			return "", errors.New("stdin is no terminal")
		}
		defer show()
		fmt.Fprint(a.stderr, "maintenance key: ")
		defer fmt.Fprintln(a.stderr)
	case file != "-":
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(oneByte{in}).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", errors.New("it is empty")
	}
	return line, nil
}

// oneByte hands bytes out one by one, so that what follows the line is the command's.
type oneByte struct{ io.Reader }

// Read implements io.Reader.
func (r oneByte) Read(b []byte) (int, error) {
	if len(b) > 1 {
		b = b[:1]
	}
	return r.Reader.Read(b)
}

// hideInput switches the echo of a terminal off; show switches it on again.
func hideInput(fd int) (show func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
