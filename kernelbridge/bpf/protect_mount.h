/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mounts that protected files are reached by.
 *
 * Containers and services make and undo mounts in their own namespaces all the
 * time, over the same directories. What reaches the daemon is the mounts that it goes
 * through, and what is propagated to them from shared ones.
 */

/* include/uapi/linux/mount.h: of mount(2), what changes a mount and makes none. */
#define ARB_MS_CHANGE (1u << 5 | 1u << 17 | 1u << 18 | 1u << 19 | 1u << 20)

static __always_inline struct mount___shared *arb_mount_of(const struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

static __always_inline bool arb_is_ours(const struct vfsmount *mnt)
{
	struct mount___shared *m = arb_mount_of(mnt);
	__u32 id = BPF_CORE_READ(m, mnt_id);

	return bpf_map_lookup_elem(&arb_mounts, &id);
}

static __always_inline bool arb_is_elsewhere(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mnt_namespace___inum *ns = (void *)BPF_CORE_READ(task, nsproxy, mnt_ns);
	struct arb_protection *p = arb_get_protection();

	return p && BPF_CORE_READ(ns, ns.inum) != p->mount_ns;
}

static __always_inline bool arb_reaches(const struct vfsmount *mnt)
{
	struct mount___shared *m = arb_mount_of(mnt);

	return arb_is_ours(mnt) || BPF_CORE_READ(m, mnt_group_id);
}

SEC("lsm/sb_mount")
int BPF_PROG(arb_guard_mount, const char *dev_name, const struct path *path, const char *type,
	     unsigned long flags, void *data)
{
	if (flags & ARB_MS_CHANGE || !arb_reaches(path->mnt))
		return 0;
	return arb_change(path->dentry, ARB_ANY_PLACE, ARB_HOOK_SB_MOUNT);
}

/* The end of a mount is propagated along the one that it is on. */
SEC("lsm/sb_umount")
int BPF_PROG(arb_guard_umount, struct vfsmount *mnt, int flags)
{
	struct mount___shared *m = arb_mount_of(mnt);

	if ((!arb_is_ours(mnt) &&
		    !(BPF_CORE_READ(m, mnt_parent, mnt_group_id) && arb_is_elsewhere())))
		return 0;
	return arb_change(mnt->mnt_root, ARB_ANY_PLACE, ARB_HOOK_SB_UMOUNT);
}

SEC("lsm/move_mount")
int BPF_PROG(arb_guard_move_mount, const struct path *from, const struct path *to)
{
	int refused = 0;

	if (arb_reaches(to->mnt))
		refused = arb_change(to->dentry, ARB_ANY_PLACE, ARB_HOOK_MOVE_MOUNT);
	if (!refused && arb_is_ours(from->mnt))
		refused = arb_change(from->dentry, ARB_ANY_PLACE, ARB_HOOK_MOVE_MOUNT);
	return refused;
}
