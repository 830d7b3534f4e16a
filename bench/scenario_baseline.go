// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// IDs of the baselines, which others name in Info.Baseline.
const (
	openBaselineID    = "baseline-open"
	getppidBaselineID = "baseline-getppid"
)

// openBaseline opens a file on a tmpfs of its own that nobody listens to.
type openBaseline struct{}

func (openBaseline) Describe() Info {
	return Info{ID: openBaselineID, Mechanism: Baseline, Responder: "open, nobody listens", NoResponder: true, Lean: true}
}

func (openBaseline) Open(at Place) (Session, error) {
	return openPair(at, func() (call, responder, error) {
		if err := scratchFile(); err != nil {
			return call{}, nil, err
		}
		c, err := openatCall(unix.AT_FDCWD, scratchPath)
		return c, nil, err
	})
}

// getppidBaseline asks for the parent's id, without a filter.
type getppidBaseline struct{}

func (getppidBaseline) Describe() Info {
	return Info{ID: getppidBaselineID, Mechanism: Baseline, Responder: "getppid, no filter", NoResponder: true, Lean: true}
}

func (getppidBaseline) Open(at Place) (Session, error) {
	return openPair(at, func() (call, responder, error) { return getppidCall(), nil, nil })
}

// The scratch file tree of a child: a tmpfs that covers this directory in a mount
// namespace of the child's own. Nobody else sees it, and it is gone with the
// child, however that ends.
const (
	scratchDir  = "/tmp"
	scratchPath = scratchDir + "/opened"
)

// scratchFile leaves the parent's mount namespace and makes the tree. The namespace
// belongs to the calling thread: only threads that it starts later share it.
// The paths of a pair are resolved by its requester alone.
func scratchFile() error {
	if err := privateMounts(); err != nil {
		return err
	}
	if err := unix.Mount("arbiter-bench", scratchDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m"); err != nil {
		return refused("mounting a tmpfs on "+scratchDir, "run as root, or with CAP_SYS_ADMIN", err)
	}
	fd, err := unix.Open(scratchPath, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("making the file to open: %w", err)
	}
	return unix.Close(fd)
}

// privateMounts gives the calling thread a mount namespace of its own.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return refused("making a private mount namespace", "run as root, or with CAP_SYS_ADMIN", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return refused("making the mounts private", "run as root, or with CAP_SYS_ADMIN", err)
	}
	return nil
}
