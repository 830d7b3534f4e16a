// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

const (
	// The path hooks know the mount, and so the path; the inode hooks below them do not.
	byPath = "asked about before, at the path hook, which knows the mount"
	// In a group of descriptors or under RCU there is nobody to hold for long.
	atOpen = "asked about when the file is opened"
)

// fileHooks are about files, their names and their attributes.
var fileHooks = []Hook{
	// Opening and executing.
	{"file_open", Free, on(abi.EventOpen, abi.EventExec), 0, ""},
	{"bprm_creds_for_exec", Free, on(abi.EventExec), 0, "whoever attaches to the task with ptrace waits too"},
	{"bprm_check_security", Free, on(abi.EventExec), 0, "whoever attaches to the task with ptrace waits too"},
	{"bprm_creds_from_file", Locked, nil, 0, "asked about before, at file_open"},
	{"bprm_committing_creds", Void, nil, 0, after},
	{"bprm_committed_creds", Void, nil, 0, after},
	{"file_post_open", Free, nil, 0, after},
	{"file_receive", Free, on(abi.EventReceive), 0, ""},
	{"mmap_file", Free, on(abi.EventMMapExec), 0, ""},
	{"file_mprotect", Atomic, on(abi.EventMProtectExec), RestartAll, ""},
	{"mmap_addr", Atomic, nil, 0, "called for each mapping; a low address is decided by a capability"},
	{"mmap_backing_file", Atomic, nil, 0, "asked about before, at mmap_file of the overlay"},

	// Names.
	{"path_mknod", Locked, on(abi.EventCreate, abi.EventMknod), RestartAll, ""},
	{"path_mkdir", Locked, on(abi.EventMkdir), RestartAll, ""},
	{"path_symlink", Locked, on(abi.EventSymlink), RestartAll, ""},
	{"path_link", Locked, on(abi.EventLink), RestartAll, ""},
	{"path_unlink", Locked, on(abi.EventUnlink), RestartAll, ""},
	{"path_rmdir", Locked, on(abi.EventRmdir), RestartAll, ""},
	{"path_rename", Locked, on(abi.EventRename), RestartAll, ""},
	{"path_post_mknod", Void, nil, 0, after},
	{"inode_create", Locked, nil, 0, byPath},
	{"inode_mknod", Locked, nil, 0, byPath},
	{"inode_mkdir", Locked, nil, 0, byPath},
	{"inode_symlink", Locked, nil, 0, byPath},
	{"inode_link", Locked, nil, 0, byPath},
	{"inode_unlink", Locked, nil, 0, byPath},
	{"inode_rmdir", Locked, nil, 0, byPath},
	{"inode_rename", Locked, nil, 0, byPath},
	{"inode_post_create_tmpfile", Void, nil, 0, after},

	// Attributes and content.
	{"path_chmod", Locked, on(abi.EventChmod), RestartAll, ""},
	{"path_chown", Locked, on(abi.EventChown), RestartAll, ""},
	{"path_truncate", Locked, on(abi.EventTruncate), RestartAll, ""},
	{"file_truncate", Atomic, on(abi.EventTruncate), RestartAll, ""},
	{"inode_setattr", Locked, on(abi.EventSetAttr), RestartAll, ""},
	{"inode_post_setattr", Void, nil, 0, after},
	{"inode_setxattr", Locked, on(abi.EventSetXattr), RestartAll, "ACLs come by inode_set_acl since 6.2"},
	{"inode_removexattr", Locked, on(abi.EventRemoveXattr), RestartAll, "ACLs come by inode_remove_acl since 6.2"},
	{"inode_post_setxattr", Void, nil, 0, after},
	{"inode_post_removexattr", Void, nil, 0, after},
	{"inode_set_acl", Locked, on(abi.EventSetXattr), RestartAll, ""},
	{"inode_remove_acl", Locked, on(abi.EventRemoveXattr), RestartAll, ""},
	{"inode_get_acl", Atomic, nil, 0, reads},
	{"inode_post_set_acl", Void, nil, 0, after},
	{"inode_post_remove_acl", Void, nil, 0, after},
	{"inode_file_setattr", Locked, nil, 0, "no event in this version: flags as chattr(1) sets them"},
	{"inode_file_getattr", Atomic, nil, 0, reads},
	{"inode_getattr", Free, nil, 0, reads},
	{"inode_getxattr", Free, nil, 0, reads},
	{"inode_listxattr", Atomic, nil, 0, reads},
	{"inode_readlink", Free, nil, 0, reads},
	{"inode_follow_link", Atomic, nil, 0, "called within a path walk, also under RCU; " + atOpen},
	{"inode_permission", Atomic, nil, 0, "called for each part of each path, also under RCU; " + atOpen},
	{"inode_need_killpriv", Locked, nil, 0, refused},
	{"inode_killpriv", Locked, nil, 0, "the kernel takes set-user-id bits away from a file that changes; the change is asked about"},
	{"inode_xattr_skipcap", Atomic, nil, 0, labels},

	// Open files.
	{"file_permission", Atomic, nil, 0, "called at each read and write; " + atOpen},
	{"file_ioctl", Free, nil, 0, "no event in this version, and a hot path: ioctl(2)"},
	{"file_ioctl_compat", Atomic, nil, 0, "no event in this version, and a hot path: ioctl(2)"},
	{"file_fcntl", Atomic, nil, 0, "no event in this version, and a hot path: fcntl(2)"},
	{"file_lock", Free, nil, 0, "no event in this version, and a hot path: locks of files"},
	{"file_set_fowner", Void, nil, 0, "notes who gets SIGIO, nothing is decided"},
	{"file_send_sigiotask", Atomic, nil, 0, "called from interrupts for SIGIO, where no task can be held"},
	{"path_notify", Free, nil, 0, "no event in this version: inotify and fanotify"},
	{"file_alloc_security", Atomic, nil, 0, lifetime},
	{"file_release", Void, nil, 0, "a file is closed, which cannot be refused"},
	{"file_free_security", Void, nil, 0, lifetime},
	{"backing_file_alloc", Atomic, nil, 0, lifetime},
	{"backing_file_free", Void, nil, 0, lifetime},

	// What inodes are made of, and labels on them.
	{"inode_alloc_security", Atomic, nil, 0, lifetime},
	{"inode_free_security", Void, nil, 0, lifetime},
	{"inode_free_security_rcu", Void, nil, 0, lifetime},
	{"inode_init_security", Locked, nil, 0, labels},
	{"inode_init_security_anon", Atomic, nil, 0, labels},
	{"inode_getsecurity", Atomic, nil, 0, refused},
	{"inode_setsecurity", Locked, nil, 0, labels},
	{"inode_listsecurity", Atomic, nil, 0, refused},
	{"inode_getsecid", Void, nil, 0, labels},
	{"inode_getlsmprop", Void, nil, 0, labels},
	{"inode_copy_up", Atomic, nil, 0, "overlayfs copies a file up for an open that was asked about"},
	{"inode_copy_up_xattr", Atomic, nil, 0, refused},
	{"inode_setintegrity", Atomic, nil, 0, "the kernel keeps a digest that it has checked"},
	{"inode_invalidate_secctx", Void, nil, 0, labels},
	{"inode_notifysecctx", Locked, nil, 0, labels},
	{"inode_setsecctx", Locked, nil, 0, labels},
	{"inode_getsecctx", Atomic, nil, 0, labels},
	{"kernfs_init_security", Free, nil, 0, labels},
	{"dentry_init_security", Atomic, nil, 0, labels},
	{"dentry_create_files_as", Atomic, nil, 0, labels},
	{"d_instantiate", Void, nil, 0, labels},
}
