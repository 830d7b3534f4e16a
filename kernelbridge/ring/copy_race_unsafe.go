// SPDX-License-Identifier: Apache-2.0

//go:build race

package ring

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A copy that its requester may overwrite is a race by design: the slot word
// tells afterwards whether it was whole. For the race detector these copies go
// word by word through sync/atomic, so that it reports every other race.

const factsWords = unsafe.Sizeof(Facts{}) / 8

func loadFacts(dst, src *Facts) {
	d, s := (*[factsWords]uint64)(unsafe.Pointer(dst)), (*[factsWords]uint64)(unsafe.Pointer(src))
	for i := range s {
		d[i] = atomic.LoadUint64(&s[i])
	}
}

// StoreFacts writes the facts of a slot that the caller has claimed.
func StoreFacts(dst, src *Facts) {
	d, s := (*[factsWords]uint64)(unsafe.Pointer(dst)), (*[factsWords]uint64)(unsafe.Pointer(src))
	for i := range s {
		atomic.StoreUint64(&d[i], s[i])
	}
}

func loadBytes(dst []byte, src *[abi.PathBytes]byte) {
	words := (*[abi.PathBytes / 8]uint64)(unsafe.Pointer(src))
	var b [8]byte
	for i := 0; i*8 < len(dst); i++ {
		binary.NativeEndian.PutUint64(b[:], atomic.LoadUint64(&words[i]))
		copy(dst[i*8:], b[:])
	}
}

// StoreBytes writes a text of a slot that the caller has claimed, cut at its room.
func StoreBytes(dst *[abi.PathBytes]byte, src []byte) {
	words := (*[abi.PathBytes / 8]uint64)(unsafe.Pointer(dst))
	src = src[:min(len(src), abi.PathBytes)]
	var b [8]byte
	for i := 0; i*8 < len(src); i++ {
		copy(b[:], src[i*8:])
		atomic.StoreUint64(&words[i], binary.NativeEndian.Uint64(b[:]))
	}
}
