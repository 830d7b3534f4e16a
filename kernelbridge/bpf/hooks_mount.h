/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Mounts and roots. mount(2) and umount(2) ask before they take a lock, and may sleep;
 * a remount holds its superblock.
 */

SEC("lsm.s/sb_mount")
int BPF_PROG(arb_sb_mount, const char *dev_name, const struct path *path, const char *type,
	     unsigned long flags, void *data)
{
	struct arb_question q = {
		.event = ARB_EVENT_MOUNT,
		.mnt = path->mnt,
		.dentry = path->dentry,
		.detail = type,
		.arg = { flags },
	};

	return arb_free_hook(&q);
}

SEC("lsm.s/sb_umount")
int BPF_PROG(arb_sb_umount, struct vfsmount *mnt, int flags)
{
	struct arb_question q = {
		.event = ARB_EVENT_UMOUNT,
		.mnt = mnt,
		.dentry = mnt->mnt_root,
		.arg = {(__u32)flags},
	};

	return arb_free_hook(&q);
}

SEC("lsm/sb_remount")
int BPF_PROG(arb_sb_remount, struct super_block *sb, void *options)
{
	struct arb_question q = {
		.event = ARB_EVENT_REMOUNT,
		.dentry = sb->s_root,
		.detail = BPF_CORE_READ(sb, s_type, name),
	};

	return arb_locked_hook(&q);
}

SEC("lsm/move_mount")
int BPF_PROG(arb_move_mount, const struct path *from, const struct path *to)
{
	struct arb_question q = {
		.event = ARB_EVENT_MOVE_MOUNT,
		.mnt = to->mnt,
		.dentry = to->dentry,
		.detail_mnt = from->mnt,
		.detail_dentry = from->dentry,
	};

	return arb_locked_hook(&q);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(arb_sb_pivotroot, const struct path *old, const struct path *new)
{
	/* The hook calls where the old root goes its first argument. */
	struct arb_question q = {
		.event = ARB_EVENT_PIVOT_ROOT,
		.mnt = new->mnt,
		.dentry = new->dentry,
		.detail_mnt = old->mnt,
		.detail_dentry = old->dentry,
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_chroot")
int BPF_PROG(arb_path_chroot, const struct path *path)
{
	struct arb_question q = {
		.event = ARB_EVENT_CHROOT, .mnt = path->mnt, .dentry = path->dentry};

	return arb_locked_hook(&q);
}
