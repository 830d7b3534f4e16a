// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxCPUs is what a set of CPUs holds, CPU_SETSIZE.
const maxCPUs = 1024

// maxScans is how many connections to a scanner there may be.
const maxScans = 64

// maxScanTime is the default of clamd's limit of that name.
const maxScanTime = 2 * time.Minute

// check returns everything that is wrong with the values, in the order of the sample
// file. usable are the CPUs that this process may use.
func (c *config) check(usable []int) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.Socket) {
		bad("socket: %q is not an absolute path: begin it with /", c.Socket)
	}
	if n := len(c.Socket); n > control.MaxSocketPath {
		bad("socket: the path has %d bytes: give one of at most %d, like %s", n, control.MaxSocketPath, defaults().Socket)
	}
	if mode, err := strconv.ParseUint(c.SocketMode, 8, 32); err != nil || mode > 0o777 {
		bad("socket_mode: %q is not an octal mode: write one like \"0660\"", c.SocketMode)
	}
	if _, err := control.LookupGroup(c.SocketGroup); err != nil {
		bad("socket_group: %w", err)
	}
	if !(c.RateLimit > 0) || math.IsInf(c.RateLimit, 0) { // NaN is not above 0 either
		bad("rate_limit: %v: give a number of calls a second above 0", c.RateLimit)
	}
	if _, ok := tellings[c.WhyForAll]; !ok {
		bad("why_for_all: %q is none: give off, messages or ids", c.WhyForAll)
	}
	if !filepath.IsAbs(c.StateDir) {
		bad("state_dir: %q is not an absolute path: begin it with /", c.StateDir)
	}
	if c.TrustedKeys != "" && !filepath.IsAbs(c.TrustedKeys) {
		bad("trusted_keys: %q is not an absolute path: begin it with /", c.TrustedKeys)
	}
	if c.RequireSigned && c.TrustedKeys == "" {
		bad("require_signed: no key is trusted: name the directory of the public keys in trusted_keys")
	}
	switch c.Backend {
	case kernelbridge.BackendAuto, kernelbridge.BackendLSM, kernelbridge.BackendFanotify:
	default:
		bad("backend: %q is none: write auto, bpf-lsm or fanotify", c.Backend)
	}
	if d := time.Duration(c.Wait); d <= 0 || d > kernelbridge.MaxWait {
		bad("wait: %v: give more than 0 and at most %v", d, kernelbridge.MaxWait)
	}
	if d := time.Duration(c.HoldLimit); d < 100*time.Millisecond || d > time.Minute {
		bad("hold_limit: %v: give 100ms to 1m", d)
	}
	if key, err := hex.DecodeString(c.MaintenanceKey); err != nil || c.MaintenanceKey != "" && len(key) != sha256.Size {
		bad("maintenance_key: %q is no SHA-256 in hex: write what arbiterctl maintenance key prints for the daemon", c.MaintenanceKey)
	}
	if c.Survive != surviveOpen && c.Survive != surviveClosed {
		bad("survive: %q is none: write open or closed", c.Survive)
	}
	for key, path := range map[string]string{"survive_pins": c.SurvivePins, "break_glass": c.BreakGlass} {
		if !filepath.IsAbs(path) || len(filepath.Base(path)) > 63 {
			bad("%s: %q is not an absolute path with a name of at most 63 bytes", key, path)
		}
	}
	if c.Workers < 1 || c.Workers > abi.MaxWorkers {
		bad("workers: %d: give 1 to %d", c.Workers, abi.MaxWorkers)
	}
	errs = append(errs, c.checkCPUs(usable)...)
	if c.CacheEntries > cache.MaxEntries {
		bad("cache_entries: %d: give at most %d, or a number below 0 for no cache", c.CacheEntries, cache.MaxEntries)
	}
	if c.DigestMaxSize < 1 {
		bad("digest_max_size: %d: give a number of bytes above 0, such as %d", c.DigestMaxSize, defaults().DigestMaxSize)
	}
	errs = append(errs, c.Scanner.check(c.DigestMaxSize)...)
	if c.Metrics != "" {
		_, port, err := net.SplitHostPort(c.Metrics)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			bad("metrics: %q is no host:port: write one like 127.0.0.1:9464", c.Metrics)
		}
	}
	if _, ok := logLevels[c.LogLevel]; !ok {
		bad("log_level: %q is none: write debug, info, warn or error", c.LogLevel)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("checking the configuration:\n%w", err)
	}
	return nil
}

// check returns what is wrong with it; a file that is scanned is hashed, too, up to hashed bytes.
func (s *scanner) check(hashed int64) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Clamd != "" && (!filepath.IsAbs(s.Clamd) || len(s.Clamd) > control.MaxSocketPath) {
		bad("scanner.clamd: %q is not an absolute path of at most %d bytes: give LocalSocket of clamd.conf, like /run/clamav/clamd.ctl", s.Clamd, control.MaxSocketPath)
	}
	if d := time.Duration(s.Timeout); d < 100*time.Millisecond || d >= maxScanTime {
		bad("scanner.timeout: %v: give at least 100ms, and less than %v: after MaxScanTime of clamd.conf, which is that unless it is set, clamd calls a file clean that it has not read to its end", d, maxScanTime)
	}
	if s.Connections < 1 || s.Connections > maxScans {
		bad("scanner.connections: %d: give 1 to %d, below MaxThreads of clamd.conf", s.Connections, maxScans)
	}
	if s.MaxSize < 1 || s.Clamd != "" && hashed >= 1 && s.MaxSize > hashed {
		bad("scanner.max_size: %d: give a number of bytes above 0, not above digest_max_size, and not above MaxFileSize of clamd.conf", s.MaxSize)
	}
	if d := time.Duration(s.MaxAge); d < time.Second || d > 24*time.Hour {
		bad("scanner.max_age: %v: give 1s to 24h", d)
	}
	return errs
}

func (c *config) checkCPUs(usable []int) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := len(c.CPUs); n > 0 && n != c.Workers {
		bad("cpus: %d CPUs for %d workers: name one for each, or none", n, c.Workers)
	}
	for i, cpu := range c.CPUs {
		switch {
		case cpu < 0 || cpu >= maxCPUs:
			bad("cpus: %d is no CPU: give numbers from 0 to %d", cpu, maxCPUs-1)
		case slices.Contains(c.CPUs[:i], cpu):
			bad("cpus: %d is there twice: give each worker its own", cpu)
		case !slices.Contains(usable, cpu):
			bad("cpus: the daemon may not use %d: choose from %s", cpu, ranges(usable))
		}
	}
	return errs
}

// ranges writes sorted numbers like 0-3,8.
func ranges(sorted []int) string {
	var parts []string
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		part := strconv.Itoa(sorted[i])
		if j > i {
			part += "-" + strconv.Itoa(sorted[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// usableCPUs returns the CPUs that this process may use, in their order.
func usableCPUs() (usable []int, err error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("reading the CPUs that the daemon may use: %w", err)
	}
	for cpu := range maxCPUs {
		if allowed.IsSet(cpu) {
			usable = append(usable, cpu)
		}
	}
	return usable, nil
}
