// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/content"
)

// duration is a time.Duration that YAML writes as "5ms".
type duration time.Duration

// UnmarshalYAML returns a TypeError, so that the decoder goes on to the next mistake.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is not a duration: write one like 5ms or 2s", n.Line, n.Value)}}
	}
	*d = duration(v)
	return nil
}

// access is who may use the control socket.
type access struct {
	UIDs []uint32 `yaml:"uids"`
	GIDs []uint32 `yaml:"gids"`
}

// scanner is who scans files for object.scan.
type scanner struct {
	Clamd       string   `yaml:"clamd"`       // clamd's socket; empty: nobody scans
	Timeout     duration `yaml:"timeout"`     // of one scan
	Connections int      `yaml:"connections"` // scans at once
	MaxSize     int64    `yaml:"max_size"`    // the largest file that is scanned, bytes
	MaxAge      duration `yaml:"max_age"`     // how long a result is remembered at most
}

// config is the configuration file. It is read once, at the start: SIGHUP pushes the
// file that Rules names, reads TrustedKeys and opens AuditLog anew, the rest needs a restart.
type config struct {
	Socket      string `yaml:"socket"`
	SocketMode  string `yaml:"socket_mode"`  // octal
	SocketGroup string `yaml:"socket_group"` // name or number; empty: the daemon's own
	StateDir    string `yaml:"state_dir"`
	Replace     bool   `yaml:"replace"` // take over from the daemon that serves the socket, if there is one
	// Rules is pushed when the store has no set yet, and on SIGHUP if it has changed.
	Rules string `yaml:"rules"`
	// TrustedKeys is a directory of public keys of minisign, *.pub, read again on SIGHUP;
	// empty: nobody's signature counts.
	TrustedKeys string `yaml:"trusted_keys"`
	// RequireSigned puts no rules in force that none of them has signed.
	RequireSigned bool `yaml:"require_signed"`

	Backend      string   `yaml:"backend"`
	Workers      int      `yaml:"workers"`
	CPUs         []int    `yaml:"cpus"`
	Wait         duration `yaml:"wait"`       // bpf-lsm: bound of one wait in the kernel
	HoldLimit    duration `yaml:"hold_limit"` // fanotify: bound of one hold
	Guard        bool     `yaml:"guard"`      // a process that ends a daemon that hangs
	AskRemote    bool     `yaml:"ask_remote"` // fanotify: FUSE and network file systems, too
	SpinFor      duration `yaml:"spin_for"`
	CacheEntries int      `yaml:"cache_entries"`
	// DigestMaxSize is the largest file that is hashed, bytes.
	DigestMaxSize int64   `yaml:"digest_max_size"`
	Scanner       scanner `yaml:"scanner"`

	// SelfProtection refuses others, root too, what would stop or change the daemon.
	SelfProtection bool `yaml:"self_protection"`
	// MaintenanceKey is the SHA-256 of the key that lets a process past it, in hex.
	MaintenanceKey string `yaml:"maintenance_key"`

	// Survive is what bpf-lsm does in its scope when the daemon is dead: open or closed.
	Survive     string   `yaml:"survive"`
	SurvivePins string   `yaml:"survive_pins"` // where closed pins the hooks, on a bpffs
	Rescue      []string `yaml:"rescue"`       // executables that go on all the same
	BreakGlass  string   `yaml:"break_glass"`  // the file that root makes to end it

	Admin    access `yaml:"admin"`
	ReadOnly access `yaml:"read_only"`
	// WhyForAll is what whoever can open the socket is told of what was refused to him: off,
	// messages or ids.
	WhyForAll string `yaml:"why_for_all"`
	// RateLimit bounds the control plane's calls, a second.
	RateLimit float64 `yaml:"rate_limit"`

	AuditLog string `yaml:"audit_log"` // file of JSON lines; empty: none. Reopened on SIGHUP
	Metrics  string `yaml:"metrics"`   // address of /metrics; empty: none
	LogLevel string `yaml:"log_level"`

	// File is the one that this was read from, empty for none.
	File string `yaml:"-"`
}

// Values of config.Survive.
const (
	surviveOpen   = "open"
	surviveClosed = "closed"
)

// tellings are the values of config.WhyForAll.
var tellings = map[string]control.Telling{"off": control.TellNothing, "messages": control.TellMessages, "ids": control.TellIDs}

// defaults returns the configuration without a file.
func defaults() config {
	return config{
		Socket: "/run/arbiter/arbiter.sock", SocketMode: "0660", StateDir: "/var/lib/arbiter",
		Backend: kernelbridge.BackendAuto, Workers: min(2, runtime.NumCPU()),
		Wait: duration(5 * time.Millisecond), HoldLimit: duration(5 * time.Second), Guard: true,
		SpinFor: duration(time.Millisecond), CacheEntries: 4096, DigestMaxSize: content.DefaultMaxBytes,
		Scanner: scanner{Timeout: duration(30 * time.Second), Connections: content.DefaultScansAtOnce, MaxSize: content.DefaultScanMaxBytes,
			MaxAge: duration(content.DefaultScanMaxAge)}, WhyForAll: "messages", RateLimit: 100,
		Survive: surviveOpen, SurvivePins: kernelbridge.DefaultPins, BreakGlass: "/run/arbiter/break-glass",
		Rescue:   []string{"/usr/lib/systemd/systemd", "/usr/bin/login", "/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/su", "/usr/local/sbin/arbiterd", "/usr/local/bin/arbiterctl"},
		LogLevel: "info",
	}
}

// defaultConfigPath is read when no --config is given, if it is there.
const defaultConfigPath = "/etc/arbiter/arbiterd.yaml"

// loadConfig reads flags and the file they name; flags win. It reports everything
// that is wrong at once. flag.ErrHelp means that what was asked for is printed.
func loadConfig(args []string, out io.Writer) (config, error) {
	cfg := defaults()
	// Twice over the flags: once to find the file, once to win over it.
	ahead := defaults()
	flags, asked := flagSet(&ahead)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(out)
		fmt.Fprintln(out, "Usage: arbiterd [flags]. The configuration file and its keys are in docs/operations.md.")
		flags.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, fmt.Errorf("%w; see arbiterd --help", err)
	case asked.version:
		fmt.Fprintln(out, "arbiterd", version())
		return cfg, flag.ErrHelp
	case flags.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q: arbiterd takes flags only, see arbiterd --help", flags.Arg(0))
	}
	read := readConfig(&cfg, asked.file)
	flags, _ = flagSet(&cfg)
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	usable, err := usableCPUs()
	if err != nil {
		return cfg, err
	}
	return cfg, errors.Join(read, cfg.check(usable))
}

// request is what flags ask for beside a configuration.
type request struct {
	file    string
	version bool
}

// flagSet returns the flags that override cfg. It prints nothing.
func flagSet(cfg *config) (*flag.FlagSet, *request) {
	f, asked := flag.NewFlagSet("arbiterd", flag.ContinueOnError), &request{}
	f.SetOutput(io.Discard)
	f.StringVar(&asked.file, "config", "", "configuration `file` (default "+defaultConfigPath+", if it is there)")
	f.BoolVar(&asked.version, "version", false, "print the version and exit")
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
	f.BoolVar(&cfg.Replace, "replace", cfg.Replace, "take over from the daemon that runs, without a gap")
	f.StringVar(&cfg.LogLevel, "log-level", cfg.LogLevel, "debug, info, warn or error")
	return f, asked
}

// durationFlag is a duration as a flag.Value.
type durationFlag duration

func (d *durationFlag) String() string { return time.Duration(*d).String() }

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("write a duration like 5ms or 2s")
	}
	*d = durationFlag(v)
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
