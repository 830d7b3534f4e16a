// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// legacyAccess knows the calls that newer architectures do not have. The numbers
// cannot be mistaken for those of a 32-bit program: there 2 is fork, 85 readlink,
// 257 remap_file_pages and 304 symlinkat, none of which opens a file.
func legacyAccess(nr uint64, args [6]uint64) abi.Access {
	switch nr {
	case unix.SYS_OPEN:
		return openAccess(args[1])
	case unix.SYS_CREAT:
		return abi.AccessWrite | abi.AccessTruncate
	}
	return unknownAccess
}
