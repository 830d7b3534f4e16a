// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bytes"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// nsPerTick is the unit of times in /proc: USER_HZ is 100 on every architecture
// that Go runs on.
const nsPerTick = 1e9 / 100

// parseStatus takes tgid and ids from /proc/PID/status. The name of the task
// comes first and is escaped, so it cannot forge a line.
func parseStatus(text []byte, r *abi.Request) bool {
	var fields [2]uint32
	if !statusFields(text, "\nTgid:", fields[:1]) {
		return false
	}
	r.TGID = fields[0]
	if !statusFields(text, "\nUid:", fields[:]) {
		return false
	}
	r.UID, r.EUID = fields[0], fields[1]
	if !statusFields(text, "\nGid:", fields[:]) {
		return false
	}
	r.GID, r.EGID = fields[0], fields[1]
	return true
}

// statusFields puts the first numbers of the line that begins with key into out.
func statusFields(text []byte, key string, out []uint32) bool {
	for i := 0; i+len(key) <= len(text); i++ {
		if text[i] != '\n' || string(text[i:i+len(key)]) != key {
			continue
		}
		rest := text[i+len(key):]
		for j := range out {
			v, tail, ok := number(rest)
			if !ok || v > 1<<32-1 {
				return false
			}
			out[j], rest = uint32(v), tail
		}
		return true
	}
	return false
}

// number reads a decimal number after blanks.
func number(text []byte) (v uint64, rest []byte, ok bool) {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		text = text[1:]
	}
	i := 0
	for i < len(text) && text[i] >= '0' && text[i] <= '9' && i < 20 {
		v = v*10 + uint64(text[i]-'0')
		i++
	}
	return v, text[i:], i > 0
}

// parseStat takes comm, as it is, and the start time in nanoseconds from
// /proc/PID/stat. comm may be nil.
func parseStat(text []byte, comm *[16]byte) (startNS uint64) {
	// The name is in parentheses and may contain any byte, parentheses too.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0
	}
	if comm != nil {
		copy(comm[:15], text[open+1:end])
	}
	rest := text[end+1:]
	// Field 3 follows; starttime is field 22.
	for range 22 - 3 {
		rest = bytes.TrimLeft(rest, " ")
		i := bytes.IndexByte(rest, ' ')
		if i < 0 {
			return 0
		}
		rest = rest[i:]
	}
	ticks, _, ok := number(rest)
	if !ok {
		return 0
	}
	return ticks * nsPerTick
}

// cgroupPath returns the path of the cgroup v2 from /proc/PID/cgroup, nil when
// there is none or it is outside of our cgroup namespace.
func cgroupPath(text []byte) []byte {
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			if len(path) == 0 || path[0] != '/' || bytes.HasPrefix(path, []byte("/..")) || bytes.HasSuffix(path, deleted) {
				return nil
			}
			return path
		}
		text = rest
	}
	return nil
}
