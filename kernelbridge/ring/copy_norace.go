// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ring

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// The facts of a slot can change under the copy when its requester gives
// up; the slot is not taken then and the copy forgotten. See copy_race_unsafe.go.

func loadFacts(dst, src *Facts)                      { *dst = *src }
func loadBytes(dst []byte, src *[abi.PathBytes]byte) { copy(dst, src[:]) }

// StoreFacts writes the facts of a slot that the caller has claimed.
func StoreFacts(dst, src *Facts) { *dst = *src }

// StoreBytes writes a text of a slot that the caller has claimed, cut at its room.
func StoreBytes(dst *[abi.PathBytes]byte, src []byte) { copy(dst[:], src) }
