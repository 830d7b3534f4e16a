// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "arbiterd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig(t *testing.T) {
	usable, err := usableCPUs()
	if err != nil {
		t.Fatal(err)
	}
	cpus := usable[len(usable)-1:]
	path := writeConfig(t, fmt.Sprintf("cpus: %v\n", cpus)+"socket: /x/s\nworkers: 1\nwait: 2ms\nadmin: {uids: [7], gids: [8]}\nlog_level: debug\n")
	cfg, err := loadConfig([]string{"--config", path, "--wait", "7ms", "--state-dir", "/x/state"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Socket != "/x/s" || cfg.Workers != 1 || !slices.Equal(cfg.CPUs, cpus) || !slices.Equal(cfg.Admin.UIDs, []uint32{7}) || cfg.LogLevel != "debug" {
		t.Errorf("from the file: %+v", cfg)
	}
	if time.Duration(cfg.Wait) != 7*time.Millisecond || cfg.StateDir != "/x/state" {
		t.Errorf("flags do not win: wait %v, state dir %s", time.Duration(cfg.Wait), cfg.StateDir)
	}
	if cfg.CacheEntries != defaults().CacheEntries {
		t.Errorf("cache_entries %d, want the default", cfg.CacheEntries)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		args       []string
		want       []string // all in the error, in this order
	}{
		{"everything at once", "socket: rel\nbackend: magic\nworkers: 99\nwait: 5s\nsocket_mode: \"99\"\nlog_level: loud\nstate_dir: here\n" +
			"socket_group: no-such-group\nrate_limit: .nan\ncache_entries: 2000000\nmetrics: localhost\n", nil,
			[]string{"socket: \"rel\"", "socket_mode", "socket_group", "no-such-group", "groupadd", "rate_limit: NaN", "state_dir: \"here\"", "backend: \"magic\"",
				"wait: 5s", "workers: 99", "cache_entries: 2000000", "1048576", "metrics: \"localhost\"", "127.0.0.1:9464", "log_level"}},
		{"YAML and values at once", "workers: many\nwait: soon\nbackend: magic\nsockets: /x\n", nil,
			[]string{"line 1: \"many\" does not fit here: write a whole number", "line 2: \"soon\"", "line 4: there is no key \"sockets\"", "backend: \"magic\""}},
		{"a key that is no sum", "maintenance_key: abc\n", nil, []string{"maintenance_key: \"abc\"", "arbiterctl maintenance key"}},
		{"a word that says nothing of why", "why_for_all: all\n", nil, []string{"why_for_all: \"all\" is none: give off, messages or ids"}},
		{"rate without end", "rate_limit: .inf\n", nil, []string{"rate_limit: +Inf"}},
		{"long socket path", "socket: /" + strings.Repeat("x", 103) + "\n", nil, []string{"socket: the path has 104 bytes", "at most 103"}},
		{"port that is none", "metrics: \"127.0.0.1:70000\"\n", nil, []string{"metrics: \"127.0.0.1:70000\" is no host:port"}},
		{"second document", "workers: 1\n---\nworkers: 2\n", nil, []string{"line 2: a second document", "---"}},
		{"unknown key", "sockets: /x\n", nil, []string{"there is no key \"sockets\"", "docs/operations.md"}},
		{"unknown inner key", "admin: {users: [1]}\n", nil, []string{"there is no key \"users\" here: write uids or gids"}},
		{"a scanner that cannot be", "scanner: {clamd: run/ctl, timeout: 5ms, connections: 65, max_size: 0, max_age: 25h}\n", nil, []string{"scanner.clamd: \"run/ctl\"", "LocalSocket",
			"scanner.timeout: 5ms", "scanner.connections: 65", "1 to 64", "scanner.max_size: 0", "scanner.max_age: 25h"}},
		{"a scan that clamd ends first", "scanner: {timeout: 2m}\n", nil, []string{"scanner.timeout: 2m0s: give at least 100ms, and less than 2m0s: after MaxScanTime of clamd.conf"}},
		{"scanned and not hashed", "digest_max_size: 1000\nscanner: {clamd: /run/ctl}\n", nil, []string{"scanner.max_size: 26214400", "not above digest_max_size"}},
		{"a scanner of another kind", "scanner: {socket: /run/x}\n", nil, []string{"there is no key \"socket\" here: write clamd"}},
		{"a text for a scanner", "scanner: /run/clamd.ctl\n", nil, []string{"line 1: \"/run/cl...\" does not fit here: write keys like {clamd: /run/clamav/clamd.ctl}"}},
		{"a size that is none", "scanner: {max_size: 25M}\n", nil, []string{"line 1: \"25M\" does not fit here: write a whole number"}},
		{"text for a list", "admin: root\n", nil, []string{"line 1: \"root\" does not fit here: write lists like {uids: [0], gids: []}"}},
		{"list for a text", "socket: [a]\n", nil, []string{"line 1: a list does not fit here: write a text"}},
		{"text for a file", "hello\n", nil, []string{"line 1: \"hello\" does not fit here: write lines like"}},
		{"uid that is none", "admin: {uids: [-1]}\n", nil, []string{"line 1: \"-1\" does not fit here: write a number from 0"}},
		{"not a duration", "wait: soon\n", nil, []string{"line 1", "soon", "5ms"}},
		{"not YAML", "{", nil, []string{"reading the configuration", "line 1"}},
		{"CPUs that do not fit", "workers: 2\ncpus: [1]\n", nil, []string{"cpus: 1 CPUs for 2 workers"}},
		{"argument", "", []string{"start"}, []string{"\"start\"", "--help"}},
		{"flag that is none", "", []string{"--nope"}, []string{"-nope", "see arbiterd --help"}},
		{"bad flag value", "", []string{"--cpus", "a"}, []string{"not a CPU number", "see arbiterd --help"}},
		{"bad duration flag", "", []string{"--wait", "a"}, []string{"-wait", "5ms"}},
		{"missing file", "", []string{"--config", "/nowhere/x.yaml"}, []string{"/nowhere/x.yaml", "create it, or give another with --config"}},
		{"file that is a directory", "", []string{"--config", "/"}, []string{"is a directory", "--config"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"--config", writeConfig(t, tc.text)}, tc.args...)
			var out bytes.Buffer
			_, err := loadConfig(args, &out)
			if err == nil {
				t.Fatal("no error")
			}
			rest := err.Error()
			for _, want := range tc.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("error %q lacks %q, or has it earlier", err, want)
				}
				rest = after
			}
			for _, not := range []string{"!!", "main.", "unmarshal", "yaml: line"} {
				if strings.Contains(err.Error(), not) {
					t.Errorf("error %q has %q", err, not)
				}
			}
			if out.Len() > 0 {
				t.Errorf("printed besides: %s", out.String())
			}
		})
	}
}

func TestConfigCPUs(t *testing.T) {
	for _, tc := range []struct {
		name string
		cpus []int
		want []string
	}{
		{"as they should be", []int{0, 8}, nil},
		{"twice", []int{2, 2}, []string{"2 is there twice"}},
		{"below 0", []int{-1, 1}, []string{"-1 is no CPU: give numbers from 0 to 1023"}},
		{"beyond a set", []int{1024, 1}, []string{"1024 is no CPU"}},
		{"not allowed", []int{1, 5}, []string{"may not use 5: choose from 0-3,8"}},
		{"everything", []int{5, 5}, []string{"may not use 5", "5 is there twice"}},
	} {
		c := defaults()
		c.Workers, c.CPUs = 2, tc.cpus
		got := c.checkCPUs([]int{0, 1, 2, 3, 8})
		if len(got) != len(tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(got[i].Error(), want) {
				t.Errorf("%s: %q, want %q", tc.name, got[i], want)
			}
		}
	}
}

// What is wrong with flags and configuration ends with 2, in as many lines as mistakes.
func TestExitOfWrongConfig(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		exit  int
		lines int // on stderr
	}{
		{[]string{"--nope"}, 2, 1},
		{[]string{"--cpus", "1023", "--workers", "1"}, 2, 2},
		{[]string{"--version"}, 0, 0},
		{[]string{"--help"}, 0, 0},
	} {
		cmd, log := daemonCommand(t.TempDir(), tc.args...)
		out, err := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != tc.exit {
			t.Errorf("%v: exit %d (%v), want %d", tc.args, got, err, tc.exit)
		}
		if got := strings.Count(log.String(), "\n"); got != tc.lines {
			t.Errorf("%v: %d lines, want %d: %s", tc.args, got, tc.lines, log)
		}
		if tc.exit == 0 && !strings.Contains(string(out), "arbiterd") {
			t.Errorf("%v: prints %q", tc.args, out)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := loadConfig([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("error %v, want flag.ErrHelp", err)
	}
	for _, want := range []string{"-config", "-socket", "-backend", "-rules"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %s: %s", want, out.String())
		}
	}
}

func TestWorkerCPUs(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cfg     config
		allowed []int
		want    []int
	}{
		{"from the last downwards", config{Workers: 2}, []int{0, 1, 2, 3}, []int{3, 2}},
		{"more workers than CPUs", config{Workers: 3}, []int{4, 5}, []int{5, 4, -1}},
		{"as configured", config{Workers: 2, CPUs: []int{0, 7}}, []int{0, 1}, []int{0, 7}},
	} {
		if got := tc.cfg.workerCPUs(tc.allowed); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestJournalLossIsAWarning(t *testing.T) {
	if got := lossWarning(0); got != "" {
		t.Errorf("no loss: got the warning %q", got)
	}
	if got := lossWarning(7); !strings.HasPrefix(got, "7 events were lost") {
		t.Errorf("7 lost: got the warning %q", got)
	}
}
