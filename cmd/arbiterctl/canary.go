// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

const canaryHelp = `With --canary or --canary-cgroup they decide for a part of the processes only, for the
time of --canary-for, and the rules in force for all others. Then they are promoted by
themselves, or end at once when they refuse too much, fail too often or take too long: see
"arbiterctl rules canary". A restart of the daemon ends them.`

// canaryFlags adds the flags of a canary; the func returns nil when none was given.
func canaryFlags(cmd *cobra.Command) func() (*controlv1.CanaryStart, error) {
	f := cmd.Flags()
	percent := f.String("canary", "", "decide for this part of the processes only, such as 5%")
	cgroup := f.String("canary-cgroup", "", "decide for the processes in this cgroup only, such as /system.slice/web.service")
	long := f.Duration("canary-for", 0, "for that long, 1s to 720h, then for all")
	deny := f.Float64("max-deny-rate", 0.01, "take a canary back when it refuses more than the rules in force would, by more than this share of its decisions")
	failed := f.Float64("max-failure-rate", 0.01, "and when more than this share gets failure verdicts or late answers")
	latency := f.Duration("max-latency", 0, "and when the 99th percentile of its latency is above this")
	least := f.Uint64("canary-min-decisions", 1, "how many decisions it must have made to be promoted by itself")
	return func() (*controlv1.CanaryStart, error) {
		part := f.Changed("canary") || f.Changed("canary-cgroup")
		for _, of := range []string{"canary-for", "max-deny-rate", "max-failure-rate", "max-latency", "canary-min-decisions"} {
			if f.Changed(of) && !part {
				return nil, usage(cmd, fmt.Errorf("--%s is of a canary: give --canary or --canary-cgroup, too", of))
			}
		}
		switch {
		case !part:
			return nil, nil
		case f.Changed("canary") && f.Changed("canary-cgroup"):
			return nil, usage(cmd, errors.New("give --canary or --canary-cgroup, not both"))
		case !f.Changed("canary-for"):
			return nil, usage(cmd, errors.New("a canary is for a time: give --canary-for, such as 1h"))
		case f.Changed("confirm-within"):
			return nil, usage(cmd, errors.New("a canary ends by itself: leave --confirm-within out"))
		case *least == 0:
			return nil, usage(cmd, errors.New("--canary-min-decisions 0: give at least 1: without a decision nothing is proved"))
		}
		c := &controlv1.CanaryStart{For: durationpb.New(*long), MaxDenyRate: deny, MaxFailureRate: failed, MinDecisions: *least}
		if f.Changed("max-latency") {
			c.MaxLatency = durationpb.New(*latency)
		}
		if f.Changed("canary-cgroup") {
			c.Part = &controlv1.CanaryStart_Cgroup{Cgroup: strings.ToValidUTF8(*cgroup, "\ufffd")}
			return c, nil
		}
		p, err := strconv.ParseFloat(strings.TrimSuffix(*percent, "%"), 64)
		if err != nil {
			return nil, usage(cmd, fmt.Errorf("--canary %s is no percentage: give one such as 5%%", quoteArg(*percent)))
		}
		c.Part = &controlv1.CanaryStart_Percent{Percent: p}
		return c, nil
	}
}

func (a *app) canaryCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "canary",
		Short: "See, promote or end rules that decide for a part of the processes",
		Long: `A canary is a rule set that was pushed with --canary or --canary-cgroup. It decides for a
part of the processes; the rules in force decide for all others. Events say by their epoch
which of the two has decided.

The rules in force are asked about its decisions, too, after the verdict: it is taken back
when it refuses more of the same requests than they would, by more than --max-deny-rate of
its decisions, counted as a share of 100 while it has made fewer.`,
	}, a.canaryStatusCommand(), a.canaryPromoteCommand(), a.canaryAbortCommand())
}

func (a *app) canaryStatusCommand() *cobra.Command {
	return a.canaryCall("status", "Show the canary, or the last one", func(cmd *cobra.Command) (*controlv1.CanaryState, error) {
		r, err := call(a, cmd, "looking at the canary", func(c *client) func(context.Context, *controlv1.CanaryServiceGetRequest, ...grpc.CallOption) (*controlv1.CanaryServiceGetResponse, error) {
			return c.canary.Get
		}, &controlv1.CanaryServiceGetRequest{})
		return r.GetState(), err
	})
}

func (a *app) canaryPromoteCommand() *cobra.Command {
	return a.canaryCall("promote", "Put the canary in force for all, now", func(cmd *cobra.Command) (*controlv1.CanaryState, error) {
		r, err := call(a, cmd, "promoting the canary", func(c *client) func(context.Context, *controlv1.CanaryServicePromoteRequest, ...grpc.CallOption) (*controlv1.CanaryServicePromoteResponse, error) {
			return c.canary.Promote
		}, &controlv1.CanaryServicePromoteRequest{})
		return r.GetState(), err
	})
}

func (a *app) canaryAbortCommand() *cobra.Command {
	return a.canaryCall("abort", "End the canary, now: the rules in force decide for all", func(cmd *cobra.Command) (*controlv1.CanaryState, error) {
		r, err := call(a, cmd, "ending the canary", func(c *client) func(context.Context, *controlv1.CanaryServiceAbortRequest, ...grpc.CallOption) (*controlv1.CanaryServiceAbortResponse, error) {
			return c.canary.Abort
		}, &controlv1.CanaryServiceAbortRequest{})
		return r.GetState(), err
	})
}

// canaryCall is a command that prints how the canary fares, as do returns it.
func (a *app) canaryCall(name, short string, do func(*cobra.Command) (*controlv1.CanaryState, error)) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: noArgs}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := do(cmd)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(s))
		}
		return a.print(canaryText(s))
	}
	return cmd
}

// printCanary says what a push has begun.
func (a *app) printCanary(p *controlv1.PushResponse) error {
	a.warn(p.GetWarnings())
	return a.print(fmt.Sprintf("epoch %d %s: arbiterctl rules canary status\n", p.GetEpoch(), canaryState(p.GetCanary())) + differenceText(p.GetDiff()))
}

// partText says for whom a canary decides.
func partText(c *controlv1.CanaryStart) string {
	if c.GetCgroup() != "" {
		return "the processes in " + audit.Quote(c.GetCgroup())
	}
	return fmt.Sprintf("%v%% of the processes", c.GetPercent())
}

// canaryState says whether it runs, and until when or why not.
func canaryState(s *controlv1.CanaryState) string {
	if s.GetRunning() {
		return fmt.Sprintf("decides for %s until %s, epoch %d for all others", partText(s.GetStart()), s.GetUntil().AsTime().Local().Format(time.DateTime), s.GetPreviousEpoch())
	}
	return "ended: " + audit.Quote(s.GetEnded())
}

// canaryLine says in one line how a canary fares.
func canaryLine(s *controlv1.CanaryState) string {
	return fmt.Sprintf("epoch %d %s; %s, %d refused, %d before", s.GetEpoch(), canaryState(s), plural(s.GetDecisions(), "decision"), s.GetRefused(), s.GetRefusedBefore())
}

func canaryText(s *controlv1.CanaryState) string {
	start := s.GetStart()
	t := newTable()
	t.row("canary", fmt.Sprintf("epoch %d: %s, %s, fingerprint %s, by uid %d", s.GetEpoch(), audit.Quote(s.GetName()), plural(s.GetRuleCount(), "rule"), fingerprint(s.GetFingerprint()), s.GetUid()))
	t.row("state", canaryState(s))
	if !s.GetRunning() {
		t.row("part", partText(start))
	}
	t.row("decisions", fmt.Sprintf("%d; epoch %d would decide otherwise: %s; %d cannot be told", s.GetDecisions(), s.GetPreviousEpoch(), counts(s.GetChanges()), s.GetCannotTell()))
	t.row("refused", fmt.Sprintf("%d, and epoch %d would refuse %d of the same; at most %v more", s.GetRefused(), s.GetPreviousEpoch(), s.GetRefusedBefore(), start.GetMaxDenyRate()))
	t.row("no decisions", fmt.Sprintf("%s (%s), %d of the kernel side; at most %v; %s lost", plural(sum(s.GetFailures()), "failure verdict"), counts(s.GetFailures()), s.GetUnanswered(),
		start.GetMaxFailureRate(), plural(s.GetLost(), "event")))
	if d := start.GetMaxLatency(); d != nil {
		t.row("slow", fmt.Sprintf("%d took longer than %v; at most 1 in 100", s.GetSlow(), d.AsDuration()))
	}
	for i, b := range s.GetBlocks() {
		key := ""
		if i == 0 {
			key = "not promoted"
		}
		t.row(key, audit.Quote(b))
	}
	return t.text()
}
