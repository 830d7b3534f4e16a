// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// mountHooks are about mounts, superblocks and block devices.
var mountHooks = []Hook{
	{"sb_mount", Free, on(abi.EventMount), 0, ""},
	{"sb_umount", Free, on(abi.EventUmount), 0, ""},
	{"sb_remount", Locked, on(abi.EventRemount), RestartSome, "mount(2) restarts; for fsconfig(2) the context has failed then"},
	{"move_mount", Atomic, on(abi.EventMoveMount), RestartAll, ""},
	{"sb_pivotroot", Atomic, on(abi.EventPivotRoot), RestartAll, ""},
	{"path_chroot", Atomic, on(abi.EventChroot), RestartAll, ""},
	{"sb_kern_mount", Locked, nil, 0, "asked about when the file system gets a place: sb_mount, move_mount"},
	{"sb_statfs", Free, nil, 0, "reads what describes a file system and changes nothing"},
	{"sb_show_options", Free, nil, 0, options},
	{"sb_eat_lsm_opts", Free, nil, 0, options},
	{"sb_free_mnt_opts", Void, nil, 0, options},
	{"sb_mnt_opts_compat", Atomic, nil, 0, options},
	{"sb_set_mnt_opts", Locked, nil, 0, options},
	{"sb_clone_mnt_opts", Atomic, nil, 0, options},
	{"sb_alloc_security", Free, nil, 0, lifetime},
	{"sb_delete", Void, nil, 0, lifetime},
	{"sb_free_security", Void, nil, 0, lifetime},
	{"fs_context_dup", Atomic, nil, 0, options},
	{"fs_context_parse_param", Atomic, nil, 0, options},
	{"fs_context_submount", Atomic, nil, 0, options},
	{"quotactl", Atomic, nil, 0, "no event in this version: quotas; they need CAP_SYS_ADMIN, whose use is capable"},
	{"quota_on", Atomic, nil, 0, "no event in this version: quotas; they need CAP_SYS_ADMIN, whose use is capable"},
	{"initramfs_populated", Void, nil, 0, "once at boot, before any program can be attached"},
	{"bdev_alloc_security", Atomic, nil, 0, lifetime},
	{"bdev_free_security", Void, nil, 0, lifetime},
	{"bdev_setintegrity", Atomic, nil, 0, "the kernel keeps a digest that it has checked"},
}
