// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// namespaceLinks are what /proc/PID/ns says of a process: "mnt:[4026531841]" and the like; "" where the
// kernel has no such namespaces.
type namespaceLinks [abi.NamespaceCount]string

// hostLinks returns those of process 1; nil for who may not look at it, for want of CAP_SYS_PTRACE.
func hostLinks() (*namespaceLinks, error) {
	var links namespaceLinks
	for kind, name := range abi.NamespaceNames {
		link, err := os.Readlink("/proc/1/ns/" + name)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, nil
		case errors.Is(err, fs.ErrNotExist):
			// Of its own it always sees what the kernel has; process 1 can be hidden (hidepid).
			if _, err := os.Lstat("/proc/self/ns/" + name); err == nil {
				return nil, nil
			}
		case err != nil:
			return nil, fmt.Errorf("looking at the host's namespaces: %w", err)
		}
		links[kind] = link
	}
	return &links, nil
}

// credentialsOf reads what rules ask of the held thread's credentials beside its ids; not known where
// a part cannot be read.
func (s *Source) credentialsOf(tid uint32) (c abi.Credentials) {
	if s.b.hostLinks == nil {
		return abi.Credentials{}
	}
	c.LoginUID, c.Session = abi.NoLogin, abi.NoSession
	if s.b.audit && !(s.number(tid, "/loginuid\x00", &c.LoginUID) && s.number(tid, "/sessionid\x00", &c.Session)) {
		return abi.Credentials{}
	}
	for kind, host := range s.b.hostLinks {
		link, errno := s.namespaceLink(tid, kind)
		if errno != 0 && errno != unix.ENOENT {
			return abi.Credentials{}
		}
		if string(link) == host {
			c.HostNamespaces |= 1 << kind
		}
	}
	// The last to be asked: there is a task then that all of this was said of.
	c.Capabilities, c.Known = effective(tid)
	return c
}

// number reads a file of a thread that has a number and nothing else.
func (s *Source) number(tid uint32, name string, to *uint32) bool {
	text, ok := s.readProc(tid, name)
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 32)
	*to = uint32(n)
	return err == nil
}

// effective returns the effective capabilities of a thread. They stand in /proc/PID/status too, behind
// a list of groups that has no bound.
func effective(tid uint32) (uint64, bool) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(tid)}
	var data [2]unix.CapUserData
	if unix.Capget(&h, &data[0]) != nil {
		return 0, false
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), true
}

// namespaceLink reads one link into buf; none with ENOENT.
func (s *Source) namespaceLink(tid uint32, kind int) ([]byte, unix.Errno) {
	name := append(append(append(strconv.AppendUint(s.name[:0], uint64(tid), 10), "/ns/"...), abi.NamespaceNames[kind]...), 0)
	n, errno := readlinkat(s.b.procDir, name, s.buf[:])
	if errno != 0 {
		return nil, errno
	}
	return s.buf[:n], 0
}
