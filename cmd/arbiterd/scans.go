// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// elfLoader is what execve opens beside each program, before the process is that program.
const elfLoader = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"

// ofClamd is what clamd has to do before it scans anything, and what it does meanwhile, with the
// paths that it has on Debian (amd64). When a scan is needed for that, clamd waits for itself.
var ofClamd = [...]struct {
	event         abi.Event
	role          abi.Role // of an exec
	exe, path, is string
	format        abi.Format
}{
	{abi.EventExec, abi.RoleProgram, "/usr/lib/systemd/systemd", "/usr/sbin/clamd", "its start", abi.FormatELF},
	{abi.EventExec, abi.RoleInterpreter, "/usr/lib/systemd/systemd", elfLoader, "its start by the ELF loader", abi.FormatELF},
	{abi.EventMMapExec, 0, "/usr/sbin/clamd", "/usr/lib/x86_64-linux-gnu/libclamav.so.12", "the mapping of its libraries", abi.FormatELF},
	{abi.EventOpen, 0, "/usr/sbin/clamd", "/var/lib/clamav/daily.cld", "the reading of its signatures", abi.FormatOther},
	{abi.EventOpen, 0, "/usr/sbin/clamd", "/tmp/clamav-0.tmp", "the opening of its temporary files", abi.FormatOther},
}

// scanWarnings says what of object.scan, which the rules look at, cannot be relied on. there: a
// scanner is configured; the kernel side gives up after bound.
func scanWarnings(rs *rules.RuleSet, there bool, bound time.Duration) (warnings []string) {
	add := func(format string, args ...any) {
		warnings = append(warnings, "object.scan: "+fmt.Sprintf(format, args...))
	}
	onFail := rs.OnFail(-1)
	if !there {
		add("nobody scans, so each file that has to be scanned goes on by the file's on_fail, %v; set scanner.clamd in the daemon's configuration", onFail)
	}
	if bound < time.Second {
		add("a task waits %v at most here (wait), in which few files are scanned for the first time; the others go on by the file's on_fail, %v", bound, onFail)
	}
	for _, c := range ofClamd {
		if waitsForScan(rs, c.event, c.role, c.exe, c.path, c.format) {
			add("clamd waits for itself: %s needs a scan (%v of %s by %s); write mute: {paths: [/usr/sbin/clamd, %s], exes: [/usr/sbin/clamd]}, let an earlier rule decide by path, or keep what is not for strangers to write out of the scope",
				c.is, c.event, c.path, c.exe, elfLoader)
		}
	}
	return warnings
}

// waitsForScan reports whether such an access is decided by a scan, by all that is known of it.
func waitsForScan(rs *rules.RuleSet, e abi.Event, role abi.Role, exe, path string, format abi.Format) bool {
	if !rs.Asks(&rules.Access{Event: e, Object: path, Exe: exe}) {
		return false
	}
	r := &abi.Request{Event: e, Mode: 0o100644, Access: abi.AccessRead, Have: abi.AllFields}
	if e == abi.EventExec {
		r.Access, r.Arg[abi.ArgRole] = abi.AccessExec, uint64(role)
	}
	r.PathLen, r.ExeLen = uint32(copy(r.PathBuf[:], path)), uint32(copy(r.ExeBuf[:], exe))
	r.Learn(&abi.Content{Known: abi.ContentFields &^ abi.FieldScan, Format: format, Verity: abi.Verity{Alg: abi.VerityNone}})
	return rs.Decide(r).Needs() == abi.FieldScan
}
