// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race || go1.27 || attached

package detached

// Can says whether Run detaches.
const Can = false

// Run calls f.Detached, as any function: the race detector has to be told of what happens, and of
// other versions of Go it is not known whether they let go of a goroutine as this one does.
func Run(f Func) { f.Detached() }
