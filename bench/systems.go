// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// The folders of the comparison of systems: programs of the allowed one may be executed,
// those of the denied one may not. Each system is told exactly that, in its own words.
const (
	systemFolder  = "/tmp/arbiter-bench-systems"
	systemAllowed = systemFolder + "/allowed"
	systemDenied  = systemFolder + "/denied"
)

// system decides which programs may be executed, on a machine that is given to it.
type system struct {
	id, what string
	policy   string // as it is given to it
	// start puts the policy in force. dir is for its files; the end of ctx ends the wait.
	start func(ctx context.Context, dir, policy string) (inForce, error)
	// enter has the calling thread confined, for good; nil where everybody is.
	enter func() error
}

// inForce is a system that has been started.
type inForce struct {
	stop   func() error
	counts func() (workCounts, error) // what it was asked; nil where that cannot be had
}

// systemsOf are the systems of the comparison; arbiterd is the path of that program.
func systemsOf(arbiterd string) []system {
	start := func(ctx context.Context, dir, policy string) (_ inForce, err error) {
		program := arbiterd
		if program == "" {
			if program, err = arbiterdBeside(); err != nil {
				return inForce{}, err
			}
		}
		d, err := startArbiterd(ctx, program, dir, kernelbridge.BackendLSM, []byte(policy))
		if err != nil {
			return inForce{}, err
		}
		return inForce{d.close, d.counts}, nil
	}
	return []system{
		{id: "plain", what: "nobody is asked"},
		// Rules about paths, as fapolicyd's are: the kernel side allows by them alone.
		{id: "arbiter", what: "arbiterd on bpf-lsm", policy: arbiterPolicy(""), start: start},
		// The same said in a way that the kernel side cannot decide: whoever executes runs some program.
		{id: "arbiter-worker", what: "arbiterd on bpf-lsm, a worker decides", policy: arbiterPolicy(", subject: {exe: {prefix: /}}"), start: start},
		{id: "fapolicyd", what: "fapolicyd",
			policy: "allow perm=any all : dir=" + systemAllowed + "/\ndeny perm=any all : dir=" + systemDenied + "/\nallow perm=any all : all\n",
			start:  startFapolicyd},
		{id: "apparmor", what: "AppArmor, in the kernel",
			policy: "profile arbiter-bench flags=(attach_disconnected) {\n  capability,\n  network,\n  signal,\n  ptrace,\n  unix,\n  file,\n  " +
				"audit deny " + systemDenied + "/** x,\n}\n",
			start: startAppArmor, enter: enterAppArmor},
	}
}

// arbiterPolicy has one more condition on what is allowed.
func arbiterPolicy(more string) string {
	return "version: 1\ndefault: allow\non_fail: deny\nscope: {paths: [/tmp]}\nrules:\n" +
		"  - {id: allowed, events: [open, exec], object: {path: {prefix: " + systemAllowed + "/}}" + more + ", verdict: allow}\n" +
		"  - {id: denied, events: [open, exec], object: {path: {prefix: " + systemDenied + "/}}, verdict: deny}\n"
}

// fapolicydChanges is what is other than in the package's configuration: who it runs as, where nobody else is, and the
// database of packages, of which the machine has none.
var fapolicydChanges = map[string]string{"uid": "root", "gid": "root", "trust": "file"}

// fapolicydConfig makes these changes.
func fapolicydConfig(packaged string) (string, error) {
	var b strings.Builder
	changed := 0
	for line := range strings.Lines(packaged) {
		key, _, _ := strings.Cut(line, "=")
		if v, ok := fapolicydChanges[strings.TrimSpace(key)]; ok {
			line = strings.TrimSpace(key) + " = " + v + "\n"
			changed++
		}
		b.WriteString(line)
	}
	if changed != len(fapolicydChanges) {
		return "", fmt.Errorf("changing fapolicyd's configuration: got %d of the lines %v, want each once", changed, slices.Sorted(maps.Keys(fapolicydChanges)))
	}
	return b.String(), nil
}

const (
	fapolicydProgram  = "/usr/sbin/fapolicyd"
	fapolicydPID      = "/run/fapolicyd.pid"
	fapolicydPackaged = "/usr/share/fapolicyd/fapolicyd.conf" // where scripts/systems puts the package's configuration
	// systemLimit bounds the start and the end of a system, on an emulated machine: half of what
	// the parent waits for, as one that does not end is killed, and waited for again.
	systemLimit = slowStart / 3
	// systemLook is between two looks whether it has come to that.
	systemLook = 20 * time.Millisecond
)

func startFapolicyd(ctx context.Context, _, policy string) (inForce, error) {
	if _, err := os.Stat(fapolicydProgram); err != nil {
		return inForce{}, &UnavailableError{"looking for fapolicyd", "run scripts/systems, which brings it along", err}
	}
	packaged, err := os.ReadFile(fapolicydPackaged)
	if err != nil {
		return inForce{}, &UnavailableError{"looking for fapolicyd's configuration", "run scripts/systems, which brings it along", err}
	}
	config, err := fapolicydConfig(string(packaged))
	if err != nil {
		return inForce{}, err
	}
	// A trusted file, as it refuses to begin without any.
	trusted := systemFolder + "/trusted"
	files := map[string]string{"/etc/fapolicyd/fapolicyd.conf": config, "/etc/fapolicyd/compiled.rules": policy,
		"/etc/fapolicyd/fapolicyd.trust": trusted + " 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", trusted: "",
		"/var/lib/fapolicyd/.arbiter-bench": "", "/run/fapolicyd/.arbiter-bench": "", "/var/log/.arbiter-bench": ""}
	if err := writeFiles("/", files); err != nil {
		return inForce{}, err
	}
	// It goes into the background by itself.
	var said bytes.Buffer
	cmd := exec.Command(fapolicydProgram)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return inForce{}, errors.Join(fmt.Errorf("starting fapolicyd: %w: %s", err, bytes.TrimSpace(said.Bytes())), endProgram(fapolicydProgram))
	}
	err = eventually(ctx, func() error {
		_, err := os.Stat(fapolicydPID)
		return err
	})
	stop := func() error { return errors.Join(endProgram(fapolicydProgram), os.RemoveAll(fapolicydPID)) } // it does so itself, mostly
	if err != nil {
		return inForce{}, errors.Join(fmt.Errorf("waiting for fapolicyd: %w: %s", err, bytes.TrimSpace(said.Bytes())), stop())
	}
	return inForce{stop: stop}, nil
}

// endProgram ends the processes of a program that goes into the background, whether or not it has come to
// say which it is: SIGTERM, then SIGKILL to who is still there after systemLimit.
func endProgram(program string) error {
	signal := unix.SIGTERM
	gone := func() error {
		pids, err := pidsOf(program)
		for _, pid := range pids {
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("ending %s: %w", program, err)
			}
			err = fmt.Errorf("ending %s: process %d is still there", program, pid)
		}
		return err
	}
	err := eventually(context.Background(), gone)
	if err == nil {
		return nil
	}
	signal = unix.SIGKILL
	return errors.Join(err, eventually(context.Background(), gone))
}

// pidsOf returns the processes that run a program.
func pidsOf(program string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, fmt.Errorf("looking for the processes of %s: %w", program, err)
	}
	var pids []int
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != program { // it may have ended
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return nil, fmt.Errorf("looking for the processes of %s: %w", program, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

const (
	appArmorParser  = "/sbin/apparmor_parser"
	appArmorEnabled = "/sys/module/apparmor/parameters/enabled"
)

func startAppArmor(_ context.Context, dir, policy string) (inForce, error) {
	on, err := os.ReadFile(appArmorEnabled)
	if err != nil || !bytes.HasPrefix(on, []byte("Y")) {
		return inForce{}, &UnavailableError{"looking for AppArmor", "boot a kernel that has it on", err}
	}
	profile := filepath.Join(dir, "profile")
	if err := writeFiles("/", map[string]string{profile: policy}); err != nil {
		return inForce{}, err
	}
	parse := func(how string) error {
		out, err := exec.Command(appArmorParser, how, "--skip-cache", profile).CombinedOutput()
		if errors.Is(err, os.ErrNotExist) {
			return &UnavailableError{"looking for apparmor_parser", "run scripts/systems, which brings it along", err}
		}
		if err != nil {
			return fmt.Errorf("loading the profile: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := parse("--replace"); err != nil {
		return inForce{}, err
	}
	return inForce{stop: func() error { return parse("--remove") }}, nil
}

// enterAppArmor puts the calling thread under the profile.
func enterAppArmor() error {
	if err := os.WriteFile("/proc/thread-self/attr/apparmor/current", []byte("changeprofile arbiter-bench"), 0); err != nil {
		return fmt.Errorf("putting a thread under the profile: %w", err)
	}
	return nil
}

// eventually calls f until it has no error, for systemLimit at most. The end of ctx ends the wait.
func eventually(ctx context.Context, f func() error) error {
	for begin := time.Now(); ; {
		err := f()
		if err == nil || time.Since(begin) > systemLimit {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(systemLook):
		}
	}
}
