// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forksBytes is how much memory a subject has that forks: to copy its page tables takes many
// times as long as to go through all tasks.
const forksBytes = 256 << 20

// forks makes N children of arg, N:PATH, one after the other, which open that file and do
// nothing else, and returns how many there were.
func forks(arg string) string {
	n, path, _ := strings.Cut(arg, ":")
	count, err := strconv.Atoi(n)
	if err != nil {
		return outcome(err)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return outcome(err)
	}
	mem, err := unix.Mmap(-1, 0, forksBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return outcome(err)
	}
	defer unix.Munmap(mem)
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE) // else there is little to copy
	for i := 0; i < len(mem); i += unix.Getpagesize() {
		mem[i] = 1
	}
	for range count {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return outcome(errno)
		}
		for pid == 0 { // the child: Go's scheduler is not there, so it can do system calls alone
			unix.RawSyscall(unix.SYS_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0)
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if _, err := unix.Wait4(int(pid), nil, 0, nil); err != nil {
			return outcome(err)
		}
	}
	return n
}
