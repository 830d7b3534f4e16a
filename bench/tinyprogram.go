// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/binary"
)

// tinyProgram returns an executable for amd64 that ends at once with status 0. Each n makes
// another one.
func tinyProgram(n uint64) []byte {
	const (
		base             = 0x400000
		headerSize       = 64
		programHeader    = 56
		exec, x8664      = 2, 62
		load, readAndRun = 1, 5
		page             = 4096
	)
	code := []byte{
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	size := uint64(headerSize + programHeader + len(code))
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, v := range []any{
		uint16(exec), uint16(x8664), uint32(1),
		uint64(base + headerSize + programHeader), uint64(headerSize), uint64(0), // entry, program and section headers
		uint32(0), uint16(headerSize), uint16(programHeader), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(load), uint32(readAndRun), uint64(0), uint64(base), uint64(base), size, size, uint64(page),
		code, n,
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // neither a buffer nor a number fails
	}
	return b.Bytes()
}
