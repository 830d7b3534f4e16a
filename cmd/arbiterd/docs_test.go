// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	if inGuest() {
		t.Skip("the documents are on the host")
	}
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decode reads a whole configuration from text, with nothing filled in.
func decode(text string) (config, error) {
	var c config
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(&c)
	return c, err
}

// documented are the defaults as documents give them: on a machine with two CPUs.
func documented() config {
	c := defaults()
	c.Workers = 2
	return c
}

// keys returns the keys of a struct's fields, those of structs in it as outer.inner.
func keys(t reflect.Type) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		if f.Type.Kind() != reflect.Struct {
			all = append(all, key)
			continue
		}
		for _, inner := range keys(f.Type) {
			all = append(all, key+"."+inner)
		}
	}
	return all
}

// keysIn returns the keys of a YAML mapping in the same way.
func keysIn(n *yaml.Node) (all []string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		if value.Kind != yaml.MappingNode {
			all = append(all, key)
			continue
		}
		for _, inner := range keysIn(value) {
			all = append(all, key+"."+inner)
		}
	}
	return all
}

var configRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| `([^`]*)` \\|")

// TestConfigDocument compares the tables of docs/operations.md with the
// configuration: every key with its default, every flag, and no others.
func TestConfigDocument(t *testing.T) {
	doc := readDoc(t, "docs/operations.md")
	var named []string
	outer := map[string]map[string]yaml.Node{}
	flat := map[string]yaml.Node{}
	for _, row := range configRow.FindAllStringSubmatch(doc, -1) {
		named = append(named, row[1])
		var v yaml.Node
		if err := yaml.Unmarshal([]byte(row[2]), &v); err != nil || len(v.Content) != 1 {
			t.Errorf("%s: the default %q is not YAML: %v", row[1], row[2], err)
			continue
		}
		if o, inner, ok := strings.Cut(row[1], "."); ok {
			if outer[o] == nil {
				outer[o] = map[string]yaml.Node{}
			}
			outer[o][inner] = *v.Content[0]
		} else {
			flat[row[1]] = *v.Content[0]
		}
	}
	want := keys(reflect.TypeFor[config]())
	slices.Sort(want)
	slices.Sort(named)
	if diff := cmp.Diff(want, named); diff != "" {
		t.Errorf("keys (-configuration +document):\n%s", diff)
	}
	text, err := yaml.Marshal(flat)
	if err != nil {
		t.Fatal(err)
	}
	more, err := yaml.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(string(text) + string(more))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(documented(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-configuration +document):\n%s", diff)
	}

	var cfg config
	flags, _ := flagSet(&cfg)
	flags.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(doc, "| `--"+f.Name+"` |") {
			t.Errorf("the flag --%s is not in the document", f.Name)
		}
	})
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|").FindAllStringSubmatch(doc, -1) {
		if flags.Lookup(m[1]) == nil {
			t.Errorf("the document names a flag --%s that does not exist", m[1])
		}
	}
}

// TestSampleConfig wants every key with its default in the file that is installed.
func TestSampleConfig(t *testing.T) {
	text := readDoc(t, "init/arbiterd.yaml")
	got, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(documented(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-configuration +sample):\n%s", diff)
	}
	if err := got.check(nil); err != nil {
		t.Error(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	want, have := keys(reflect.TypeFor[config]()), keysIn(n.Content[0])
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("keys (-configuration +sample):\n%s", diff)
	}
}

// TestConfigExamples reads what docs/operations.md shows of a configuration.
func TestConfigExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDoc(t, "docs/operations.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("no example found")
	}
	for _, b := range blocks {
		path := writeConfig(t, b[1])
		if _, err := loadConfig([]string{"--config", path}, &bytes.Buffer{}); err != nil {
			t.Errorf("%v\nin:\n%s", err, b[1])
		}
	}
}

// TestUnit keeps what would blind the fanotify backend out of the systemd unit.
func TestUnit(t *testing.T) {
	unit := readDoc(t, "init/arbiterd.service")
	set := regexp.MustCompile(`(?m)^([A-Za-z]+)=`)
	ownMounts := regexp.MustCompile(`^(Protect(System|Home|Kernel\w*|ControlGroups|Proc|Hostname|Clock)|Private\w+|ProcSubset|MountFlags|MountAPIVFS|` +
		`(Read(Only|Write)|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|TemporaryFileSystem|Root\w+|Mount\w+|Extension\w+|DynamicUser|LogNamespace|` +
		`JoinsNamespaceOf|NetworkNamespacePath|IPCNamespacePath)$`)
	seen := map[string]bool{}
	for _, m := range set.FindAllStringSubmatch(unit, -1) {
		seen[m[1]] = true
		if ownMounts.MatchString(m[1]) {
			t.Errorf("%s= gives the service a mount namespace of its own: fanotify would mark mounts that nobody goes through", m[1])
		}
	}
	if seen["RestrictRealtime"] {
		t.Error("RestrictRealtime= forbids the priority of the heartbeat")
	}
	value := func(key string) []string {
		_, after, _ := strings.Cut(unit, "\n"+key+"=")
		line, _, _ := strings.Cut(after, "\n")
		return strings.Fields(line)
	}
	if got, want := slices.Sorted(slices.Values(value("CapabilityBoundingSet"))), slices.Sorted(maps.Keys(unitCapabilities)); !slices.Equal(got, want) {
		t.Errorf("the unit leaves the capabilities %v, TestUnitIsEnough %v", got, want)
	}
	got, want := slices.Sorted(slices.Values(value("SystemCallFilter"))), append([]string{"@system-service"}, slices.Sorted(maps.Keys(unitSystemCalls))...)
	if !slices.Equal(got, want) {
		t.Errorf("the unit leaves the system calls %v, TestUnitIsEnough %v", got, want)
	}
	for _, want := range []string{"Type", "WatchdogSec", "Restart", "LimitMEMLOCK", "OOMScoreAdjust"} {
		if !seen[want] {
			t.Errorf("the unit lacks %s=", want)
		}
	}
	if got := value("OOMPolicy"); !slices.Equal(got, []string{"continue"}) {
		t.Errorf("OOMPolicy=%v: the daemon would be stopped when a process that compiles rules is killed", got)
	}
}

// engine is an engine with one worker, as far as metrics look at it.
type engine struct{}

func (engine) Rules() *rules.RuleSet { return rules.Nothing() }
func (engine) Stats() arbiter.Stats  { return arbiter.Stats{Workers: make([]arbiter.WorkerStats, 1)} }
func (engine) Subscribe(int, arbiter.SubscribeOptions) *arbiter.Subscription {
	return &arbiter.Subscription{}
}
func (engine) Check(context.Context, *rules.RuleSet) ([]string, error) { return nil, nil }
func (engine) Apply(context.Context, *rules.RuleSet, cache.Reason) ([]string, error) {
	return nil, nil
}

func (engine) Moved(*rules.RuleSet) bool                     { return false }
func (engine) Collect(*rules.RuleSet) error                  { return nil }
func (engine) Canary(context.Context, *arbiter.Canary) error { return nil }

func (engine) Unavailable([]abi.Event) map[abi.Event]string { return nil }

// TestMetricsDocument wants every metric of ours in docs/operations.md, and no other.
func TestMetricsDocument(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	rs, err := control.NewRules(control.RulesConfig{Engine: engine{}, Applier: engine{}, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Engine: engine{}, Rules: rs, Info: func() control.Info { return control.Info{KernelCounters: map[string]uint64{"open.asked": 1}} }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	reg := prometheus.NewRegistry()
	for _, c := range s.Collectors() {
		reg.MustRegister(c)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "arbiter_") {
			want = append(want, f.GetName())
		}
	}
	got := regexp.MustCompile(`\barbiter_[a-z_]+\b`).FindAllString(readDoc(t, "docs/operations.md"), -1)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("metrics (-exported +document):\n%s", diff)
	}
}

// The invariants are numbered, and each has a test. That a test which a document names is
// there is seen to by the house.
func TestInvariantsDocument(t *testing.T) {
	n := 0
	for line := range strings.Lines(readDoc(t, "docs/invariants.md")) {
		if !strings.HasPrefix(line, "| I") {
			continue
		}
		n++
		if !strings.HasPrefix(line, fmt.Sprintf("| I%d |", n)) || !strings.Contains(line, "`Test") {
			t.Errorf("row %d is %q, want I%d with its tests", n, line, n)
		}
	}
	if n != 14 {
		t.Errorf("%d invariants, want 14", n)
	}
}
