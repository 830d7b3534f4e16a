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
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking at the host's namespaces: %w", err)
		}
		links[kind] = link
	}
	return &links, nil
}

// credentialsOf reads what rules ask of the held thread's credentials beside its ids; not known where
// a part cannot be read.
func (s *Source) credentialsOf(tid uint32) (c abi.Credentials) {
	text, ok := s.readProc(tid, "/status\x00")
	if !ok || s.b.hostLinks == nil || !capEff(text, &c.Capabilities) {
		return abi.Credentials{}
	}
	c.LoginUID = abi.NoLogin
	if text, ok = s.readProc(tid, "/loginuid\x00"); ok { // not there without audit
		n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 32)
		if err != nil {
			return abi.Credentials{}
		}
		c.LoginUID = uint32(n)
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
	c.Known = true
	return c
}

// capEff finds the effective capabilities in a status file.
func capEff(text []byte, to *uint64) bool {
	_, line, ok := bytes.Cut(text, []byte("\nCapEff:\t"))
	if !ok || len(line) < 16 {
		return false
	}
	n, err := strconv.ParseUint(string(line[:16]), 16, 64)
	*to = n
	return err == nil
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
