// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// formatRules refuse that ELF files are opened as data, and that anything but an ELF file is
// executed outside of scripts.
const formatRules = `version: 1
default: allow
deadline: 10s
scope: {paths: [%[1]q]}
rules:
  - id: scripts
    events: [exec]
    object: {path: {prefix: %[2]q}, format: script}
    verdict: allow
  - id: programs
    events: [exec]
    object: {format: elf}
    verdict: allow
  - id: nothing-else
    events: [exec]
    verdict: {deny: EPERM}
  - id: no-programs-as-data
    events: [open]
    object: {path: %[3]q, format: elf}
    verdict: {deny: EPERM}
`

// put makes a file of the tree, of that size if it is not 0, in the place of the one before,
// which nobody may open, perhaps.
func (d *runs) put(name, text string, mode os.FileMode, size int64) {
	d.t.Helper()
	path := d.tree + "/" + name
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
	if size > 0 {
		if err := os.Truncate(path+".new", size); err != nil {
			d.t.Skipf("no file is as large here: %v", err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

// Programs and scripts are told apart by what they begin with, whatever their names are.
func TestFormatsOfExecs(t *testing.T) {
	dir := newTree(t)
	if err := os.Mkdir(dir+"/tree/scripts", 0o755); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir)
	for _, name := range []string{"script", "scripts/script"} {
		d.put(name, "#!"+d.tree+"/good\n", 0o755, 0)
	}
	d.push(fmt.Sprintf(formatRules, d.tree, d.tree+"/scripts", d.tree+"/plain"))
	events := d.watch()
	d.soon(0, "good")
	d.soon(unix.EPERM, "script")
	e := d.await(events, "exec deny nothing-else "+d.tree+"/script")
	if e.Object.Format != "script" || e.Object.Sha256 != "" || !strings.Contains(strings.Join(e.Facts, " "), "format") {
		t.Errorf("the record has the format %q, the digest %q, the facts %v", e.Object.Format, e.Object.Sha256, e.Facts)
	}
	d.soon(0, "scripts/script")
	if s := d.status(); s.KernelCounters["digest.headers"] < 3 || s.KernelCounters["digest.bytes"] != 0 {
		t.Errorf("%v, want headers and no byte hashed", s.KernelCounters)
	}
	d.stop()
}

// The same for what is opened, also of a file that is larger than what is hashed, and of a
// directory.
func TestFormatsOfOpens(t *testing.T) {
	dir := newTree(t)
	config := dir + "/config.yaml"
	if err := os.WriteFile(config, []byte("digest_max_size: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "--config", config)
	plain := d.tree + "/plain"
	d.push(fmt.Sprintf(formatRules, d.tree, d.tree+"/scripts", plain))
	events := d.watch()
	for _, tc := range []struct {
		name, text string
		size       int64
		want       unix.Errno
	}{
		{"an ELF file", "\x7fELF\x02\x01\x01", 0, unix.EPERM},
		{"a script", "#!/bin/sh\n", 0, 0},
		{"an empty file", "", 0, 0},
		{"the beginning of one", "\x7fEL", 0, 0},
		{"one of 16 MiB", "\x7fELF", 16 << 20, unix.EPERM},
		{"a text of 16 MiB", "text", 16 << 20, 0},
	} {
		d.put("plain", tc.text, 0o644, tc.size)
		if d.soon(tc.want, "good", plain); tc.want != 0 {
			if e := d.await(events, "open deny no-programs-as-data "+plain); e.Object.Format != "elf" {
				t.Errorf("%s: the record has the format %q", tc.name, e.Object.Format)
			}
		}
	}
	if err := os.Remove(plain); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(plain); err != nil {
		t.Errorf("a directory: %v", err)
	}
	if s := d.status(); s.Counters.Failed["no_digest"] != 0 || s.KernelCounters["digest.headers"] < 6 || s.KernelCounters["digest.bytes"] != 0 {
		t.Errorf("failed %v, %v; want no no_digest, and no byte hashed", s.Counters.Failed, s.KernelCounters)
	}
	d.stop()
}

// A rule about format and digest has the file hashed only if the format is the one.
func TestFormatsAndDigests(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	const known = "\x7fELF and more"
	d.push(fmt.Sprintf("version: 1\ndefault: allow\non_fail: {deny: EPERM}\ndeadline: 10s\nscope: {paths: [%[1]q]}\nrules:\n"+
		"- {id: known, events: [open], object: {path: %[2]q, format: elf, sha256: %[3]x}, verdict: audit}\n"+
		"- {id: strange, events: [open], object: {path: %[2]q, format: elf}, verdict: {deny: EPERM}}\n", d.tree, d.tree+"/plain", sha256.Sum256([]byte(known))))
	events := d.watch()
	d.soon(0, "good", d.tree+"/plain") // other
	if n := d.status().KernelCounters["digest.hashed"]; n != 0 {
		t.Errorf("%d files hashed whose format is not the one", n)
	}
	d.put("plain", known, 0o644, 0)
	d.soon(0, "good", d.tree+"/plain")
	e := d.await(events, "open audit known "+d.tree+"/plain")
	if e.Object.Format != "elf" || e.Object.Sha256 != fmt.Sprintf("%x", sha256.Sum256([]byte(known))) {
		t.Errorf("the record has the format %q and the digest %s", e.Object.Format, e.Object.Sha256)
	}
	d.change("plain", "x")
	d.soon(unix.EPERM, "good", d.tree+"/plain")
	d.await(events, "open deny strange "+d.tree+"/plain")
	c := d.status().KernelCounters
	if c["digest.headers"] < 3 || c["digest.hashed"] < 2 {
		t.Errorf("counters %v, want headers and hashed files", c)
	}
	d.stop()
}
