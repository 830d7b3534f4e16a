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

// NoLogin is the login uid of who has not logged in: daemons, and what they start.
const NoLogin = ^uint32(0)

// Credentials are what a subject has beside its ids. The zero value is not known.
type Credentials struct {
	Known bool
	// LoginUID is the uid that the audit session was begun with, which no setuid changes; NoLogin when
	// it is not set, or the kernel has none.
	LoginUID     uint32
	Capabilities uint64 // the effective ones, a bit for each
	// HostNamespaces are those of the subject's namespaces that are the host's: pid 1's.
	HostNamespaces Namespaces
}

// String returns the credentials as rules and records write them: the login uid, or unset; the
// capabilities as /proc/PID/status has them; and the names of the namespaces that are the host's. ""
// when they are not known.
func (c Credentials) String() string {
	if !c.Known {
		return ""
	}
	login := "unset"
	if c.LoginUID != NoLogin {
		login = strconv.FormatUint(uint64(c.LoginUID), 10)
	}
	return fmt.Sprintf("%s:%016x:%s", login, c.Capabilities, strings.Join(names(uint32(c.HostNamespaces&AllNamespaces), NamespaceNames[:]), ","))
}

// ParseCredentials returns what String has written, false for anything else and for "".
func ParseCredentials(s string) (c Credentials, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return c, false
	}
	c.Known, c.LoginUID = true, NoLogin
	if parts[0] != "unset" {
		id, err := strconv.ParseUint(parts[0], 10, 32)
		if err != nil {
			return Credentials{}, false
		}
		c.LoginUID = uint32(id)
	}
	caps, err := strconv.ParseUint(parts[1], 16, 64)
	if err != nil {
		return Credentials{}, false
	}
	c.Capabilities = caps
	for name := range strings.SplitSeq(parts[2], ",") {
		if parts[2] == "" {
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
