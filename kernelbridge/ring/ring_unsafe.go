// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"unsafe"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Sizes of the two shared areas, bytes.
const (
	HeaderBytes = int(unsafe.Sizeof(Header{}))
	SlotsBytes  = int(unsafe.Sizeof([abi.Slots]Slot{}))
)

// headerOf views mapped memory of at least HeaderBytes as the header. The
// memory is page-aligned and not the Go heap's, so the collector has no say in it.
func headerOf(b []byte) *Header { return (*Header)(unsafe.Pointer(unsafe.SliceData(b))) }

// slotsOf views mapped memory of at least SlotsBytes as the slots.
func slotsOf(b []byte) *[abi.Slots]Slot {
	return (*[abi.Slots]Slot)(unsafe.Pointer(unsafe.SliceData(b)))
}

// SlotOf views mapped memory of at least one slot's size as a slot.
func SlotOf(b []byte) *Slot { return (*Slot)(unsafe.Pointer(unsafe.SliceData(b))) }
