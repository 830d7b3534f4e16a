// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"fmt"
	"strconv"
	"strings"
)

// Namespaces is a set of kinds of namespaces, a bit for each.
type Namespaces uint32

// The kinds of namespaces.
const (
	NamespaceCgroup = iota
	NamespaceIPC
	NamespaceMnt
	NamespaceNet
	NamespaceUser
	NamespaceUTS
	NamespacePID
	NamespaceCount
	AllNamespaces Namespaces = 1<<NamespaceCount - 1
)

// NamespaceNames are the kinds as /proc/PID/ns has them.
var NamespaceNames = [NamespaceCount]string{"cgroup", "ipc", "mnt", "net", "user", "uts", "pid"}

// What they have who have not logged in: daemons, and what they start.
const (
	NoLogin   = ^uint32(0) // for a login uid
	NoSession = ^uint32(0) // for an audit session
)

// Credentials are what a subject has beside its ids. The zero value is not known.
type Credentials struct {
	Known bool
	// LoginUID is the uid that the audit session was begun with, which no setuid changes; NoLogin when
	// it is not set, or the kernel has none.
	LoginUID uint32
	// Session is the number of the audit session, which the kernel counts from boot on; NoSession when
	// there is none.
	Session      uint32
	Capabilities uint64 // the effective ones, a bit for each
	// HostNamespaces are those of the subject's namespaces that are the host's: pid 1's.
	HostNamespaces Namespaces
}

// String returns the credentials as rules and records write them: the login uid and the session, each
// a number or unset; the capabilities as /proc/PID/status has them; and the names of the namespaces that
// are the host's. "" when they are not known.
func (c Credentials) String() string {
	if !c.Known {
		return ""
	}
	return fmt.Sprintf("%s:%s:%016x:%s", NumberOrUnset(c.LoginUID), NumberOrUnset(c.Session), c.Capabilities,
		strings.Join(names(uint32(c.HostNamespaces&AllNamespaces), NamespaceNames[:]), ","))
}

// NumberOrUnset returns a login uid or a session as rules write it.
func NumberOrUnset(v uint32) string {
	if v == NoLogin {
		return "unset"
	}
	return strconv.FormatUint(uint64(v), 10)
}

// ParseCredentials returns what String has written, false for anything else and for "".
func ParseCredentials(s string) (c Credentials, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return c, false
	}
	c.Known, c.LoginUID, c.Session = true, NoLogin, NoSession
	for i, to := range [...]*uint32{&c.LoginUID, &c.Session} {
		if parts[i] == "unset" {
			continue
		}
		n, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil {
			return Credentials{}, false
		}
		*to = uint32(n)
	}
	caps, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil {
		return Credentials{}, false
	}
	c.Capabilities = caps
	for name := range strings.SplitSeq(parts[3], ",") {
		if parts[3] == "" {
			break
		}
		kind, ok := parse(name, NamespaceNames[:])
		if !ok {
			return Credentials{}, false
		}
		c.HostNamespaces |= Namespaces(kind)
	}
	return c, true
}
