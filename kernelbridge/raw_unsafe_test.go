// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawBind is bind(2) with any bytes for an address.
func rawBind(fd int, addr []byte) error {
	return sysno(unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&addr[0])), uintptr(len(addr))))
}

// rawVMRead is process_vm_readv(2) of an address that nobody has.
func rawVMRead(pid int) error {
	var b [8]byte
	local := unix.Iovec{Base: &b[0], Len: 8}
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: 8, Len: 8}}, 0)
	return err
}

// rawBPF is bpf(2).
func rawBPF(cmd int, attr []byte) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// rawLoadProg loads a socket filter of two instructions.
func rawLoadProg() (int, error) {
	insns := [2]uint64{0xb7, 0x95} // r0 = 0; exit
	license := [4]byte{'B', 'S', 'D'}
	attr := make([]byte, 48)
	*(*[6]uint64)(unsafe.Pointer(&attr[0])) = [6]uint64{
		unix.BPF_PROG_TYPE_SOCKET_FILTER | 2<<32,
		uint64(uintptr(unsafe.Pointer(&insns))),
		uint64(uintptr(unsafe.Pointer(&license))),
	}
	return rawBPF(unix.BPF_PROG_LOAD, attr)
}

// execveat is execveat(2) of the file that fd is open on. It returns when it failed, or only checked.
func execveat(fd int, args, env []string, flags int) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), uintptr(unix.AT_EMPTY_PATH|flags), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
