// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func (a *app) mutesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mutes",
		Short: "List what is left alone inside of the scope, by default and by the rules",
		Long: `mutes lists the default mutes: processes that are not asked about, so that neither
the daemon nor the machine waits for itself. Each line says whether it holds, and why
not. A rule file takes one away by mute.unmute, and adds others by mute.

After them stands what the rule set in force leaves alone.`,
		Args: noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		type request = controlv1.StatusServiceGetRequest
		s, err := call(a, cmd, "listing the mutes", func(c *client) func(context.Context, *request, ...grpc.CallOption) (*controlv1.StatusServiceGetResponse, error) {
			return c.status.Get
		}, &request{})
		if err != nil {
			return err
		}
		if out.json() {
			all := jsonOf(&controlv1.StatusServiceGetResponse{Mute: s.Mute, DefaultMutes: s.DefaultMutes})
			return a.printJSON(map[string]any{"mute": all["mute"], "default_mutes": all["default_mutes"]})
		}
		return a.print(mutesText(s))
	}
	return cmd
}

func mutesText(s *controlv1.StatusServiceGetResponse) string {
	text := fmt.Sprintf("the backend %s has no default mutes\n", audit.Quote(s.Backend))
	if len(s.DefaultMutes) > 0 {
		t := newTable("MUTE", "HOLDS", "WHAT")
		for _, m := range s.DefaultMutes {
			holds, what := "yes", m.What
			if !m.InForce {
				holds, what = "no", what+" ("+m.Why+")"
			}
			t.row(audit.Quote(m.Name), holds, audit.Quote(what))
		}
		text = t.text()
	}
	if s.Mute == nil {
		return text + "\nthe rules leave nothing else alone\n"
	}
	return text + "\nthe rules: " + muteText(s.Mute) + "\n"
}

func scopeText(s *controlv1.Scope) string {
	if parts := scopeParts(s, nil); len(parts) > 0 {
		return strings.Join(parts, ", ")
	}
	return "nothing"
}

// scopeParts names each entry of a scope; those of the inverted dimensions as "all but".
func scopeParts(s *controlv1.Scope, invert []string) (parts []string) {
	for _, dim := range [...]struct {
		key, word string
		entries   [][]byte
	}{{"paths", "", s.GetPaths()}, {"cgroups", "cgroup ", s.GetCgroups()}, {"uids", "uid ", ranges(s.GetUids())}, {"exes", "exe ", s.GetExes()},
		{"mounts", "mount ", s.GetMounts()}, {"process_trees", "process tree ", s.GetProcessTrees()}} {
		for _, e := range dim.entries {
			part := dim.word + audit.Field(e)
			if slices.Contains(invert, dim.key) {
				part = "all but " + part
			}
			parts = append(parts, part)
		}
	}
	return parts
}

func ranges(ids []*controlv1.IdRange) (out [][]byte) {
	for _, r := range ids {
		if r.First == r.Last {
			out = append(out, fmt.Append(nil, r.First))
		} else {
			out = append(out, fmt.Appendf(nil, "%d-%d", r.First, r.Last))
		}
	}
	return out
}

func muteText(m *controlv1.Mute) string {
	parts := scopeParts(m.GetOf(), m.GetInvert())
	if len(m.GetEvents()) > 0 {
		parts = append(parts, "only for "+audit.Quote(strings.Join(m.Events, " and ")))
	}
	if len(m.GetUnmute()) > 0 {
		parts = append(parts, "not "+audit.Quote(strings.Join(m.Unmute, ", ")))
	}
	return strings.Join(parts, ", ")
}

func defaultMutesText(mutes []*controlv1.DefaultMute) string {
	var hold, not []string
	for _, m := range mutes {
		if m.InForce {
			hold = append(hold, audit.Quote(m.Name))
		} else {
			not = append(not, audit.Quote(m.Name))
		}
	}
	text := strings.Join(hold, ", ")
	if len(hold) == 0 {
		text = "none"
	}
	if len(not) > 0 {
		text += "; not " + strings.Join(not, ", ") + " (arbiterctl mutes says why)"
	}
	return text
}
