// SPDX-License-Identifier: Apache-2.0

//go:build amd64 && !race && !go1.27 && !attached

package detached

import _ "unsafe" // for linkname

// Read again with each version of Go, above: that they are still exported, for gVisor, and
// that a goroutine between them is what package runtime calls Gsyscall.

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// Can says whether Run detaches.
const Can = true

// Run calls f.Detached, detached where that can be: see the package. This frame is what the collector
// sees of the stack meanwhile, so it stays until f has returned.
//
//go:nosplit
func Run(f Func) {
	entersyscall()
	f.Detached()
	exitsyscall()
}
