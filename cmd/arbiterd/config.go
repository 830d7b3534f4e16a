// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// duration is a time.Duration that YAML writes as "5ms".
type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a duration: write one like 5ms or 2s", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// access is who may use the control socket.
type access struct {
	UIDs []uint32 `yaml:"uids"`
	GIDs []uint32 `yaml:"gids"`
}

// config is the configuration file. It is read once, at the start: SIGHUP pushes the
// file that Rules names and opens AuditLog anew, the rest needs a restart.
type config struct {
	Socket      string `yaml:"socket"`
	SocketMode  string `yaml:"socket_mode"`  // octal
	SocketGroup string `yaml:"socket_group"` // name or number; empty: the daemon's own
	StateDir    string `yaml:"state_dir"`
	// Rules is pushed when the store has no set yet, and on SIGHUP if it has changed.
	Rules string `yaml:"rules"`

	Backend      string   `yaml:"backend"`
	Workers      int      `yaml:"workers"`
	CPUs         []int    `yaml:"cpus"`
	Wait         duration `yaml:"wait"`       // bpf-lsm: bound of one wait in the kernel
	HoldLimit    duration `yaml:"hold_limit"` // fanotify: bound of one hold
	Guard        bool     `yaml:"guard"`      // fanotify: a process that ends a daemon that hangs
	SpinFor      duration `yaml:"spin_for"`
	CacheEntries int      `yaml:"cache_entries"`

	Admin    access `yaml:"admin"`
	ReadOnly access `yaml:"read_only"`
	// RateLimit bounds the control plane's calls, a second.
	RateLimit float64 `yaml:"rate_limit"`

	AuditLog string `yaml:"audit_log"` // file of JSON lines; empty: none. Reopened on SIGHUP
	Metrics  string `yaml:"metrics"`   // address of /metrics; empty: none
	LogLevel string `yaml:"log_level"`
}

// defaults returns the configuration without a file.
func defaults() config {
	return config{
		Socket: "/run/arbiter/arbiter.sock", SocketMode: "0660", StateDir: "/var/lib/arbiter",
		Backend: kernelbridge.BackendAuto, Workers: min(2, runtime.NumCPU()),
		Wait: duration(5 * time.Millisecond), HoldLimit: duration(5 * time.Second), Guard: true,
		SpinFor: duration(time.Millisecond), CacheEntries: 4096, RateLimit: 100, LogLevel: "info",
	}
}

// defaultConfigPath is read when no --config is given, if it is there.
const defaultConfigPath = "/etc/arbiter/arbiterd.yaml"

// loadConfig reads flags and the file they name; flags win. It reports everything
// that is wrong at once. flag.ErrHelp means that help was asked for and printed.
func loadConfig(args []string, out io.Writer) (config, error) {
	cfg := defaults()
	// Twice over the flags: once to find the file, once to win over it.
	ahead := defaults()
	flags, file := flagSet(&ahead, out)
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if err := readConfig(&cfg, *file); err != nil {
		return cfg, err
	}
	flags, _ = flagSet(&cfg, io.Discard)
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if flags.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: arbiterd takes flags only, see arbiterd --help", flags.Arg(0))
	}
	return cfg, cfg.check()
}

// flagSet returns the flags that override cfg, and where --config will be put.
func flagSet(cfg *config, out io.Writer) (f *flag.FlagSet, file *string) {
	f = flag.NewFlagSet("arbiterd", flag.ContinueOnError)
	f.SetOutput(out)
	file = f.String("config", "", "configuration `file` (default "+defaultConfigPath+", if it is there)")
	f.StringVar(&cfg.Socket, "socket", cfg.Socket, "control socket `path`")
	f.StringVar(&cfg.StateDir, "state-dir", cfg.StateDir, "`directory` of the rule store")
	f.StringVar(&cfg.Rules, "rules", cfg.Rules, "rule `file` for an empty store and for SIGHUP")
	f.StringVar(&cfg.Backend, "backend", cfg.Backend, "auto, bpf-lsm or fanotify")
	f.IntVar(&cfg.Workers, "workers", cfg.Workers, "number of workers")
	f.Func("cpus", "CPUs that workers are pinned to, `list` like 2,3", func(s string) (err error) {
		cfg.CPUs, err = parseCPUs(s)
		return err
	})
	f.Var((*durationFlag)(&cfg.Wait), "wait", "bpf-lsm: bound of one wait in the kernel, `duration`")
	f.Var((*durationFlag)(&cfg.HoldLimit), "hold-limit", "fanotify: bound of one hold, `duration`")
	f.StringVar(&cfg.AuditLog, "audit-log", cfg.AuditLog, "verdict log `file`, JSON lines")
	f.StringVar(&cfg.Metrics, "metrics", cfg.Metrics, "`address` of /metrics, like 127.0.0.1:9464")
	f.StringVar(&cfg.LogLevel, "log-level", cfg.LogLevel, "debug, info, warn or error")
	return f, file
}

// durationFlag is a duration as a flag.Value.
type durationFlag duration

func (d *durationFlag) String() string { return time.Duration(*d).String() }

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	*d = durationFlag(v)
	return err
}

// readConfig reads the file into cfg; an empty path is the default one, which need
// not be there.
func readConfig(cfg *config, path string) error {
	required := path != ""
	if !required {
		path = defaultConfigPath
	}
	b, err := os.ReadFile(path)
	if !required && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the configuration %s: %w; the keys are in docs/operations.md", path, err)
	}
	return nil
}

func parseCPUs(s string) ([]int, error) {
	var cpus []int
	for _, part := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a CPU number: write a list like 2,3", part)
		}
		cpus = append(cpus, n)
	}
	return cpus, nil
}

// check returns everything that is wrong with the configuration.
func (c *config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for key, path := range map[string]string{"socket": c.Socket, "state_dir": c.StateDir} {
		if !filepath.IsAbs(path) {
			bad("%s: %q is not an absolute path", key, path)
		}
	}
	if mode, err := strconv.ParseUint(c.SocketMode, 8, 32); err != nil || mode > 0o777 {
		bad("socket_mode: %q is not an octal mode: write one like \"0660\"", c.SocketMode)
	}
	switch c.Backend {
	case kernelbridge.BackendAuto, kernelbridge.BackendLSM, kernelbridge.BackendFanotify:
	default:
		bad("backend: %q is none: write auto, bpf-lsm or fanotify", c.Backend)
	}
	if c.Workers < 1 || c.Workers > abi.MaxWorkers {
		bad("workers: %d: give 1 to %d", c.Workers, abi.MaxWorkers)
	}
	if n := len(c.CPUs); n > 0 && n != c.Workers {
		bad("cpus: %d CPUs for %d workers: name one for each, or none", n, c.Workers)
	}
	if d := time.Duration(c.Wait); d <= 0 || d > kernelbridge.MaxWait {
		bad("wait: %v: give more than 0 and at most %v", d, kernelbridge.MaxWait)
	}
	if d := time.Duration(c.HoldLimit); d < 100*time.Millisecond || d > time.Minute {
		bad("hold_limit: %v: give 100ms to 1m", d)
	}
	if c.RateLimit <= 0 {
		bad("rate_limit: %v: give a number of calls a second above 0", c.RateLimit)
	}
	if _, ok := logLevels[c.LogLevel]; !ok {
		bad("log_level: %q is none: write debug, info, warn or error", c.LogLevel)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("checking the configuration:\n%w", err)
	}
	return nil
}

// workerCPUs returns where each worker is pinned: as configured, or from the last
// CPU that the daemon may use downwards, for the first one is where interrupts go.
func (c *config) workerCPUs(allowed []int) []int {
	if len(c.CPUs) > 0 {
		return c.CPUs
	}
	cpus := make([]int, c.Workers)
	for i := range cpus {
		cpus[i] = -1
		if i < len(allowed) {
			cpus[i] = allowed[len(allowed)-1-i]
		}
	}
	return cpus
}
