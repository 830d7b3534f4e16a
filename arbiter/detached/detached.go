// SPDX-License-Identifier: Apache-2.0

// Package detached runs code that the Go runtime does not wait for: while it runs, the
// collector of garbage stops the world without it, and neither preempts it nor gives its
// processor away. To the runtime its goroutine is in a long system call, as that of a guest
// is to gVisor, which goes the same way.
//
// What runs so may do nothing that the runtime has a part in. It, and all that it calls, is
// nosplit, fits into the stack that the linker grants such functions, and
//
//   - allocates nothing, and stores no pointer into memory of the Go heap;
//   - does not panic, for that ends the program;
//   - calls nothing that blocks, locks or schedules; of package sync only sync/atomic;
//   - follows a pointer only if something outside of it keeps what it points to alive. One
//     that it loads while others may replace it does not: it may be compared, not followed.
//
// TestDetachedCode of the house reads the machine code of the programs: it finds calls of the
// runtime, a stack that is too deep, and what an interface leads to. It does not find an index
// that is out of range, nor a pointer that is nil.
package detached

// Func is what runs detached. An interface, because a method value would be called by way of
// a function of the compiler's that is not nosplit.
type Func interface {
	// Detached is called by Run. It and all that it calls are as the package says.
	Detached()
}
