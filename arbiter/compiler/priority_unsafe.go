// SPDX-License-Identifier: Apache-2.0

package compiler

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stayOn keeps the process on these CPUs: also one that runs when nobody else wants the CPU has a
// turn where it is new, of a tick of the clock, and a worker that polls there waits for so long.
func stayOn(cpus *unix.CPUSet) {
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(*cpus), uintptr(unsafe.Pointer(cpus)))
}

// background has the process run only when nobody else wants its CPU. Beside a niceness of 19
// that is more: whoever is woken there goes on at once, and not at the next tick of the clock.
// A program that is built with cgo stays as it is.
func background() { schedule(unix.SCHED_IDLE) }

// foreground undoes it, where CAP_SYS_NICE allows that.
func foreground() { schedule(unix.SCHED_NORMAL) }

func schedule(policy uintptr) {
	var priority int32 // struct sched_param; these policies have none
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
}
