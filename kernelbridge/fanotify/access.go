// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// unknownAccess stands for an open whose purpose cannot be told.
const unknownAccess = abi.AccessRead | abi.AccessWrite

// A thread that queued an event may still be on its way to sleep, and
// /proc/TID/syscall says "running" until it does: some microseconds, unless it
// was preempted in between.
const (
	accessTries   = 20
	accessPatient = 5       // tries before we sleep between them
	accessPause   = 100_000 // nanoseconds
)

// access returns what the held thread's system call asks for.
func (s *Source) access() abi.Access {
	for try := range accessTries {
		text, ok := s.readProc(s.held.tid, "/syscall\x00")
		if !ok {
			return unknownAccess
		}
		if len(text) > 0 && text[0] != 'r' {
			nr, args, ok := parseSyscall(text)
			if !ok {
				return unknownAccess
			}
			return accessOf(nr, args)
		}
		if try >= accessPatient {
			unix.Nanosleep(&unix.Timespec{Nsec: accessPause}, nil)
		}
	}
	return unknownAccess
}

// parseSyscall reads "NR 0xA 0xB 0xC 0xD 0xE 0xF 0xSP 0xPC".
//
// An io_uring worker thread was never in a system call of its own; its number
// and arguments are left over from the thread that made it. The kernel zeroes
// its stack and instruction pointer, so those two give it away.
func parseSyscall(text []byte) (nr uint64, args [6]uint64, ok bool) {
	nr, rest, ok := number(text)
	if !ok {
		return 0, args, false // "-1": not in a system call
	}
	var v [8]uint64
	for i := range v {
		if v[i], rest, ok = hex(rest); !ok {
			return 0, args, false
		}
	}
	copy(args[:], v[:6])
	return nr, args, v[6] != 0 && v[7] != 0
}

// hex reads " 0x" and a hexadecimal number.
func hex(text []byte) (v uint64, rest []byte, ok bool) {
	if len(text) < 4 || text[0] != ' ' || text[1] != '0' || text[2] != 'x' {
		return 0, text, false
	}
	i := 3
	for ; i < len(text) && i < 3+16; i++ {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return v, text[i:], i > 3
		}
	}
	return v, text[i:], true
}

// accessOf translates the calls whose flags are a register, so that nobody can
// change them while the thread is held. openat2 has them in user memory.
func accessOf(nr uint64, args [6]uint64) abi.Access {
	switch nr {
	case unix.SYS_OPENAT, unix.SYS_OPEN_BY_HANDLE_AT: // the flags are the third argument of both
		return openAccess(args[2])
	}
	return legacyAccess(nr, args)
}

func openAccess(flags uint64) abi.Access {
	var a abi.Access
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		a = abi.AccessRead
	case unix.O_WRONLY:
		a = abi.AccessWrite
	default:
		a = abi.AccessRead | abi.AccessWrite
	}
	if flags&unix.O_APPEND != 0 {
		a |= abi.AccessAppend
	}
	if flags&unix.O_TRUNC != 0 {
		a |= abi.AccessTruncate
	}
	if flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
		a |= abi.AccessCreated // it did not exist, or the call would have failed
	}
	return a
}
