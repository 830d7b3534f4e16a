// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	// start puts the policy in force and returns what ends it. dir is for its files.
	start func(dir, policy string) (stop func() error, err error)
	// enter has the calling thread confined, for good; nil where everybody is.
	enter func() error
}

// systemsOf are the systems of the comparison; arbiterd is the path of that program.
func systemsOf(arbiterd string) []system {
	return []system{
		{id: "plain", what: "nobody is asked"},
		{id: "arbiter", what: "arbiterd on bpf-lsm",
			policy: "version: 1\ndefault: allow\nscope: {paths: [/tmp]}\nrules:\n" +
				"  - {id: allowed, events: [open, exec], object: {path: {prefix: " + systemAllowed + "/}}, verdict: allow}\n" +
				"  - {id: denied, events: [open, exec], object: {path: {prefix: " + systemDenied + "/}}, verdict: deny}\n",
			start: func(dir, policy string) (_ func() error, err error) {
				program := arbiterd
				if program == "" {
					if program, err = arbiterdBeside(); err != nil {
						return nil, err
					}
				}
				d, err := startArbiterd(context.Background(), program, dir, kernelbridge.BackendLSM, []byte(policy))
				if err != nil {
					return nil, err
				}
				return d.close, nil
			}},
		{id: "fapolicyd", what: "fapolicyd",
			policy: "allow perm=any all : dir=" + systemAllowed + "/\ndeny perm=any all : dir=" + systemDenied + "/\nallow perm=any all : all\n",
			start:  startFapolicyd},
		{id: "apparmor", what: "AppArmor, in the kernel",
			policy: "profile arbiter-bench flags=(attach_disconnected) {\n  capability,\n  network,\n  signal,\n  ptrace,\n  unix,\n  file,\n  " +
				"audit deny " + systemDenied + "/** x,\n}\n",
			start: startAppArmor, enter: enterAppArmor},
	}
}

// fapolicydConfig is Debian's, but for who it runs as, where nobody else is, and for
// the database of packages, of which the machine has none.
const fapolicydConfig = `permissive = 0
nice_val = 14
q_size = 640
uid = root
gid = root
do_stat_report = 0
detailed_report = 0
db_max_size = 50
subj_cache_size = 1549
obj_cache_size = 8191
watch_fs = ext2,ext3,ext4,tmpfs,xfs,vfat,iso9660,btrfs
trust = file
integrity = none
syslog_format = rule,dec,perm,auid,pid,exe,:,path,ftype,trust
rpm_sha256_only = 0
allow_filesystem_mark = 0
`

const (
	fapolicydProgram = "/usr/sbin/fapolicyd"
	fapolicydPID     = "/run/fapolicyd.pid"
	// systemLimit bounds the start and the end of a system, on an emulated machine.
	systemLimit = time.Minute
	// systemLook is between two looks whether it has come to that.
	systemLook = 20 * time.Millisecond
)

func startFapolicyd(_, policy string) (func() error, error) {
	if _, err := os.Stat(fapolicydProgram); err != nil {
		return nil, &UnavailableError{"looking for fapolicyd", "run scripts/systems, which brings it along", err}
	}
	// A trusted file, as it refuses to begin without any.
	trusted := systemFolder + "/trusted"
	files := map[string]string{"/etc/fapolicyd/fapolicyd.conf": fapolicydConfig, "/etc/fapolicyd/compiled.rules": policy,
		"/etc/fapolicyd/fapolicyd.trust": trusted + " 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", trusted: "",
		"/var/lib/fapolicyd/.arbiter-bench": "", "/run/fapolicyd/.arbiter-bench": "", "/var/log/.arbiter-bench": ""}
	if err := writeFiles("/", files); err != nil {
		return nil, err
	}
	// It goes into the background by itself.
	var said bytes.Buffer
	cmd := exec.Command(fapolicydProgram)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("starting fapolicyd: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	pid := 0
	err := eventually(func() error {
		text, err := os.ReadFile(fapolicydPID)
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for fapolicyd: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return func() error {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			return fmt.Errorf("ending fapolicyd: %w", err)
		}
		err := eventually(func() error {
			if err := unix.Kill(pid, 0); err == nil {
				return errors.New("it is still there")
			}
			return nil
		})
		return errors.Join(err, os.RemoveAll(fapolicydPID)) // it does so itself, mostly
	}, nil
}

const (
	appArmorParser  = "/sbin/apparmor_parser"
	appArmorEnabled = "/sys/module/apparmor/parameters/enabled"
)

func startAppArmor(dir, policy string) (func() error, error) {
	on, err := os.ReadFile(appArmorEnabled)
	if err != nil || !bytes.HasPrefix(on, []byte("Y")) {
		return nil, &UnavailableError{"looking for AppArmor", "boot a kernel that has it on", err}
	}
	profile := filepath.Join(dir, "profile")
	if err := writeFiles("/", map[string]string{profile: policy}); err != nil {
		return nil, err
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
		return nil, err
	}
	return func() error { return parse("--remove") }, nil
}

// enterAppArmor puts the calling thread under the profile.
func enterAppArmor() error {
	if err := os.WriteFile("/proc/thread-self/attr/apparmor/current", []byte("changeprofile arbiter-bench"), 0); err != nil {
		return fmt.Errorf("putting a thread under the profile: %w", err)
	}
	return nil
}

// eventually calls f until it has no error, or for systemLimit.
func eventually(f func() error) error {
	for begin := time.Now(); ; time.Sleep(systemLook) {
		err := f()
		if err == nil || time.Since(begin) > systemLimit {
			return err
		}
	}
}
