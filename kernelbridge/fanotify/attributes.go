// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// attributes makes the owner and the group of the held file such as rules may rely on: those of a file
// on FUSE are not known, for its server, who may be any user, says what he likes. Which file system
// it is is asked of that server, so only where he is asked anyway (AskRemote): else no file of
// his is held. False: nothing of the file could be had.
func (s *Source) attributes(r *abi.Request) bool {
	var fs unix.Statfs_t
	if s.b.opts.AskRemote && (unix.Fstatfs(int(s.held.fd), &fs) != nil || fs.Type == unix.FUSE_SUPER_MAGIC) {
		r.OwnerUID, r.OwnerGID = abi.NoOwner, abi.NoOwner
	}
	return s.held.statOK
}
