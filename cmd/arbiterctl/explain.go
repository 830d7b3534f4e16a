// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain --event EVENT [--path PATH] [--detail TEXT] [--arg NAME=VALUE]...",
		Short: "Say what would be decided, and how each rule fared",
		Long: `explain decides a request that nobody made and says how each rule fared, up to the
one that decides. It asks the daemon about the rule set in force; with --rules FILE
it reads a file instead and needs no daemon.

Which events have an object with a path, a detail and arguments, and what they are, is
in the tables of docs/policy.md. An argument that is not given is 0; its value is
written as in rules, a name such as inet or KILL included, and addr an address.

It also says which facts rules about the event look at, who keeps the answer for requests
that agree in them (the workers' cache, the kernel side) or why not, and, asked of the
daemon, how a task waits for it on this kernel. No kernel side keeps anything while
somebody watches with events --all, nor before Linux 6.12.

It exits with 0 whatever the verdict; with --exit-code it exits with 8 when the
request would be refused.`,
		Example: `  arbiterctl explain --event exec --path /srv/app/bin/sh --exe /usr/bin/python3 --uid 1000
  arbiterctl explain --event open --access write --path /srv/app/etc/x --rules rules.yaml
  arbiterctl explain --event connect --arg family=inet --arg port=443 --exe /srv/app/bin/tool
  arbiterctl explain --event rename --path /srv/app/a --detail /srv/app/bin/a`,
		Args: noArgs,
	}
	q := &controlv1.ExplainRequest{}
	f := cmd.Flags()
	f.StringVar(&q.Event, "event", "", "such as exec, open or connect (required)")
	object := f.String("path", "", "the object's path, absolute; @NAME for an abstract socket")
	detail := f.String("detail", "", "the event's second text, such as the new name in a rename")
	args := f.StringArray("arg", nil, "an argument of the event, as `NAME=VALUE`; can be repeated")
	exe := f.String("exe", "", "path of the subject's executable, absolute; empty when it is unknown")
	f.Uint32Var(&q.Uid, "uid", uint32(os.Getuid()), "the subject's uid, by default yours")
	f.Uint32Var(&q.Gid, "gid", uint32(os.Getgid()), "the subject's gid, by default yours")
	f.StringSliceVar(&q.Access, "access", nil, "of an open: read, write, append, truncate, create; by default read")
	addFactFlags(cmd, q)
	cgroup := f.String("cgroup", "", "the subject's cgroup, a path below the cgroup v2 mount point")
	trees := f.StringArray("process-tree", nil, "the `PROGRAM` of a process tree that the subject is in; can be repeated")
	file := f.String("rules", "", "explain by this rule file, - for stdin, not by what is in force")
	exitCode := f.Bool("exit-code", false, "exit with 8 when the request would be refused")
	f.Lookup("uid").DefValue, f.Lookup("gid").DefValue = "0", "0" // not shown: it depends on who reads help
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q.Path, q.Exe, q.Cgroup, q.Detail = []byte(*object), []byte(*exe), []byte(*cgroup), []byte(*detail)
		for _, t := range *trees {
			q.ProcessTrees = append(q.ProcessTrees, []byte(t))
		}
		if err := errors.Join(checkExplain(q), parseArgs(q, *args)); err != nil {
			return usage(cmd, err)
		}
		var x *controlv1.ExplainResponse
		var err error
		if *file != "" {
			x, err = a.explainOffline(cmd, q, *file)
		} else {
			x, err = call(a, cmd, "explaining", func(c *client) func(context.Context, *controlv1.ExplainRequest, ...grpc.CallOption) (*controlv1.ExplainResponse, error) {
				return c.rules.Explain
			}, q)
		}
		if err != nil {
			return err
		}
		if out.json() {
			err = a.printJSON(jsonOf(x))
		} else {
			err = a.print(explainText(x))
		}
		if err == nil && *exitCode && (x.Verdict == "deny" || x.Verdict == "kill") && !x.OutOfScope {
			return fail(exitRefused, "", nil)
		}
		return err
	}
	return cmd
}

// checkExplain returns all that is wrong with a request.
func checkExplain(q *controlv1.ExplainRequest) error {
	var errs []error
	event, ok := abi.ParseEvent(q.Event)
	if !ok {
		errs = append(errs, fmt.Errorf("--event %s is none: %s", quoteArg(q.Event), rules.UnknownEvent(q.Event)))
	}
	checkPath := func(flag string, p []byte) {
		if len(p) == 0 || p[0] != '/' {
			errs = append(errs, fmt.Errorf("--%s %s is not absolute: begin it with /", flag, quoteArg(string(p))))
		}
		if len(p) >= abi.PathBytes {
			errs = append(errs, fmt.Errorf("--%s has %d bytes: the kernel presents at most %d", flag, len(p), abi.PathBytes-1))
		}
	}
	switch ev := catalogue.Of(event); {
	case ev == nil && len(q.Path) == 0, ev != nil && len(q.Path) == 0 && !rules.NeedsObject(event):
	case ev != nil && ev.Object == "":
		errs = append(errs, fmt.Errorf("--event %s has no object: leave --path out", q.Event))
	case rules.NamesSocket(event, q.Path):
	default:
		checkPath("path", q.Path)
	}
	if len(q.Detail) >= abi.PathBytes {
		errs = append(errs, fmt.Errorf("--detail has %d bytes: the kernel presents at most %d", len(q.Detail), abi.PathBytes-1))
	}
	if ev := catalogue.Of(event); ev != nil && ev.Detail == "" && len(q.Detail) > 0 {
		errs = append(errs, fmt.Errorf("--event %s has no detail: leave --detail out", q.Event))
	}
	if len(q.Exe) > 0 {
		checkPath("exe", q.Exe)
	}
	if len(q.Cgroup) > 0 {
		checkPath("cgroup", q.Cgroup)
	}
	for _, t := range q.ProcessTrees {
		checkPath("process-tree", t)
	}
	for _, c := range factFlags {
		if err := c.set(&abi.Request{}, *c.of(q)); err != nil {
			errs = append(errs, fmt.Errorf("--%s %w", c.flag, err))
		}
	}
	for _, name := range q.Access {
		if _, ok := rules.ParseAccess(name); !ok {
			errs = append(errs, fmt.Errorf("--access %s is none: give read, write, append, truncate or create", quoteArg(name)))
		}
	}
	if ok && event != abi.EventOpen && len(q.Access) > 0 {
		errs = append(errs, errors.New("--access is for --event open: leave it out"))
	}
	return errors.Join(errs...)
}

// parseArgs reads NAME=VALUE arguments into q. Without a known event they cannot be read.
func parseArgs(q *controlv1.ExplainRequest, args []string) error {
	event, ok := abi.ParseEvent(q.Event)
	if !ok {
		return nil
	}
	var errs []error
	for _, arg := range args {
		name, text, found := strings.Cut(arg, "=")
		if !found {
			errs = append(errs, fmt.Errorf("--arg %s has no =: write it as NAME=VALUE", quoteArg(arg)))
			continue
		}
		if ev := catalogue.Of(event); name == "addr" && ev.Arg("addr_high") >= 0 { // as rules can write both
			high, low, err := rules.ParseAddr(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("--arg %s: write an address such as 192.0.2.1", quoteArg(arg)))
				continue
			}
			q.Args = append(q.Args, &controlv1.Argument{Name: "addr_high", Value: high}, &controlv1.Argument{Name: "addr_low", Value: low})
			continue
		}
		v, err := rules.ParseArg(event, name, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--arg %s: %w", quoteArg(arg), err))
			continue
		}
		q.Args = append(q.Args, &controlv1.Argument{Name: name, Value: v})
	}
	return errors.Join(errs...)
}

// explainOffline answers by a rule file as the daemon would by the set in force.
// Cgroups need not exist: they are compared by their paths.
func (a *app) explainOffline(cmd *cobra.Command, q *controlv1.ExplainRequest, file string) (*controlv1.ExplainResponse, error) {
	source, name, err := a.readRules(cmd, file)
	if err != nil {
		return nil, err
	}
	options := offlineOptions()
	rs, err := rules.Load(name, source, options)
	if err != nil {
		var ps rules.Problems
		if errors.As(err, &ps) {
			return nil, a.refusedRules(ps, "", "repair the file; docs/policy.md describes rule files")
		}
		return nil, fail(exitRules, "", err)
	}
	r := &abi.Request{UID: q.Uid, EUID: q.Uid, GID: q.Gid, EGID: q.Gid}
	r.Event, _ = abi.ParseEvent(q.Event)
	r.PathLen, r.ExeLen = uint32(copy(r.PathBuf[:], q.Path)), uint32(copy(r.ExeBuf[:], q.Exe))
	r.DetailLen = uint32(copy(r.DetailBuf[:], q.Detail))
	if len(q.Path) == 0 {
		r.Flags |= abi.FlagNoObject
	}
	for _, a := range q.Args {
		if err := rules.SetArg(r, a.Name, a.Value); err != nil {
			return nil, fmt.Errorf("explaining: %w", err)
		}
	}
	if len(q.Exe) == 0 {
		r.Flags |= abi.FlagNoExe
	}
	for _, c := range factFlags {
		_ = c.set(r, *c.of(q)) // checked before
	}
	switch r.Event {
	case abi.EventExec:
		r.Access = abi.AccessExec
		if r.LacksRole() {
			r.Arg[abi.ArgRole] = uint64(abi.RoleProgram)
		}
	case abi.EventOpen:
		for _, name := range q.Access {
			bit, _ := rules.ParseAccess(name) // checked before
			r.Access |= bit
		}
		if r.Access == 0 {
			r.Access = abi.AccessRead
		}
	}
	for i, c := range lineage(string(q.Cgroup)) {
		if i < len(r.Cgroup) {
			r.Cgroup[i], _ = options.CgroupID(c) // offline ones never fail
		}
	}
	r.Trees, _ = rs.MarksOf(texts(q.ProcessTrees), nil)
	x := rs.Explain(r)
	answer := &controlv1.ExplainResponse{Verdict: x.Decision.Verdict.Action.String(), Errno: uint32(x.Decision.Verdict.Errno),
		Rule: x.Rule, Line: uint32(x.Line), Message: x.Note.Message, Owner: x.Note.Owner, Reason: x.Note.Reason, Ticket: x.Note.Ticket, Deadline: durationpb.New(x.Decision.Deadline),
		OnFail: x.Decision.OnFail.String(), Fingerprint: rs.Fingerprint(), OutOfScope: !rs.Asks(&rules.Access{
			Event: r.Event, Object: string(q.Path), Detail: string(q.Detail), Exe: string(q.Exe), Cgroup: string(q.Cgroup), UID: q.Uid})}
	k := rs.Kept(r, x.Decision)
	answer.Consulted, answer.Needs = x.Consulted.Names(), x.Needs.Names()
	answer.Kept = &controlv1.ExplainKept{InKernel: k.InKernel, NotByWorker: k.NotByWorker, NotByKernel: k.NotByKernel}
	answer.StepsLeftOut = uint32(x.LeftOut)
	for _, s := range x.Steps {
		answer.Steps = append(answer.Steps, &controlv1.ExplainStep{Rule: s.Rule, Line: uint32(s.Line), Matched: s.Matched,
			Why: strings.ToValidUTF8(s.Reason, "\ufffd")})
	}
	return answer, nil
}

// lineage returns a cgroup and its ancestors, level 1 first, without the root.
func lineage(cgroup string) []string {
	var out []string
	for p := path.Clean("/" + cgroup); p != "/"; p = path.Dir(p) {
		out = append([]string{p}, out...)
	}
	return out
}

func explainText(x *controlv1.ExplainResponse) string {
	var b strings.Builder
	verdict := audit.Quote(x.Verdict)
	if x.Verdict == "deny" {
		verdict += " " + rules.ErrnoName(uint16(x.Errno))
	}
	by := "by the default: no rule matches"
	if x.Rule != "default" {
		by = fmt.Sprintf("by rule %s on line %d", audit.Quote(x.Rule), x.Line)
	}
	fmt.Fprintf(&b, "%s, %s\n", verdict, by)
	for _, fact := range x.Needs {
		if fact == abi.FieldCredentials.Names()[0] {
			b.WriteString("rules look at the subject's credentials, which are not known: give them with --credentials; a request without gets the failure verdict\n")
			continue
		}
		fmt.Fprintf(&b, "it depends on object.%s, which is not known: give it with --%[1]s\n", audit.Quote(fact))
	}
	for _, n := range [...]struct{ what, text string }{{"message", x.Message}, {"owner", x.Owner}, {"reason", x.Reason}, {"ticket", x.Ticket}} {
		if n.text != "" {
			fmt.Fprintf(&b, "%s: %s\n", n.what, audit.Quote(n.text))
		}
	}
	if x.Verdict == rules.Ask.String() {
		fmt.Fprintf(&b, "when nobody answers: %v\n", rules.Verdict{Action: rules.Ask, Errno: uint16(x.Errno)}.Unanswered())
	}
	fmt.Fprintf(&b, "when no answer comes within %v: %s\n", x.Deadline.AsDuration(), audit.Quote(x.OnFail))
	if x.WrittenOnFail != "" && (x.WrittenOnFail != x.OnFail || x.WrittenDeadline.AsDuration() != x.Deadline.AsDuration()) {
		fmt.Fprintf(&b, "  the rules say %s after %v, but the kernel side waits %v and knows one failure verdict alone, the file's\n",
			audit.Quote(x.WrittenOnFail), x.WrittenDeadline.AsDuration(), x.Bound.AsDuration())
	}
	b.WriteString(keptText(x))
	if x.OutOfScope {
		b.WriteString("but it is out of scope: the kernel would not ask, and the request would go on\n")
	}
	if x.Epoch != 0 {
		fmt.Fprintf(&b, "rule set: epoch %d, fingerprint %s\n", x.Epoch, fingerprint(x.Fingerprint))
	} else {
		fmt.Fprintf(&b, "rule set: fingerprint %s\n", fingerprint(x.Fingerprint))
	}
	if len(x.Steps) > 0 {
		b.WriteString("\n")
		if x.StepsLeftOut > 0 {
			fmt.Fprintf(&b, "%d more rules were considered and do not match; these are the last ones about the event:\n", x.StepsLeftOut)
		}
		t := newTable("LINE", "RULE", "MATCHES", "WHY")
		for _, s := range x.Steps {
			matches := "no"
			if s.Matched {
				matches = "yes"
			}
			why := "-"
			if s.Why != "" {
				why = safe(s.Why)
			}
			t.row(fmt.Sprint(s.Line), audit.Field(s.Rule), matches, why)
		}
		b.WriteString(t.text())
	}
	return b.String()
}
