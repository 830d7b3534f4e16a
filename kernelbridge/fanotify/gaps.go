// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// gap is a place in the trees where opens are not asked about.
type gap struct{ path, why string }

// gapsTold is how many places one warning names: users can make mounts.
const gapsTold = 8

// warnGaps returns one sentence for each reason.
func warnGaps(gaps []gap) (ws []string) {
	var reasons []string
	paths := map[string][]string{}
	for _, g := range gaps {
		if paths[g.why] == nil {
			reasons = append(reasons, g.why)
		}
		paths[g.why] = append(paths[g.why], g.path)
	}
	for _, why := range reasons {
		list := quoted(paths[why])
		if more := len(list) - gapsTold; more > 0 {
			list = append(list[:gapsTold], fmt.Sprintf("and %d more", more))
		}
		ws = append(ws, "opens in "+strings.Join(list, ", ")+" are not asked about: "+why)
	}
	return ws
}

// sortGaps puts them into the order in which they are told.
func sortGaps(gaps []gap) {
	slices.SortFunc(gaps, func(a, b gap) int { return strings.Compare(a.path, b.path) })
}

// remoteTypes are file systems whose server is another machine. Those of FUSE are
// told by their names. Not among them are those whose server is this machine's own
// host (virtiofs, vboxsf): when it hangs, so do we.
var remoteTypes = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "coda", "ncpfs", "lustre", "gpfs", "beegfs",
	"orangefs", "pvfs2"}

// remote reports whether somebody else answers for this file system, and may not:
// a server on the network, or a process of any user behind FUSE. To read an event
// the kernel opens its file for us, so whoever reads waits for that server.
func (m mount) remote() bool {
	return m.fstype == "fuse" || m.fstype == "fuseblk" || strings.HasPrefix(m.fstype, "fuse.") || strings.HasPrefix(m.fstype, "fuseblk.") ||
		slices.Contains(remoteTypes, m.fstype)
}

func (m mount) whyRemote() string {
	return "the server of " + m.fstype + " can let whoever opens a file wait for ever, the daemon too; ask_remote: true asks all the same"
}

func firstRemote(crossed []mount) (mount, bool) {
	if i := slices.IndexFunc(crossed, mount.remote); i >= 0 {
		return crossed[i], true
	}
	return mount{}, false
}

// ours reports whether an error is about us, and not about one place.
func ours(err error) bool {
	for _, e := range []error{unix.ENOMEM, unix.ENOSPC, unix.EMFILE, unix.ENFILE, unix.EBADF, ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// left reports whether an error says that the place is no more what it was; then
// something else tells of what is there now.
func left(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, errMoved} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explainGap says what stands in the way of a place that cannot be marked.
func explainGap(err error) string {
	why := err.Error()
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		why += ": root may not enter; a FUSE mount needs allow_other for that, an NFS export no_root_squash"
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ESTALE), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ETIMEDOUT):
		why += ": its server is gone; mount it anew"
	}
	return why
}
