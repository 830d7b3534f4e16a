// SPDX-License-Identifier: Apache-2.0

// Package vmtest runs Go tests inside a virtual machine on Debian's own kernels.
//
// The BPF programs of this project need kernels that let them load, and the project claims several of them. This
// package is the bench for that: qemu under software emulation (no KVM, no root, no network in the guest), a kernel
// taken from the Debian archive that the machine's apt already uses, and an initramfs that holds nothing but the test.
//
// # Usage
//
//	CGO_ENABLED=0 go build -o bin/vmrun ./kernelbridge/vmtest/vmrun
//	CGO_ENABLED=0 go test -count=1 -p 1 -exec "$PWD/bin/vmrun -kernel 6.12" ./kernelbridge/...
//	CGO_ENABLED=0 go test -count=1 -p 1 -timeout 30m -exec "$PWD/bin/vmrun -kernel 6.1,6.12,newest" ./kernelbridge
//	bin/vmrun fetch 6.1 6.12 newest       # only resolve and download; prints what each name means today
//
// With a list of kernels one test binary, built once, runs on each in turn; the exit status is the first that was not
// zero. See README.md in this folder for the Makefile target and for what to install.
//
// # The life of one run
//
//   - [Store.Resolve] turns a series into the newest kernel of that series (see store.go for what is trusted and why).
//   - [Job] and the files are written into a cpio archive. vmrun puts itself in as /init: one static binary, two roles.
//   - [Boot] starts qemu. The kernel logs to the first serial port, the test writes to the second, so neither mixes
//     with the other. Markers on the second port carry the start, the facts of the guest, and the exit status.
//   - A guest that dies before its start marker is booted again, at most 5 times, and that is said. One that dies after
//     it is a failure, and the tail of its kernel log is printed; but for one that dies of a breakpoint which is not in
//     its memory any more, for that is the emulator's doing: its test is run again as well, from the beginning.
//
// An emulated machine proves function and nothing about time: no latency measured in it means anything.
//
// A test that needs the guest calls nothing from here: it looks for [EnvVM] in its environment and skips without it.
package vmtest
