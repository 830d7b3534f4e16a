// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wordBytes is the size of the shared memory: one page is mapped in any case.
const wordBytes = 4096

// mapWord maps the heartbeat. The daemon writes the word, the guard reads it; it
// is the only one in the memory and page-aligned.
func mapWord(fd int) (*atomic.Uint64, []byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, fmt.Errorf("looking at the heartbeat's memory: %w", err)
	}
	if st.Size != wordBytes {
		return nil, nil, fmt.Errorf("the heartbeat's memory has %d bytes, not %d", st.Size, wordBytes)
	}
	memory, err := unix.Mmap(fd, 0, wordBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping the heartbeat: %w", err)
	}
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(memory))), memory, nil
}
