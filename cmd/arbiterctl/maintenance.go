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
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
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
terminal without showing it, else from the first line of --key-file. Ctrl-C is left to
the command; SIGTERM is passed on to it, and ends it after 10 s.`,
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
		key, err := a.readSecret(cmd.Context(), "maintenance key", file)
		if err != nil {
			next := "give the key with --key-file"
			if cmd.Context().Err() != nil {
				next = ""
			}
			return fail(exitFailure, next, fmt.Errorf("reading the maintenance key: %w", err))
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer c.close()
		// The call is the token: it ends with this function. Ctrl-C is the command's.
		ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
		defer cancel()
		undo := context.AfterFunc(cmd.Context(), cancel)
		late := time.AfterFunc(a.timeout, cancel)
		stream, err := controlv1.NewMaintenanceServiceClient(c.conn).Hold(ctx,
			&controlv1.HoldRequest{Key: strings.TrimSpace(key), Duration: durationpb.New(long), Reason: reason})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			return c.rpcFailure(cmd, "beginning maintenance", err)
		}
		late.Stop()
		undo()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if _, err := stream.Recv(); ctx.Err() == nil {
				a.tellOver(err)
			}
		}()
		err = a.runMaintained(ctx, args)
		cancel()
		<-ended
		return err
	}
	return cmd
}

// tellOver says that the command, which goes on, is refused like all others from now on.
func (a *app) tellOver(err error) {
	why := "the time given with --for is over"
	if !errors.Is(err, io.EOF) {
		why = status.Convert(err).Message()
	}
	fmt.Fprint(a.stderr, prefixed("arbiterctl: ", "maintenance has ended, what the command does is refused again: "+safe(why)))
}

// killDelay is what a command has between SIGTERM and SIGKILL.
const killDelay = 10 * time.Second

// runMaintained runs the command. SIGTERM is passed on to it.
func (a *app) runMaintained(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM)
	defer stop()
	run := exec.CommandContext(ctx, args[0], args[1:]...)
	run.Stdin, run.Stdout, run.Stderr = a.stdin, a.stdout, a.stderr
	run.Cancel = func() error { return run.Process.Signal(unix.SIGTERM) }
	run.WaitDelay = killDelay
	err := run.Run()
	if ctx.Err() != nil {
		err = errors.New("it was ended by SIGTERM")
	}
	if err != nil {
		return fail(exitFailure, "", fmt.Errorf("running %s: %w", quoteArg(args[0]), err))
	}
	return nil
}

// readSecret reads a line from a file, - for stdin, or without one from the terminal, without
// an echo.
func (a *app) readSecret(ctx context.Context, name, file string) (string, error) {
	in := a.stdin
	switch {
	case file == "":
		show, err := hideInput(0)
		if err != nil {
			return "", errors.New("stdin is no terminal")
		}
		defer show()
		fmt.Fprint(a.stderr, name+": ")
		defer fmt.Fprintln(a.stderr)
	case file != "-":
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	line, err := readLine(ctx, in)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(line) == "" {
		return "", errors.New("it is empty")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// readLine reads a line, or what there is of it at the end of the file. When ctx is done
// it leaves the reading behind.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(oneByte{in}).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
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
