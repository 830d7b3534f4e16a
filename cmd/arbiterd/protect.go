// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/kernelbridge"
)

// ruleSelfProtection is what the events of the self-protection have in the place of a
// rule's id.
const ruleSelfProtection = "self-protection"

// startProtection protects the daemon and what it consists of, if it is to. A daemon that
// is to and cannot does not start: who asked for it relies on it.
func (d *daemon) startProtection(context.Context) (err error) {
	if !d.cfg.SelfProtection {
		return nil
	}
	d.protection, err = kernelbridge.OpenProtection(kernelbridge.ProtectionOptions{
		OnRefusal: func(r *kernelbridge.Refusal) { d.engine.Record(refusalEvent(r)) }, Logger: d.log})
	if err == nil {
		err = d.backend.protect(d.protection)
	}
	if err == nil {
		err = d.protectFiles()
	}
	if err == nil && d.old != nil && !d.old.gone {
		err = d.protection.ProtectProcess(d.old.pid)
	}
	if err != nil {
		return fmt.Errorf("starting the self-protection: %w; set self_protection: false to do without", err)
	}
	return nil
}

func (d *daemon) protectFiles() error {
	var errs []error
	for _, path := range []string{d.cfg.StateDir, d.cfg.File, d.cfg.Rules, d.cfg.TrustedKeys, d.cfg.Socket, d.cfg.Socket + ".lock"} {
		if info, err := os.Stat(path); path == "" || err == nil && info.Mode().Type() == os.ModeDevice|os.ModeCharDevice {
			continue // /dev/null as a configuration
		}
		errs = append(errs, d.protection.ProtectFile(path))
	}
	return errors.Join(errs...)
}

// admitSuccessor lets a daemon that is about to take over past the self-protection, and
// protects it. Only the program that is installed where this one was may: nobody puts
// another one there without a token.
func (d *daemon) admitSuccessor(pid int) error {
	if d.protection == nil {
		return nil
	}
	if err := mayFollow(pid); err != nil {
		return fmt.Errorf("self_protection: %w", err)
	}
	// From here on nobody can make it do what it does not do by itself; so once more.
	if err := d.protection.ProtectProcess(pid); err != nil {
		return err
	}
	if err := mayFollow(pid); err != nil {
		return errors.Join(fmt.Errorf("self_protection: %w", err), d.protection.LeaveProcess(pid))
	}
	return nil
}

// mayFollow says why a process is not the installed program that does as it likes.
func mayFollow(pid int) error {
	installed, err := os.Executable() // where it was when this process started
	if err != nil {
		return fmt.Errorf("finding the own program: %w", err)
	}
	want, err := os.Stat(installed)
	if err != nil {
		return fmt.Errorf("looking for the installed program: %w", err)
	}
	got, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !os.SameFile(got, want) {
		return fmt.Errorf("process %d is another program than the installed one: start %s", pid, installed)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !bytes.Contains(status, []byte("\nTracerPid:\t0\n")) {
		return fmt.Errorf("process %d is traced: start %s without a debugger", pid, installed)
	}
	return nil
}

// refusalEvent turns what the self-protection has refused into a record.
func refusalEvent(r *kernelbridge.Refusal) arbiter.Event {
	e := arbiter.Event{Event: r.Event, Verdict: "deny", Errno: uint16(unix.EPERM), Rule: ruleSelfProtection,
		Message: "arbiterd protects itself (" + r.Hook + ")", TGID: r.TGID, TID: r.TID, UID: r.UID, GID: r.GID,
		StartBoottime: r.StartBoottime, Comm: r.Comm, Path: r.Path, Dev: r.Dev, Ino: r.Ino}
	copy(e.Args[:], r.Args[:])
	return e
}

// protectionInfo adds what status says of it.
func (d *daemon) protectionInfo(i *control.Info) {
	i.SelfProtection = "off"
	if d.protection == nil {
		return
	}
	i.SelfProtection = "on"
	for _, err := range d.protection.Missing() {
		i.SelfProtection = "on in part"
		i.Warnings = append(i.Warnings, "self-protection: "+err.Error())
	}
	counters, err := d.protection.Counters()
	if err != nil {
		d.log.Error("reading the counters of the self-protection", slog.Any("error", err))
	}
	for name, n := range counters {
		i.KernelCounters["self_protection."+name] = n
	}
}

// maintenance is what lets processes past it, nil without a key.
func (d *daemon) maintenance() (control.Maintainer, []byte) {
	key, _ := hex.DecodeString(d.cfg.MaintenanceKey) // checked by config.check
	if d.protection == nil {
		return nil, nil
	}
	return d.protection, key
}
