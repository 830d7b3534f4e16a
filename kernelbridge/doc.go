// SPDX-License-Identifier: Apache-2.0

// Package kernelbridge is the kernel side: it probes what the running kernel can
// do, loads the BPF programs, attaches them to the LSM hooks, and maps the queue
// that package ring works on. It is the only user of cilium/ebpf.
//
// LSM holds real opens and execs. Native runs the very same queue without a hook,
// for kernels that allow no LSM programs and for measurements. Package fanotify,
// below this one, is the second backend; Choose picks.
//
// Protection is apart from both: programs that keep others, root too, from stopping or
// changing this process. They ask nobody.
//
// Everything that is attached goes with the process: no pin outlives it, so a
// daemon that dies leaves no hook behind, and a program that waits at that moment
// ends at its bound with the failure verdict.
package kernelbridge
