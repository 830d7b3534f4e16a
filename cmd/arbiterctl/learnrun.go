// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

const (
	// quiet is how long nothing has to come before all is taken to have come that the
	// command did: a record takes milliseconds.
	quiet = 300 * time.Millisecond
	// quietWithin bounds the wait for it, should something else go on.
	quietWithin = 5 * time.Second
)

// decideEvery is how often events are looked at again that came before the fork of their
// process was told.
const decideEvery = 100 * time.Millisecond

// feed is the event stream, read ahead.
type feed struct {
	messages chan *controlv1.WatchResponse
	err      error // valid when messages is closed
	cancel   context.CancelFunc
}

// feedRoom is how many messages wait while one is being learned.
const feedRoom = 1 << 12

// watchStream opens the stream and returns when the daemon has said hello.
func (l *live) watchStream() (*feed, error) {
	request := &controlv1.WatchRequest{IncludeAllowed: l.ids == nil}
	if l.ids != nil {
		request.Rules = append([]string{""}, l.ids...) // "": failure verdicts
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.cmd.Context())) // what is under way is still learned
	late := time.AfterFunc(l.timeout, cancel)
	stream, err := l.c.events.Watch(ctx, request)
	var hello *controlv1.WatchResponse
	if err == nil {
		hello, err = stream.Recv()
	}
	if !late.Stop() {
		cancel()
		return nil, l.noAnswer("watching events")
	}
	if err != nil {
		cancel()
		return nil, l.c.rpcFailure(l.cmd, "watching events", err)
	}
	if got := hello.GetHello().GetEpoch(); got != l.epoch {
		cancel()
		return nil, fail(exitStale, "try again", fmt.Errorf("epoch %d is in force, epoch %d was a moment ago", got, l.epoch))
	}
	f := &feed{messages: make(chan *controlv1.WatchResponse, feedRoom), cancel: cancel}
	go func() {
		defer close(f.messages)
		for {
			m, err := stream.Recv()
			if err != nil {
				f.err = err
				return
			}
			f.messages <- m
		}
	}()
	return f, nil
}

// close ends the stream and waits for its reader.
func (f *feed) close() {
	f.cancel()
	for range f.messages {
	}
}

// watchCommand starts the command, if there is one, and learns until it has ended, --for is
// over or a signal says so: with a command SIGTERM, for Ctrl-C is the command's own. It
// returns what to exit with.
func (l *live) watchCommand() (code int, err error) {
	f, err := l.watchStream()
	if err != nil {
		return 0, err
	}
	defer f.close()
	over := time.NewTimer(l.limit)
	defer over.Stop()
	term, interrupted := make(chan os.Signal, 1), l.cmd.Context().Done()
	var ended chan error
	var run *exec.Cmd
	if len(l.command) > 0 {
		interrupted = nil
		signal.Notify(term, unix.SIGTERM)
		defer signal.Stop(term)
		if l.cmd.Context().Err() != nil { // a signal came before the command was there
			return 0, fail(exitFailure, "", errors.New("interrupted before the command was started"))
		}
		if run, err = l.start(); err != nil {
			return 0, err
		}
		ended = make(chan error, 1)
		go func() { ended <- run.Wait() }()
	}
	var settled, bound <-chan time.Time // set when nothing more will be done
	goesOn := false                     // the workload does: what it does from now on is not waited for
	end := func() { settled, bound = time.After(quiet), time.After(quietWithin) }
	messages := f.messages
	var killed <-chan time.Time
	again := time.NewTicker(decideEvery)
	defer again.Stop()
	tell := func() { // the command is to end
		if run == nil {
			goesOn = true
			end()
			return
		}
		_ = run.Process.Signal(unix.SIGTERM) // it may have ended
		killed = time.After(killDelay)
	}
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				messages = nil
				l.lost.because("the daemon ended the stream of events: " + safe(f.err.Error()))
				continue
			}
			l.lost.watcher += m.Dropped
			if e := m.GetEvent(); e != nil {
				if l.event(e) && settled != nil && !goesOn {
					settled = time.After(quiet)
				}
			}
		case <-again.C:
			l.decide(false)
		case err := <-ended:
			code, ended = l.exitCode(run, err), nil
			end()
		case <-over.C:
			fmt.Fprintln(l.stderr, "arbiterctl: the time given with --for is over")
			tell()
		case <-term:
			tell()
		case <-interrupted:
			interrupted = nil // once
			tell()
		case <-killed:
			code, goesOn = exitFailure, true
			fmt.Fprintf(l.stderr, "arbiterctl: the command has not ended within %v of SIGTERM and goes on unwatched\n", killDelay)
			end()
			killed = nil
		case <-settled:
			if len(messages) == 0 || goesOn {
				return code, nil
			}
			settled = time.After(quiet) // of others, which may be in front of ours
		case <-bound:
			l.lost.because(fmt.Sprintf("events still came %v after the end, what came later is left out", quietWithin))
			return code, nil
		}
	}
}

// start starts the command.
func (l *live) start() (*exec.Cmd, error) {
	run := exec.Command(l.command[0], l.command[1:]...)
	run.Stdin, run.Stdout, run.Stderr = l.stdin, l.stdout, l.stderr
	run.SysProcAttr = &syscall.SysProcAttr{}
	if l.user != "" {
		if err := become(run, l.user); err != nil {
			return nil, fail(exitFailure, "", fmt.Errorf("--user %s: %w", quoteArg(l.user), err))
		}
	}
	start := run.Start
	if l.own != nil {
		start = func() error { return l.own.start(run) }
	}
	if err := start(); err != nil {
		return nil, fail(exitFailure, "", fmt.Errorf("starting %s: %w", quoteArg(l.command[0]), cause(err)))
	}
	if l.forks != nil {
		l.forks.root(run.Process.Pid)
	}
	return run, nil
}

// become has the command run as another user, with the groups and the home of that one.
func become(run *exec.Cmd, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return err
	}
	var ids []uint32
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		ids = append(ids, uint32(id))
	}
	run.SysProcAttr.Credential = &syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}
	run.Env = append(os.Environ(), "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	return nil
}

// exitCode is that of the command, and as shells have it for one that a signal ended.
func (l *live) exitCode(run *exec.Cmd, err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &exit):
		fmt.Fprint(l.stderr, prefixed("arbiterctl: ", safe("running the command: "+err.Error())))
		return exitFailure
	}
	code := exit.ExitCode()
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal())
	}
	fmt.Fprintf(l.stderr, "arbiterctl: %s ended with %d\n", quoteArg(l.command[0]), code)
	return code
}

// leave names what the command has left running, kills it if that was asked for, and
// removes the cgroup.
func (l *live) leave() {
	pids, err := l.own.procs()
	if err == nil && len(pids) > 0 && l.kill {
		err = l.own.kill()
	} else if len(pids) > 0 {
		var names []string
		for _, pid := range pids {
			names = append(names, fmt.Sprintf("%d %s", pid, audit.Field(commOf(pid))))
		}
		fmt.Fprintf(l.stderr, "arbiterctl: the command has left running, in the cgroup %s: %s\n", audit.Quote(l.own.path), firstIDs(names, len(names)))
		return
	}
	if err == nil {
		err = l.own.remove()
	}
	if err != nil {
		fmt.Fprint(l.stderr, prefixed("arbiterctl: ", safe(strings.TrimSpace(fmt.Sprintf("removing the cgroup %s: %v", audit.Quote(l.own.path), err)))))
	}
}
