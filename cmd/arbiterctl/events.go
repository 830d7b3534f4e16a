// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// errNoAnswer ends a stream whose first message does not come in time.
var errNoAnswer = errors.New("no answer in time")

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow what is decided",
		Long: `events prints verdicts as they are given: what was refused, audited or failed, and
with --all also what was simply allowed. It runs until it is interrupted, until
--count events were printed, or until the daemon stops. With --no-follow it prints
what is kept and ends.

The daemon keeps the last 1024 events in memory. What was simply allowed is among
them only if it happened while somebody watched with --all.

The text form has one line per event. In it every byte of a path that does not
print is escaped, a space is \x20, and "-" stands for nothing. REASON/LATENCY is
the reason of a failure verdict, else the time from the question to the answer.
DETAIL/ARGS is what else an event is about: its numbers by the names that rules have
for them, an address as it is usually written, and behind them its second text.
-o json prints one JSON object per line with OCSF field names, as the daemon's
verdict log does.

A watcher that is too slow loses events, and no verdict waits for it; how many is
said on stderr.`,
		Example: `  arbiterctl events --verdict deny
  arbiterctl events --event exec,open --rule no-shells -o json
  arbiterctl events --recent 20 --no-follow`,
		Args: noArgs,
	}
	request := &controlv1.WatchRequest{}
	f := cmd.Flags()
	f.BoolVar(&request.IncludeAllowed, "all", false, "plain allowed requests too")
	f.StringSliceVar(&request.Rules, "rule", nil, "decided by one of these rules; default for the default")
	f.StringSliceVar(&request.Events, "event", nil, "one of these events, such as exec, open, connect; docs/policy.md lists them")
	f.StringSliceVar(&request.Verdicts, "verdict", nil, "one of these verdicts: allow, deny, audit, kill")
	f.Uint32Var(&request.Recent, "recent", 0, "begin with at most this many of the events that are kept")
	since := f.Uint64("since", 0, "begin behind this sequence number, as far as events are kept")
	count := f.Uint64("count", 0, "end after this many events, 0 for never")
	noFollow := f.Bool("no-follow", false, "end after the events that are kept, all of them without --recent; also --follow=false")
	follow := f.Bool("follow", true, "wait for events to come")
	_ = f.MarkHidden("follow") // the spelling of kubectl logs; the error is for a flag that does not exist
	out := outputFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("recent", "since")
	cmd.MarkFlagsMutuallyExclusive("no-follow", "follow")
	cmd.MarkFlagsMutuallyExclusive("no-follow", "count")
	cmd.MarkFlagsMutuallyExclusive("follow", "count")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.Changed("since") {
			request.Since = since
		}
		if slices.Contains(request.Verdicts, "allow") {
			request.IncludeAllowed = true // asked for by name
		}
		request.NoFollow = *noFollow || !*follow
		p := &eventPrinter{app: a, json: out.json(), count: *count}
		err := a.watch(cmd, request, p.message)
		if err == nil && request.NoFollow && p.printed == 0 && !p.json {
			fmt.Fprintln(a.stderr, "arbiterctl: no event that is kept fits; plain allowed requests are kept only while somebody watches with --all")
		}
		return err
	}
	return cmd
}

// watch runs the stream until each says that it is done, or the daemon that nothing
// follows. That the first message comes is bounded by --timeout, and that another one
// does where only what is kept was asked for.
func (a *app) watch(cmd *cobra.Command, request *controlv1.WatchRequest, each func(*controlv1.WatchResponse) (done bool, err error)) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	late := time.AfterFunc(a.timeout, func() { cancel(errNoAnswer) })
	defer late.Stop()
	failed := func(err error) error {
		switch {
		case cmd.Context().Err() != nil: // interrupted: a good end
			return nil
		case context.Cause(ctx) == errNoAnswer:
			return a.noAnswer("watching events")
		}
		return c.rpcFailure(cmd, "watching events", err)
	}
	stream, err := c.events.Watch(ctx, request)
	if err != nil {
		return failed(err)
	}
	for {
		m, err := stream.Recv()
		if err == io.EOF && request.NoFollow {
			return nil
		}
		if err != nil {
			return failed(err)
		}
		late.Stop()
		if request.NoFollow {
			late.Reset(a.timeout)
		}
		done, err := each(m)
		if done || err != nil {
			return err
		}
	}
}

// eventPrinter prints the messages of one stream.
type eventPrinter struct {
	app     *app
	json    bool
	count   uint64 // 0: no end
	printed uint64
	dropped uint64
}

// columns are as wide as what is usual in them; what is wider pushes the rest to
// the right on its line alone.
const columns = "%-24s  %6s  %-5s  %-12s  %-20s  %6s  %7s  %-24s  %-40s  %-14s  %s\n"

// message prints one message; done when enough were printed.
func (p *eventPrinter) message(m *controlv1.WatchResponse) (done bool, err error) {
	if m.Dropped > 0 {
		p.dropped += m.Dropped
		fmt.Fprintf(p.app.stderr, "arbiterctl: %s dropped because this watcher is too slow, %d in all; a filter would help: arbiterctl events --help\n",
			plural(m.Dropped, "event"), p.dropped)
	}
	if m.GetHello() != nil {
		return false, p.header()
	}
	e := m.GetEvent()
	if e == nil {
		return false, nil
	}
	err = p.event(e)
	p.printed++
	return p.printed == p.count, err
}

func (p *eventPrinter) header() error {
	if p.json {
		return nil
	}
	return p.app.print(eventHeader())
}

func eventHeader() string {
	return fmt.Sprintf(columns, "TIME", "SEQ", "EVENT", "VERDICT", "RULE", "UID", "PID", "EXE", "PATH", "REASON/LATENCY", "DETAIL/ARGS")
}

func (p *eventPrinter) event(e *controlv1.Event) error {
	if p.json {
		return p.app.print(string(audit.AppendEvent(nil, eventOf(e))))
	}
	return p.app.print(eventLine(e))
}

func eventLine(e *controlv1.Event) string {
	verdict, last := audit.Field(e.Verdict), e.Latency.AsDuration().String()
	if e.Verdict == "deny" {
		verdict += ":" + rules.ErrnoName(uint16(e.Errno))
	}
	switch {
	case e.Late:
		last = "late"
	case e.Reason != "":
		last = audit.Field(e.Reason)
	}
	return fmt.Sprintf(columns, timeText(e.Time.AsTime()), fmt.Sprint(e.Seq), audit.Field(e.Event), verdict, audit.Field(e.Rule),
		fmt.Sprint(e.Subject.GetUid()), fmt.Sprint(e.Subject.GetTgid()), audit.Field(e.Subject.GetExe()), audit.Field(e.Object.GetPath()), last, factsText(e))
}

// factsText writes the numbers and the second text of an event, and what a scanner has found, in
// one column.
func factsText(e *controlv1.Event) string {
	event, _ := abi.ParseEvent(e.Event)
	values := map[string]uint64{}
	for _, a := range e.Args {
		values[a.Name] = a.Value
	}
	var parts []string
	for _, a := range e.Args {
		switch {
		case a.Name == "addr_low": // with the one before
		case a.Name == "addr_high":
			if f := values["family"]; f == unix.AF_INET || f == unix.AF_INET6 {
				parts = append(parts, "addr="+rules.Addr(a.Value, values["addr_low"]).String())
			}
		default:
			parts = append(parts, a.Name+"="+rules.ArgText(event, a.Name, a.Value))
		}
	}
	if len(e.Detail) > 0 {
		parts = append(parts, "detail="+string(e.Detail))
	}
	if found := e.Object.GetSignature(); len(found) > 0 {
		parts = append(parts, "found="+string(found))
	}
	return audit.Field(strings.Join(parts, ","))
}

// eventOf turns a message back into the engine's event. A word that a newer
// daemon knows and we do not becomes "unknown".
func eventOf(m *controlv1.Event) *arbiter.Event {
	e := &arbiter.Event{
		Seq: m.Seq, Time: m.Time.AsTime(), Verdict: m.Verdict, Errno: uint16(m.Errno), Rule: m.Rule, Line: int(m.Line),
		Message: m.Message, Epoch: m.Epoch, Fingerprint: m.Fingerprint, Cached: m.Cached, Late: m.Late,
		Latency: m.Latency.AsDuration(), Worker: int(m.Worker),
		TGID: m.Subject.GetTgid(), TID: m.Subject.GetTid(), UID: m.Subject.GetUid(), GID: m.Subject.GetGid(),
		StartBoottime: m.Subject.GetStartBoottimeNs(), Comm: string(m.Subject.GetComm()), Exe: string(m.Subject.GetExe()),
		Path: string(m.Object.GetPath()), Dev: m.Object.GetDev(), Ino: m.Object.GetIno(), SHA256: m.Object.GetSha256(), Signature: string(m.Object.GetSignature()), Detail: string(m.Detail),
		Asked: m.Asked, AnsweredBy: m.AnsweredBy, EUID: m.Euid, EGID: m.Egid, InTrees: texts(m.InTrees), NotInTrees: texts(m.NotInTrees),
	}
	copy(e.Cgroup[:], m.Cgroups)
	for _, name := range m.Facts {
		fact, _ := abi.ParseField(name) // 0: no rule of ours looks at it
		e.Facts |= fact
	}
	if format, ok := abi.ParseFormat(m.Object.GetFormat()); ok {
		e.Format = format
	} else if m.Object.GetFormat() != "" {
		e.Facts &^= abi.FieldFormat
	}
	if a, ok := abi.ParseAttributes(m.Object.GetAttributes()); ok {
		e.Attributes = a
	} else if m.Object.GetAttributes() != "" {
		e.Facts &^= abi.FieldAttributes
	}
	if size, ok := abi.ParseSize(m.Object.GetSize()); ok {
		e.Size = size
	} else if m.Object.GetSize() != "" {
		e.Facts &^= abi.FieldSize
	}
	if c, ok := abi.ParseCredentials(m.Subject.GetCredentials()); ok {
		e.Credentials = c
	} else if m.Subject.GetCredentials() != "" {
		e.Facts &^= abi.FieldCredentials
	}
	if verity, ok := abi.ParseVerity(m.Object.GetFsverity()); ok {
		e.Verity = verity
	} else if m.Object.GetFsverity() != "" {
		e.Facts &^= abi.FieldVerity
	}
	if scan, ok := abi.ParseScan(m.Object.GetScan()); ok {
		e.Scan = scan
	} else if m.Object.GetScan() != "" {
		e.Facts &^= abi.FieldScan
	}
	for _, name := range m.Flags {
		flag, ok := abi.ParseFlag(name)
		e.Flags |= flag
		if !ok {
			e.Facts = 0 // what it says of them we do not know
		}
	}
	var known bool
	if e.Event, known = abi.ParseEvent(m.Event); !known {
		e.Event = abi.EventCount
	}
	for _, a := range m.Args {
		if ev := catalogue.Of(e.Event); ev != nil && ev.Arg(a.Name) >= 0 {
			e.Args[ev.Arg(a.Name)] = a.Value
		}
	}
	for _, name := range m.Access {
		if bit, ok := rules.ParseAccess(name); ok {
			e.Access |= bit
		} else if name == "exec" { // an exec's own, which rules do not name
			e.Access |= abi.AccessExec
		}
	}
	if m.Reason != "" {
		e.Reason = abi.ReasonNone + 1
		for e.Reason < abi.ReasonCount && e.Reason.String() != m.Reason {
			e.Reason++
		}
	}
	return e
}
