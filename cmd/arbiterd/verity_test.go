// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/content/veritytest"
)

// tinyProgram is an ELF file that exits with 0 and holds the mark, which makes its digests its own.
func tinyProgram(t *testing.T, mark string) []byte {
	t.Helper()
	machine, code := uint16(62), []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // mov $60, %eax; xor %edi, %edi; syscall
	switch runtime.GOARCH {
	case "amd64":
	case "arm64":
		machine, code = 183, []byte{0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4} // mov x8, 93; mov x0, 0; svc 0
	default:
		t.Skipf("no program is at hand for %s", runtime.GOARCH)
	}
	const base, head = 0x400000, 64 + 56
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	size := uint64(head + len(code) + len(mark))
	for _, v := range []any{uint16(2), machine, uint32(1), uint64(base + head), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096)} { // one segment to read and execute
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(code)
	b.WriteString(mark)
	return b.Bytes()
}

// verityRules tell programs and a file below a directory apart by what fs-verity says of them.
const verityRules = `version: 1
default: allow
on_fail: {deny: EIO}
deadline: 10s
scope: {paths: [%[1]q]}
sets:
  programs: [%[2]s, %[3]s]
rules:
  - id: known
    events: [exec]
    object: {path: {prefix: %[1]q}, fsverity: "@programs"}
    verdict: audit
  - id: sealed
    events: [exec]
    object: {path: {prefix: %[1]q}, fsverity: any}
    verdict: {deny: EPERM}
  - id: loose
    events: [exec]
    object: {path: {prefix: %[1]q}, fsverity: none}
    verdict: {deny: EPERM}
  - id: loose-data
    events: [open]
    object: {path: %[4]q}
    not: {object: {fsverity: any}}
    verdict: {deny: EPERM}
`

// Programs are known by the digest that the kernel keeps of them, on each backend; whatever has
// none, or another, is refused, also in the place of one that is known.
func TestVerityEndToEnd(t *testing.T) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { verityEndToEnd(t, backend) })
	}
}

func verityEndToEnd(t *testing.T, backend string) {
	dir := newTree(t)
	sealed := dir + "/tree/sealed"
	if err := os.Mkdir(sealed, 0o755); err != nil {
		t.Fatal(err)
	}
	veritytest.Mount(t, sealed)
	known, wide, other := tinyProgram(t, "known"), tinyProgram(t, strings.Repeat("wide", 5000)), tinyProgram(t, "other")
	for name, content := range map[string][]byte{"known": known, "wide": wide, "other": other, "loose": known, "data": []byte("x"), "sealed-data": []byte("x")} {
		if err := os.WriteFile(sealed+"/"+name, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	seal := func(name string, alg veritytest.Alg) {
		t.Helper()
		if err := veritytest.Enable(sealed+"/"+name, alg); err != nil {
			t.Fatal(err)
		}
	}
	seal("known", veritytest.SHA256)
	seal("wide", veritytest.SHA512)
	seal("other", veritytest.SHA256)
	seal("sealed-data", veritytest.SHA512)
	d := startDaemon(t, dir, "--backend", backend)
	knownDigest, wideDigest := veritytest.Digest(known, veritytest.SHA256), veritytest.Digest(wide, veritytest.SHA512)
	d.push(fmt.Sprintf(verityRules, sealed, knownDigest, wideDigest, sealed+"/data"))
	events := d.watch()
	// expect runs a program and wants that errno, and a record with that rule and digest.
	expect := func(want unix.Errno, program, record, digest string) {
		t.Helper()
		d.soon(want, "sealed/"+program)
		e := d.await(events, "exec "+record+" "+sealed+"/"+program)
		if e.Object.Fsverity != digest || e.Object.Sha256 != "" || e.Object.Format != "" {
			t.Errorf("%s: the record has %s, want %s and nothing else of the content", program, e.Object.Fsverity, digest)
		}
	}
	expect(0, "known", "audit known", knownDigest)
	expect(0, "wide", "audit known", wideDigest)
	expect(unix.EPERM, "other", "deny sealed", veritytest.Digest(other, veritytest.SHA256))
	expect(unix.EPERM, "loose", "deny loose", "none")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(sealed+"/"+from, sealed+"/"+to); err != nil {
			t.Fatal(err)
		}
	}
	move("loose", "known")
	expect(unix.EPERM, "known", "deny loose", "none")
	d.soon(unix.EPERM, "good", sealed+"/data")
	move("sealed-data", "data")
	d.soon(0, "good", sealed+"/data")
	if s := d.status(); s.KernelCounters["digest.measured"] < 6 || s.KernelCounters["digest.hashed"]+s.KernelCounters["digest.headers"] != 0 {
		t.Errorf("%v, want files measured and none read", s.KernelCounters)
	}
	d.stop()
}
