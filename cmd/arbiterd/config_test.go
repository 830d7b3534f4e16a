// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
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
	path := writeConfig(t, "socket: /x/s\nworkers: 1\ncpus: [3]\nwait: 2ms\nadmin: {uids: [7], gids: [8]}\nlog_level: debug\n")
	cfg, err := loadConfig([]string{"--config", path, "--wait", "7ms", "--state-dir", "/x/state"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Socket != "/x/s" || cfg.Workers != 1 || !slices.Equal(cfg.CPUs, []int{3}) || !slices.Equal(cfg.Admin.UIDs, []uint32{7}) || cfg.LogLevel != "debug" {
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
		want       []string // all in the error
	}{
		{"everything at once", "socket: rel\nbackend: magic\nworkers: 99\nwait: 5s\nsocket_mode: \"99\"\nlog_level: loud\n", nil,
			[]string{"socket: \"rel\"", "backend: \"magic\"", "workers: 99", "wait: 5s", "socket_mode", "log_level"}},
		{"unknown key", "sockets: /x\n", nil, []string{"sockets", "docs/operations.md"}},
		{"not a duration", "wait: soon\n", nil, []string{"line 1", "soon", "5ms"}},
		{"not YAML", "{", nil, []string{"reading the configuration"}},
		{"CPUs that do not fit", "workers: 2\ncpus: [1]\n", nil, []string{"cpus: 1 CPUs for 2 workers"}},
		{"argument", "", []string{"start"}, []string{"\"start\"", "--help"}},
		{"bad flag value", "", []string{"--cpus", "a"}, []string{"not a CPU number"}},
		{"missing file", "", []string{"--config", "/nowhere/x.yaml"}, []string{"/nowhere/x.yaml"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"--config", writeConfig(t, tc.text)}, tc.args...)
			_, err := loadConfig(args, &bytes.Buffer{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
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
