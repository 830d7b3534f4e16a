// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package fanotify

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// legacyAccess: architectures of this century have openat only.
func legacyAccess(uint64, [6]uint64) abi.Access { return unknownAccess }
