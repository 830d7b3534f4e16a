// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// caller is who is at the other end of a connection, as the kernel noted it when
// it was opened: a process that hands its connection on hands on what it may do.
type caller struct {
	credentials.CommonAuthInfo
	pid      int32
	uid, gid uint32
	groups   []uint32 // supplementary
}

// AuthType names the way the caller was identified.
func (caller) AuthType() string { return "so_peercred" }

// peerCredentials identifies callers by their socket: no bytes are exchanged.
type peerCredentials struct{}

func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("identifying the caller: %T is no unix socket", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("identifying the caller: %w", err)
	}
	who := caller{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	var readErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, readErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); readErr != nil {
			return
		}
		who.pid, who.uid, who.gid = cred.Pid, cred.Uid, cred.Gid
		who.groups, readErr = peerGroups(int(fd))
	})
	if err := errors.Join(err, readErr); err != nil {
		return nil, nil, fmt.Errorf("identifying the caller: %w", err)
	}
	return conn, who, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("SO_PEERCRED credentials are for servers")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "so_peercred"}
}
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }
func (peerCredentials) OverrideServerName(string) error           { return nil }

// callerOf returns who made a call, false when that is not known.
func callerOf(ctx context.Context) (caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, false
	}
	who, ok := p.AuthInfo.(caller)
	return who, ok
}
