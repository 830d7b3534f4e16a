// SPDX-License-Identifier: Apache-2.0

// Package gate is a file on which held tasks sleep. A BPF program cannot wait on a
// futex or a queue, but a sleepable LSM program can call getxattr on a file, and on
// a FUSE file that blocks until the file's server answers. The gate is that file
// and its server.
//
// Nobody can reach the file by a path. It is the root, a regular file, of a FUSE
// mount that is never attached anywhere; it holds a tiny program, the helper, which
// Open executes before it closes the mount. From then on the helper's exe is the one
// reference to the file, and BPF gets there from the helper's pid. The helper does
// nothing: it reads from a pipe whose other end the daemon holds, so it ends when
// the daemon does, however that comes about. It blocks every signal that can be
// blocked, so that ^C, or a service manager that signals a whole control group, does
// not end it before the daemon has gone in order.
//
// # The life of a sleep
//
// A task whose question is in slot s asks for Attribute with a buffer of s+1 bytes.
// Whichever worker reads the request asks the queue (Slots) whether the task with
// that thread id sleeps there, and notes the request for the slot. Who answers the
// question (Release) takes the note and replies; the task wakes up and finds the
// verdict in its slot. Both write first and look at the other's word after: the
// reader notes the request and then looks whether the question has been answered,
// the worker answers and then looks for a request. So one of the two replies, and an
// exchange on the note decides which one.
//
// What a reply says:
//
//	0                       the question is answered, look at the slot
//	ENODATA                 not yet, look and sleep again; or not a sleeper at all
//	ECONNABORTED, ENOTCONN  the gate is gone
//	EINTR                   (from the kernel) killed before the request was read
//
// A task that was interrupted or killed after its request was read cannot leave
// by itself. Tick, called every 20 ms, ends such a sleep with "not yet", which
// bounds both the time to die and the work that a storm of signals makes. Any sleep
// is ended like that after MaxSleep, so a lost request costs a second and no task.
//
// # Death
//
// When the daemon dies the kernel closes its descriptors of /dev/fuse, which ends
// all sleeps at once. For that nobody else may have a copy of them. A child of the
// daemon has them between fork and exec, so an LSM program must never let such a
// child sleep here. Nor may it hold one in any other way while the workers are
// threads of the same Go program: a fork holds up the Go runtime until the exec.
package gate
