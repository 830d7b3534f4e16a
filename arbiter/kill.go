// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// target opens the process that asked, which is held and so has its pid; below 0 when that
// cannot be, or is one that is never killed: process 1 and this one.
func target(r *abi.Request) (pidfd int) {
	if r.TGID <= 1 || r.TGID == uint32(os.Getpid()) {
		return -1
	}
	fd, err := unix.PidfdOpen(int(r.TGID), 0)
	if err != nil {
		return -1
	}
	return fd
}

// kill ends a target that has been refused, and reports whether it did. It ends nobody when the
// answer came too late: who asked was no longer held, and his pid may have been another's.
func kill(pidfd int, inTime bool) bool {
	if pidfd < 0 {
		return false
	}
	defer unix.Close(pidfd)
	return inTime && unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil
}
