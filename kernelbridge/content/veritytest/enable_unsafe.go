// SPDX-License-Identifier: Apache-2.0

package veritytest

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enableArg is struct fsverity_enable_arg of linux/fsverity.h.
type enableArg struct {
	version, alg, blockSize, saltSize uint32
	salt                              uint64
	sigSize, _                        uint32
	sig                               uint64
	_                                 [11]uint64
}

// Enable turns fs-verity on for a file that nobody has open for writing.
func Enable(name string, a Alg) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	arg := enableArg{version: 1, alg: uint32(a.number), blockSize: blockBytes}
	for range 200 { // a process that another goroutine starts may still have what wrote the file
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
		switch errno {
		case 0:
			return nil
		case unix.ETXTBSY, unix.EINTR:
			time.Sleep(10 * time.Millisecond)
		default:
			return fmt.Errorf("turning fs-verity on for %s: %w", name, errno)
		}
	}
	return fmt.Errorf("turning fs-verity on for %s: somebody has it open for writing", name)
}
