// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) asksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "asks",
		Short: "Follow what rules ask, and answer it",
		Long: `asks prints the questions of rules whose verdict is ask, as they come, and runs until it
is interrupted, until --count questions were printed, or until the daemon stops. The
tasks that a question is about are held meanwhile.

While nobody follows, nothing is asked: the rule's default stands at once. With
--no-follow it prints what is open and ends, and nobody counts as there.

ELSE is what stands when nobody answers, and UNTIL when. N requests wait for an answer.
The other columns are those of arbiterctl events.`,
		Example: `  arbiterctl asks
  arbiterctl asks answer 17 allow --remember 1h`,
	}
	f := cmd.Flags()
	request := &controlv1.AsksServiceWatchRequest{}
	f.BoolVar(&request.NoFollow, "no-follow", false, "end after what is open")
	count := f.Uint64("count", 0, "end after this many questions, 0 for never")
	out := outputFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("no-follow", "count")
	a.group(cmd, a.answerCommand())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p := &askPrinter{app: a, json: out.json(), count: *count}
		return a.watchAsks(cmd, request, p.message)
	}
	return cmd
}

// watchAsks runs the stream until each says that it is done.
func (a *app) watchAsks(cmd *cobra.Command, request *controlv1.AsksServiceWatchRequest, each func([]*controlv1.Ask) (done bool, err error)) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	late := time.AfterFunc(a.timeout, func() { cancel(errNoAnswer) })
	defer late.Stop()
	stream, err := c.asks.Watch(ctx, request)
	for err == nil {
		var m *controlv1.AsksServiceWatchResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		late.Stop()
		if done, err := each(m.Asks); done || err != nil {
			return err
		}
	}
	switch {
	case err == io.EOF && request.NoFollow, cmd.Context().Err() != nil: // interrupted: a good end
		return nil
	case context.Cause(ctx) == errNoAnswer:
		return fail(exitUnreachable, fmt.Sprintf("give it longer than --timeout %v, or look at the daemon's log", a.timeout),
			fmt.Errorf("watching questions: no answer within %v", a.timeout))
	}
	return c.rpcFailure(cmd, "watching questions", err)
}

// askPrinter prints each question once.
type askPrinter struct {
	app     *app
	json    bool
	count   uint64 // 0: no end
	printed uint64
	last    uint64 // id
	begun   bool
}

const askColumns = "%6s  %-24s  %3s  %-12s  %-12s  %-20s  %6s  %7s  %-24s  %-40s  %-24s  %s\n"

func (p *askPrinter) message(open []*controlv1.Ask) (done bool, err error) {
	if !p.begun && !p.json {
		p.begun = true
		if err := p.app.print(fmt.Sprintf(askColumns, "ID", "UNTIL", "N", "ELSE", "EVENT", "RULE", "UID", "PID", "EXE", "PATH", "DETAIL/ARGS", "MESSAGE")); err != nil {
			return true, err
		}
	}
	for _, q := range open { // by their ids
		if q.Id <= p.last {
			continue
		}
		p.last = q.Id
		if p.json {
			err = p.app.printJSON(jsonOf(q))
		} else {
			err = p.app.print(askLine(q))
		}
		if p.printed++; err != nil || p.printed == p.count {
			return true, err
		}
	}
	return false, nil
}

func askLine(q *controlv1.Ask) string {
	e := q.Event
	otherwise := audit.Field(e.GetVerdict())
	if e.GetVerdict() == "deny" {
		otherwise += ":" + rules.ErrnoName(uint16(e.GetErrno()))
	}
	return fmt.Sprintf(askColumns, fmt.Sprint(q.Id), timeText(q.Until.AsTime()), fmt.Sprint(q.Waiting), otherwise, audit.Field(e.GetEvent()), audit.Field(e.GetRule()),
		fmt.Sprint(e.GetSubject().GetUid()), fmt.Sprint(e.GetSubject().GetTgid()), audit.Field(e.GetSubject().GetExe()), audit.Field(e.GetObject().GetPath()),
		factsText(e), audit.Quote(e.GetMessage()))
}

func (a *app) answerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "answer ID allow|deny",
		Short: "Answer a question",
		Long: `answer ends the question with that number, as asks shows it: the requests that wait for
it go on, or are refused with the errno of the rule's default, EPERM if that allows.

With --remember the same question has the same answer from then on, unasked: for a
duration, or as long as the daemon runs (session). It is the same if rule, object path,
executable and all facts that rules about the event look at are the same. Another rule
set forgets it. The record of each such request says so, with the uid of who answered.`,
		Example: `  arbiterctl asks answer 17 deny
  arbiterctl asks answer 17 allow --remember session`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("give the number of a question, and allow or deny")
			}
			return nil
		},
	}
	remember := cmd.Flags().String("remember", "once", "how long: once, session, or a duration such as 10m")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := &controlv1.AnswerRequest{Verdict: args[1]}
		var err error
		if q.Id, err = strconv.ParseUint(args[0], 10, 64); err != nil {
			return usage(cmd, fmt.Errorf("%s is no number of a question: give one from the column ID of arbiterctl asks", quoteArg(args[0])))
		}
		if args[1] != "allow" && args[1] != "deny" {
			return usage(cmd, fmt.Errorf("%s is no answer: give allow or deny", quoteArg(args[1])))
		}
		if q.Remember, err = rememberFor(*remember); err != nil {
			return usage(cmd, err)
		}
		answer, err := call(a, cmd, "answering", func(c *client) func(context.Context, *controlv1.AnswerRequest, ...grpc.CallOption) (*controlv1.AnswerResponse, error) {
			return c.asks.Answer
		}, q)
		if err != nil {
			return err
		}
		if answer.Forgotten {
			fmt.Fprintln(a.stderr, "arbiterctl: the answer is not remembered: too many are already; a push of other rules forgets them")
		}
		if out.json() {
			return a.printJSON(jsonOf(answer))
		}
		return a.print(fmt.Sprintf("%s: answered to %s\n", args[1], plural(answer.Waited, "request")))
	}
	return cmd
}

// rememberFor reads the value of --remember; nil is once.
func rememberFor(text string) (*durationpb.Duration, error) {
	switch text {
	case "once":
		return nil, nil
	case "session":
		return durationpb.New(-1), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return nil, fmt.Errorf("--remember %s: give once, session, or a duration such as 10m", quoteArg(text))
	}
	return durationpb.New(d), nil
}
