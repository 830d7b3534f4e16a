// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// An attribute that every file system of the tests keeps: tmpfs has "user." since 6.6.
const xattr = "trusted.arbiter"

var nameVerbs = map[string]verb{
	"open":    func(a []string) error { return openClose(a[0], unix.O_RDWR) },
	"exec":    func(a []string) error { return unix.Exec(a[0], []string{a[0]}, nil) },
	"create":  func(a []string) error { return openClose(a[0], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL) },
	"mkdir":   func(a []string) error { return unix.Mkdir(a[0], 0o751) },
	"mknod":   func(a []string) error { return unix.Mknod(a[0], uint32(atoi(a[1])), atoi(a[2])) },
	"symlink": func(a []string) error { return unix.Symlink(a[0], a[1]) },
	"link":    func(a []string) error { return unix.Link(a[0], a[1]) },
	"unlink":  func(a []string) error { return unix.Unlink(a[0]) },
	"rmdir":   func(a []string) error { return unix.Rmdir(a[0]) },
	"rename":  func(a []string) error { return unix.Rename(a[0], a[1]) },
	"exchange": func(a []string) error {
		return unix.Renameat2(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], unix.RENAME_EXCHANGE)
	},
	"chmod": func(a []string) error { return unix.Chmod(a[0], uint32(atoi(a[1]))) },
	"fchmod": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error { return unix.Fchmod(fd, uint32(atoi(a[1]))) })
	},
	"chown":    func(a []string) error { return unix.Chown(a[0], atoi(a[1]), atoi(a[2])) },
	"truncate": func(a []string) error { return unix.Truncate(a[0], 0) },
	"ftruncate": func(a []string) error {
		return withFile(a[0], unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, 10) })
	},
	"o_trunc":  func(a []string) error { return openClose(a[0], unix.O_WRONLY|unix.O_TRUNC) },
	"utimes":   func(a []string) error { return unix.Utimes(a[0], []unix.Timeval{{Sec: 1}, {Sec: 2}}) },
	"touch":    func(a []string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, a[0], nil, 0) },
	"setxattr": func(a []string) error { return unix.Setxattr(a[0], xattr, []byte("value"), 0) },
	"fsetxattr": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error { return unix.Fsetxattr(fd, xattr, []byte("value"), unix.XATTR_CREATE) })
	},
	"removexattr": func(a []string) error { return unix.Removexattr(a[0], xattr) },
	"setacl":      func(a []string) error { return unix.Setxattr(a[0], aclName, acl, 0) },
	"removeacl":   func(a []string) error { return unix.Removexattr(a[0], aclName) },
}

const aclName = "system.posix_acl_access"

// acl lets user 7 read, as posix_acl_xattr.h has it: version 2, then tag, permissions and id.
var acl = []byte{2, 0, 0, 0,
	1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 4, 0, 7, 0, 0, 0,
	4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
	0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
	0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}

func TestLSMEventsNames(t *testing.T) {
	s := newStage(t)
	file, noFile := withNew("file")
	two, noTwo := withNew("file", "other")
	gone := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, n := range names {
				os.RemoveAll(filepath.Join(dir, n))
			}
		}
	}
	const regular = unix.S_IFREG
	withAttr := func(t *testing.T, dir string) {
		file(t, dir)
		if err := unix.Setxattr(dir+"/file", xattr, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(name string, want bool) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s after it was allowed: %v", name, err)
			}
		}
	}
	s.run(t, []eventCase{
		{event: abi.EventOpen, do: "open $D/file", before: file, after: noFile, path: "$D/file", access: abi.AccessRead | abi.AccessWrite},
		{event: abi.EventExec, do: "exec $D/file", before: func(t *testing.T, dir string) {
			mustWrite(t, dir+"/file", []byte("neither a program nor a script"), 0o755)
		},
			after: noFile, path: "$D/file", allowed: "ENOEXEC", access: abi.AccessExec, args: map[string]uint64{"role": uint64(abi.RoleProgram)}},
		{event: abi.EventCreate, do: "create $D/new", after: gone("new"), path: "$D/new", args: map[string]uint64{"mode": regular | 0o644}, restarts: true, check: exists("new", true)},
		{name: "by mknod", event: abi.EventCreate, do: fmt.Sprintf("mknod $D/new %d 0", regular|0o600), after: gone("new"), path: "$D/new", args: map[string]uint64{"mode": regular | 0o600}, restarts: true},
		{event: abi.EventMkdir, do: "mkdir $D/new", after: gone("new"), path: "$D/new", args: map[string]uint64{"mode": 0o751}, restarts: true, check: exists("new", true)},
		{name: "fifo", event: abi.EventMknod, do: fmt.Sprintf("mknod $D/new %d 0", unix.S_IFIFO|0o600), after: gone("new"), path: "$D/new",
			args: map[string]uint64{"mode": unix.S_IFIFO | 0o600, "device": 0}, restarts: true},
		{name: "device", event: abi.EventMknod, do: fmt.Sprintf("mknod $D/new %d %d", unix.S_IFCHR|0o600, unix.Mkdev(1, 3)), after: gone("new"), path: "$D/new",
			args: map[string]uint64{"mode": unix.S_IFCHR | 0o600, "device": 1<<20 | 3}, restarts: true},
		{name: "socket", event: abi.EventMknod, do: "bind stream $D/new", after: gone("new"), path: "$D/new", args: map[string]uint64{"mode": anyNumber, "device": 0}, restarts: true},
		{event: abi.EventSymlink, do: "symlink ../what/it/says $D/new", after: gone("new"), path: "$D/new", detail: "../what/it/says", restarts: true},
		{event: abi.EventLink, do: "link $D/file $D/new", before: file, after: gone("file", "new"), path: "$D/file", detail: "$D/new", restarts: true},
		{event: abi.EventUnlink, do: "unlink $D/file", before: file, after: noFile, path: "$D/file", restarts: true, check: exists("file", false)},
		{event: abi.EventRmdir, do: "rmdir $D/new", before: func(t *testing.T, dir string) { mustMkdir(t, dir+"/new") }, after: gone("new"), path: "$D/new", restarts: true, check: exists("new", false)},
		{event: abi.EventRename, do: "rename $D/file $D/new", before: file, after: gone("file", "new"), path: "$D/file", detail: "$D/new", args: map[string]uint64{"flags": 0}, restarts: true},
		{name: "exchange", event: abi.EventRename, do: "exchange $D/file $D/other", before: two, after: noTwo, path: "$D/file", detail: "$D/other", args: map[string]uint64{"flags": 2}, restarts: true},
		{event: abi.EventChmod, do: "chmod $D/file 0o4600", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"mode": 0o4600}, restarts: true},
		{name: "of an open file", event: abi.EventChmod, do: "fchmod $D/file 0o600", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"mode": 0o600}, restarts: true},
		{event: abi.EventChown, do: "chown $D/file 7 8", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"uid": 7, "gid": 8}, restarts: true},
		{name: "of the group", event: abi.EventChown, do: "chown $D/file -1 9", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"uid": 4294967295, "gid": 9}, restarts: true},
		{event: abi.EventTruncate, do: "truncate $D/file", before: file, after: noFile, path: "$D/file", restarts: true},
		{name: "of an open file", event: abi.EventTruncate, do: "ftruncate $D/file", before: file, after: noFile, path: "$D/file", restarts: true},
		{name: "by O_TRUNC", event: abi.EventTruncate, do: "o_trunc $D/file", before: file, after: noFile, path: "$D/file", restarts: true},
		{event: abi.EventSetAttr, do: "utimes $D/file", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"valid": anyNumber}, restarts: true},
		{name: "now", event: abi.EventSetAttr, do: "touch $D/file", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"valid": anyNumber}, restarts: true},
		{event: abi.EventSetXattr, do: "setxattr $D/file", before: file, after: noFile, path: "$D/file", detail: xattr, args: map[string]uint64{"size": 5, "flags": 0}, restarts: true},
		{name: "of an open file", event: abi.EventSetXattr, do: "fsetxattr $D/file", before: file, after: noFile, path: "$D/file", detail: xattr, args: map[string]uint64{"size": 5, "flags": 1}, restarts: true},
		{name: "an ACL", event: abi.EventSetXattr, do: "setacl $D/file", before: file, after: noFile, path: "$D/file", detail: aclName, args: map[string]uint64{"size": 44, "flags": 0}, restarts: true},
		{name: "an ACL", event: abi.EventRemoveXattr, do: "removeacl $D/file", before: func(t *testing.T, dir string) {
			file(t, dir)
			if err := unix.Setxattr(dir+"/file", aclName, acl, 0); err != nil {
				t.Fatal(err)
			}
		}, after: noFile, path: "$D/file", detail: aclName, restarts: true},
		{event: abi.EventRemoveXattr, do: "removexattr $D/file", before: withAttr, after: noFile, path: "$D/file", detail: xattr, restarts: true},
	})
}
