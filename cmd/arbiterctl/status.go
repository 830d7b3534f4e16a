// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the daemon fares: backend, rules, counters, latency, workers",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		type request = controlv1.StatusServiceGetRequest
		s, err := call(a, cmd, "getting the status", func(c *client) func(context.Context, *request, ...grpc.CallOption) (*controlv1.StatusServiceGetResponse, error) {
			return c.status.Get
		}, &request{})
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(s))
		}
		return a.print(statusText(s))
	}
	return cmd
}

func statusText(s *controlv1.StatusServiceGetResponse) string {
	t := newTable()
	t.row("daemon", fmt.Sprintf("%s, pid %d, up %v", audit.Quote(s.Version), s.Pid, s.Uptime.AsDuration().Round(time.Second)))
	t.row("backend", audit.Quote(s.Backend)+": "+audit.Quote(s.BackendReason))
	t.row("rules", fmt.Sprintf("epoch %d, %s, fingerprint %s", s.Epoch, plural(s.RuleCount, "rule"), fingerprint(s.Fingerprint)))
	if p := s.Pending; p != nil {
		t.row("confirm", fmt.Sprintf("epoch %d by %s, then %s again: arbiterctl rules confirm %[1]d", p.Epoch, p.Until.AsTime().Local().Format(time.DateTime), epochText(p.PreviousEpoch)))
	}
	if l := s.Lock; l != nil {
		t.row("locked", lockText(l))
	}
	if g := s.Signing; g != nil {
		t.row("signatures", signingText(g))
	}
	if s.Shadow != nil {
		t.row("candidate", shadowLine(s.Shadow))
	}
	if s.Canary != nil {
		t.row("canary", canaryLine(s.Canary))
	}
	t.row("scope", scopeText(s.Scope))
	if s.Mute != nil {
		t.row("left alone", muteText(s.Mute))
	}
	if len(s.DefaultMutes) > 0 {
		t.row("default mutes", defaultMutesText(s.DefaultMutes))
	}
	c := s.Counters
	t.row("requests", fmt.Sprintf("%d: %d from the cache, %d decided, %d failed, %d in flight", c.GetRequests(), c.GetHits(),
		c.GetDecided(), sum(c.GetFailed()), c.GetInFlight()))
	killed := ""
	if c.GetKilled()+c.GetSpared() > 0 {
		killed = fmt.Sprintf(" (%d of them killed, %d could not be)", c.GetKilled(), c.GetSpared())
	}
	t.row("verdicts", fmt.Sprintf("%d allowed (%d of them audited), %d denied%s, %d too late", c.GetAllowed(), c.GetAudited(), c.GetDenied(), killed, c.GetLate()))
	t.row("failed", counts(c.GetFailed()))
	t.row("cache flushes", counts(c.GetCacheFlushes()))
	t.row("events", fmt.Sprintf("%d recorded, %d dropped", c.GetEventsRecorded(), c.GetEventsDropped()))
	if len(s.KernelCounters) > 0 {
		t.row("kernel side", counts(s.KernelCounters))
	}
	if l := s.Latency; l.GetCount() > 0 {
		t.row("latency", fmt.Sprintf("p50 %v, p90 %v, p99 %v, p99.9 %v, max %v", l.P50.AsDuration(), l.P90.AsDuration(),
			l.P99.AsDuration(), l.P999.AsDuration(), l.Max.AsDuration()))
	}
	if s.SelfProtection != "" {
		t.row("self-protection", audit.Quote(s.SelfProtection))
	}
	t.row("memory", fmt.Sprintf("%.1f MiB resident", float64(s.ResidentMemory)/(1<<20)))
	t.row("store", fmt.Sprintf("%s, %s kept", audit.Quote(s.Store.GetDirectory()), plural(s.Store.GetKept(), "rule set")))
	text := t.text()

	if len(s.Workers) > 0 {
		w := newTable("WORKER", "CPU", "STATE", "REQUESTS", "EPOCH")
		for _, o := range s.Workers {
			cpu, state := "any", "polling"
			if o.Cpu >= 0 {
				cpu = fmt.Sprint(o.Cpu)
			}
			epoch := fmt.Sprint(o.Epoch)
			if o.Parked {
				state = "parked"
				if o.Epoch != s.Epoch { // it takes the set up before its next verdict
					epoch = fmt.Sprintf("%d (when it wakes)", s.Epoch)
				}
			}
			w.row(fmt.Sprint(o.Index), cpu, state, fmt.Sprint(o.Requests), epoch)
		}
		text += "\n" + w.text()
	}
	for _, w := range s.Warnings { // the store's incidents are among them
		text += "warning: " + audit.Quote(w) + "\n"
	}
	for _, i := range s.Store.GetIncidents() {
		if i.MovedTo != "" {
			text += fmt.Sprintf("set aside: %s is now %s\n", audit.Quote(i.File), audit.Quote(i.MovedTo))
		}
	}
	return text
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// counts lists what is not zero.
func counts(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != 0 {
			parts = append(parts, fmt.Sprintf("%s %d", audit.Field(k), m[k]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
