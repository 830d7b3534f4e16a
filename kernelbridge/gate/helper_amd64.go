// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"encoding/binary"
	"slices"
)

const (
	helperBase = 0x400000       // where the image is mapped
	helperCode = 64 + 2*56      // offset of the code: behind the ELF header and two program headers
	helperName = "arbiter-gate" // what ps shows, at most 15 bytes
)

// helperImage returns the helper's program: a static ELF file of one page that
// needs no library, writes a byte when it is settled, and reads until the end.
func helperImage() ([]byte, error) {
	code := slices.Concat(
		// The mask and the name come first, so that the code knows where they are.
		// rt_sigprocmask(SIG_BLOCK, all, NULL, 8): ^C and whatever else is sent to
		// the daemon's group. SIGKILL and a SIGBUS of its own still end it.
		[]byte{
			0x31, 0xff, //                         xor  edi, edi
			0xbe, 0xb0, 0x00, 0x40, 0x00, //       mov  esi, mask
			0x31, 0xd2, //                         xor  edx, edx
			0x6a, 0x08, 0x41, 0x5a, //             push 8; pop r10
			0x6a, 0x0e, 0x58, //                   push 14; pop rax
			0x0f, 0x05, //                         syscall
		},
		// prctl(PR_SET_NAME, name): its file has no name that ps could show.
		[]byte{
			0x6a, 0x0f, 0x5f, //                   push 15; pop rdi
			0xbe, 0xb8, 0x00, 0x40, 0x00, //       mov  esi, name
			0xb8, 0x9d, 0x00, 0x00, 0x00, //       mov  eax, 157
			0x0f, 0x05, //                         syscall
		},
		// close_range(2, ~0, 0): whatever the daemon had inherited itself.
		[]byte{
			0x6a, 0x02, 0x5f, //                   push 2; pop rdi
			0x6a, 0xff, 0x5e, //                   push -1; pop rsi
			0x31, 0xd2, //                         xor  edx, edx
			0xb8, 0xb4, 0x01, 0x00, 0x00, //       mov  eax, 436
			0x0f, 0x05, //                         syscall
		},
		// mlockall(MCL_CURRENT): its pages are the gate's, and the daemon should
		// not have to serve them again. It may be refused.
		[]byte{
			0x6a, 0x01, 0x5f, //                   push 1; pop rdi
			0xb8, 0x97, 0x00, 0x00, 0x00, //       mov  eax, 151
			0x0f, 0x05, //                         syscall
		},
		// write(1, name, 1): settled. Then close(1).
		[]byte{
			0x6a, 0x01, 0x5f, //                   push 1; pop rdi
			0xbe, 0xb8, 0x00, 0x40, 0x00, //       mov  esi, name
			0x6a, 0x01, 0x5a, //                   push 1; pop rdx
			0x6a, 0x01, 0x58, //                   push 1; pop rax
			0x0f, 0x05, //                         syscall
			0x6a, 0x01, 0x5f, //                   push 1; pop rdi
			0x6a, 0x03, 0x58, //                   push 3; pop rax
			0x0f, 0x05, //                         syscall
		},
		// read(0, stack, 1) until the end of the pipe. Nobody writes into it.
		[]byte{
			0x31, 0xff, //                   wait: xor  edi, edi
			0x48, 0x89, 0xe6, //                   mov  rsi, rsp
			0x6a, 0x01, 0x5a, //                   push 1; pop rdx
			0x31, 0xc0, //                         xor  eax, eax
			0x0f, 0x05, //                         syscall
			0x85, 0xc0, //                         test eax, eax
			0x7f, 0xf0, //                         jg   wait
			0x83, 0xf8, 0xfc, //                   cmp  eax, -EINTR
			0x74, 0xeb, //                         je   wait
		},
		// exit_group(0)
		[]byte{
			0x31, 0xff, //                         xor  edi, edi
			0xb8, 0xe7, 0x00, 0x00, 0x00, //       mov  eax, 231
			0x0f, 0x05, //                         syscall
		},
	)
	data := make([]byte, 8+16)
	copy(data, "\xff\xff\xff\xff\xff\xff\xff\xff") // mask, at 0x4000b0
	copy(data[8:], helperName)                     // name, at 0x4000b8
	body := append(data, code...)

	le := binary.LittleEndian
	size := uint64(helperCode + len(body))
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little endian
	b = le.AppendUint16(b, 2)                                              // ET_EXEC
	b = le.AppendUint16(b, 62)                                             // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, uint64(helperBase+helperCode+len(data))) // entry
	b = le.AppendUint64(b, 64)                                      // program headers
	b = le.AppendUint64(b, 0)                                       // no section headers
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 2, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // read, execute
	for _, v := range []uint64{0, helperBase, helperBase, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0x6474e551) // PT_GNU_STACK
	b = le.AppendUint32(b, 6)          // read, write
	for _, v := range []uint64{0, 0, 0, 0, 0, 16} {
		b = le.AppendUint64(b, v)
	}
	return append(b, body...), nil
}
