// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
	"github.com/arbiterd/arbiter/rules/learn"
)

// learning is what the command line of learn says.
type learning struct {
	scope   []string // absolute, links followed
	events  []abi.Event
	limit   time.Duration // --for
	file    string
	cgroup  string
	user    string
	observe bool
	suspend bool
	kill    bool
	accept  bool
	level   string
	fall    string // --default
	command []string
	from    []string // recordings
}

// source is where requests are learned from: what the daemon tells of a command, or a
// recording.
type source interface {
	// learn counts requests until there are no more. The error is for what could not even
	// begin; what was missed is in the loss, and code is what to exit with.
	learn(into *learn.Observed) (l loss, code int, err error)
}

func (a *app) learnCommand() *cobra.Command {
	l := &learning{}
	var eventNames []string
	cmd := &cobra.Command{
		Use:   "learn -o FILE [--scope DIR]... -- COMMAND [ARGUMENT]...",
		Short: "Propose rules from what a command does",
		Long: `learn runs a command, watches what the daemon decides of it, and writes a rule file that
allows what it did: a proposal, to be read before it is pushed. Each rule says how many
requests it stands for and, where it allows more than was observed, how many paths that are
there now it allows besides. With --cgroup it watches what already runs in a cgroup.

It learns from rules in force that ask about the events in the whole scope. Where there are
none, --observe puts a set in force for as long as it learns, which refuses nothing and asks.
The set from before is in force again when it ends, also when it is killed: then after --for
and a minute. If there are rules in force that can refuse something, they hold no longer
meanwhile, so that takes --suspend-rules, too.

--generalise says how far patterns replace paths: none at all; low, where one replaces four
paths and allows at most as many again; high, where one replaces two and allows at most 256
for each. --default audit, the default, makes a set that refuses nothing: push it first, look
at arbiterctl events, then write deny.

With --from it learns from recordings, and needs no daemon.

The command has its own stdin, stdout and stderr, and a cgroup of its own. When --for is over
it gets SIGTERM, as when arbiterctl does. learn exits with the code of the command; with 11
when something was missed, which the file and stderr say, unless --accept-loss is given.`,
		Example: `  arbiterctl learn --observe --scope /srv/app -o app.yaml -- /srv/app/bin/run
  arbiterctl learn --observe --scope /srv/app --cgroup /system.slice/app.service --for 1h -o app.yaml
  arbiterctl learn --from day.jsonl --scope /srv/app -o app.yaml`,
	}
	f := cmd.Flags()
	f.StringArrayVar(&l.scope, "scope", nil, "a directory whose tree the rules are about; can be repeated; by default that of the rules in force")
	f.StringSliceVar(&eventNames, "events", []string{"exec", "open"}, "which events to learn; docs/policy.md lists them")
	f.DurationVar(&l.limit, "for", 10*time.Minute, "how long at most, up to 23h")
	f.StringVarP(&l.file, "output", "o", "", "file for the rules, which must not be there yet; - for stdout")
	f.StringVar(&l.cgroup, "cgroup", "", "learn from what runs in this cgroup, a path below the mount point, until --for is over or Ctrl-C")
	f.StringArrayVar(&l.from, "from", nil, "learn from a recording, - for stdin: a file of arbiterctl events --all -o json, or a verdict log; can be repeated")
	f.StringVar(&l.user, "user", "", "run the command as this user")
	f.BoolVar(&l.observe, "observe", false, "put a set in force that refuses nothing and asks, while learning")
	f.BoolVar(&l.suspend, "suspend-rules", false, "with --observe: also where that suspends rules which refuse something")
	f.BoolVar(&l.kill, "kill", false, "kill what the command has left running")
	f.BoolVar(&l.accept, "accept-loss", false, "exit as if nothing had been missed")
	f.StringVar(&l.level, "generalise", string(learn.Low), "how far patterns replace paths: "+strings.Join(learn.Levels, ", "))
	f.StringVar(&l.fall, "default", "audit", "what becomes of what was not observed: audit or deny")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l.command = args
		if err := errors.Join(l.check(), l.parseEvents(eventNames), l.resolveScope()); err != nil {
			return usage(cmd, err)
		}
		if len(args) > 0 {
			if _, err := exec.LookPath(args[0]); err != nil {
				return fail(exitFailure, "", fmt.Errorf("looking for the command: %w", err))
			}
		}
		out, err := a.createProposal(l.file)
		if err != nil {
			return err
		}
		var s source = &live{app: a, cmd: cmd, learning: l}
		if len(l.from) > 0 {
			s = &recorded{learning: l, recordings: recordings{app: a}, cmd: cmd}
		}
		return out.close(a.learn(cmd, l, s, out))
	}
	return cmd
}

// check returns all that is wrong with the command line.
func (l *learning) check() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	ways := 0
	for _, given := range [...]bool{l.cgroup != "", len(l.command) > 0, len(l.from) > 0} {
		if given {
			ways++
		}
	}
	wrong(ways == 0, "give a command behind --, or --cgroup, or --from")
	wrong(ways > 1, "give a command, --cgroup or --from, not two of them")
	wrong(len(l.from) > 0 && (l.observe || l.user != "" || l.kill), "--observe, --user and --kill are for what runs, not for --from")
	wrong(len(l.from) > 0 && len(l.scope) == 0, "--from needs --scope: name the directories that the rules are to be about")
	wrong(l.cgroup != "" && (l.cgroup == "/" || filepath.Clean(l.cgroup) != l.cgroup || l.cgroup[0] != '/'),
		"--cgroup %s: give a path as in /proc/PID/cgroup, below the root", quoteArg(l.cgroup))
	wrong(l.cgroup != "" && l.user != "", "--user is for a command")
	wrong(l.cgroup != "" && l.kill, "--kill is for what a command leaves behind")
	wrong(l.file == "", "give a file for the rules with -o")
	wrong(l.limit < time.Second || l.limit > 23*time.Hour, "--for %v: give 1s to 23h", l.limit)
	wrong(l.suspend && !l.observe, "--suspend-rules is for --observe")
	wrong(l.observe && len(l.scope) == 0, "--observe needs --scope: name the directories that the rules are to be about")
	wrong(!slices.Contains(learn.Levels, l.level), "--generalise %s: give one of %s", quoteArg(l.level), strings.Join(learn.Levels, ", "))
	wrong(l.fall != "audit" && l.fall != "deny", "--default %s: give audit or deny", quoteArg(l.fall))
	return errors.Join(errs...)
}

func (l *learning) parseEvents(names []string) error {
	var errs []error
	l.events = nil
	for _, name := range names {
		e, ok := abi.ParseEvent(name)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("--events: %s is none: %s", quoteArg(name), rules.UnknownEvent(name)))
		case !slices.Contains(l.events, e):
			l.events = append(l.events, e)
		}
	}
	if len(names) == 0 {
		errs = append(errs, errors.New("--events: name at least one"))
	}
	return errors.Join(errs...)
}

// resolveScope makes the scope what the kernel reports: absolute, without links, unless a
// recording is of another machine.
func (l *learning) resolveScope() error {
	for i, dir := range l.scope {
		path, err := filepath.Abs(dir)
		if err == nil && len(l.from) == 0 {
			path, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return fmt.Errorf("--scope %s: %w", quoteArg(dir), cause(err))
		}
		l.scope[i] = path
	}
	return nil
}

// cause is an error without the path in it, which is not quoted.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// factOf is what of an event is learned.
func factOf(e *arbiter.Event) learn.Fact {
	return learn.Fact{Event: e.Event, Access: e.Access, Path: e.Path, Detail: e.Detail, Args: e.Args, Exe: e.Exe, UID: e.UID, GID: e.GID}
}

// proposalFile is where the rules go.
type proposalFile struct {
	io.Writer
	file    *os.File // nil: stdout
	written bool
}

// createProposal makes the file before anything is learned, so that a place that cannot be
// written to is not found out an hour later. A file that is there may be somebody's work.
func (a *app) createProposal(name string) (*proposalFile, error) {
	if name == "-" {
		return &proposalFile{Writer: a.stdout}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fail(exitFailure, "give another file with -o", fmt.Errorf("making the file %s: %w", quoteArg(name), cause(err)))
	}
	return &proposalFile{Writer: f, file: f}, nil
}

// write writes the rules.
func (p *proposalFile) write(source []byte) error {
	if _, err := p.Write(source); err != nil {
		return fail(exitFailure, "", fmt.Errorf("writing the rules: %w", cause(err)))
	}
	p.written = true
	return nil
}

// close ends the writing, and takes a file away that has nothing; it passes err on.
func (p *proposalFile) close(err error) error {
	if p.file == nil {
		return err
	}
	if e := p.file.Close(); e != nil && p.written && err == nil {
		err = fail(exitFailure, "", fmt.Errorf("writing the rules: %w", cause(e)))
	}
	if !p.written {
		_ = os.Remove(p.file.Name()) // it is empty
	}
	return err
}

// learn learns from src, and writes and explains what it proposes.
func (a *app) learn(cmd *cobra.Command, l *learning, src source, out *proposalFile) error {
	var observed learn.Observed
	lost, code, err := src.learn(&observed)
	if err != nil {
		return err
	}
	starter, _ := os.Executable() // without it the first exec is bound to us, which the file shows
	opt := learn.Options{Scope: l.scope, Events: l.events, Level: learn.Level(l.level), Default: rules.Audit,
		Starter: starter, Disk: disk{}, Header: l.header(&observed, &lost)}
	if l.fall == "deny" {
		opt.Default = rules.Deny
	}
	p, err := learn.Propose(&observed, opt)
	if err != nil {
		return fail(exitFailure, "learn fewer --events, a smaller --scope, or with --generalise high", err)
	}
	if err := out.write(p.Source); err != nil {
		return err
	}
	fmt.Fprint(a.stderr, l.review(p, &observed, &lost))
	switch {
	case code != 0:
		return fail(code, "", nil)
	case lost.any() && !l.accept:
		return fail(exitIncomplete, "learn again, with fewer --events or a smaller --scope; or take it as it is with --accept-loss",
			errors.New("the proposal is incomplete"))
	}
	return nil
}
