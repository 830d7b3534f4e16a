// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/events.md")

// docs/events.md is what the tables say.
func TestEventsPage(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "events.md")
	got := EventsPage()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/events.md differs from the catalogue (-file +catalogue), rewrite it with go test ./kernelbridge/catalogue -update:\n%s", diff)
	}
}

// Every event type of the two systems is here once, as something or with a reason.
func TestForeignEvents(t *testing.T) {
	for _, c := range []struct {
		system string
		events []Foreign
		want   int
	}{
		{"the ESF PoC", ESF(), 49},
		{"TSEM", TSEM(), 87},
	} {
		if len(c.events) != c.want {
			t.Errorf("%s: %d events, want %d", c.system, len(c.events), c.want)
		}
		seen := map[string]bool{}
		for i := range c.events {
			f := &c.events[i]
			if f.Name == "" || seen[f.Name] {
				t.Errorf("%s: event %q twice, or without a name", c.system, f.Name)
			}
			seen[f.Name] = true
			if len(f.Events) == 0 && f.Why() == "" {
				t.Errorf("%s: event %s is nothing here and does not say why", c.system, f.Name)
			}
			if !slices.IsSorted(f.Events) || len(slices.Compact(slices.Clone(f.Events))) != len(f.Events) {
				t.Errorf("%s: event %s: %v, want each event once, by number", c.system, f.Name, f.Events)
			}
			for _, e := range f.Events {
				if Of(e) == nil {
					t.Errorf("%s: event %s is %d here, which is no event", c.system, f.Name, e)
				}
			}
		}
	}
}

// An event of TSEM is a hook; a hook that asks for events is among what it is here.
func TestTSEMEventsAreHooks(t *testing.T) {
	for _, f := range TSEM() {
		h, ok := HookOf(f.Name)
		if !ok {
			t.Errorf("TSEM's %s is no hook of the catalogue", f.Name)
		}
		for _, e := range h.Events {
			if !slices.Contains(f.Events, e) && f.Name != "file_open" {
				t.Errorf("TSEM's %s is %v here, but the hook asks for %s", f.Name, f.Events, e)
			}
		}
	}
}
