// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"structs"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// runAttr mirrors the part of union bpf_attr that is about running a program.
type runAttr struct {
	_ structs.HostLayout

	progFD, retval        uint32
	dataSizeIn, sizeOut   uint32
	dataIn, dataOut       uint64
	repeat, duration      uint32
	ctxSizeIn, ctxSizeOut uint32
	ctxIn, ctxOut         uint64
	flags, cpu, batchSize uint32
	_                     uint32
}

// nativeRun runs programs without an allocation: thousands of runs a second would have the
// collector run beside the worker that they time. It lies on the heap, which does not
// move, and one run at a time uses it.
type nativeRun struct {
	attr runAttr
	args nativeQueueArbNativeArgs // the program's argument, which it writes, too
}

// once has the program ask so many times. The thread is in an ordinary system call for the
// Go runtime, which can stop the world meanwhile: what asks must not hold up who answers.
func (r *nativeRun) once(prog *ebpf.Program, count int) (last int32, err error) {
	r.args = nativeQueueArbNativeArgs{Count: uint32(count)}
	r.attr = runAttr{progFD: uint32(prog.FD()), ctxSizeIn: uint32(unsafe.Sizeof(r.args)), ctxIn: uint64(uintptr(unsafe.Pointer(&r.args)))}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_RUN, uintptr(unsafe.Pointer(&r.attr)), unsafe.Sizeof(r.attr)); errno != 0 {
		return 0, fmt.Errorf("running the queue: %w", errno)
	}
	return r.args.LastVerdict, nil
}
