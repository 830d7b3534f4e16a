// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import "unsafe"

// samplesOf views mapped memory as 64-bit words.
func samplesOf(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}
