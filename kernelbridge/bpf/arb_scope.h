/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is this access in scope? Decided in the kernel, before anything is asked: outside of
 * its scope the daemon arbitrates nothing.
 *
 * Worst case of arb_in_scope(): one step per path component, PATH_MAX / 2 of them.
 */
#ifndef ARB_SCOPE_H
#define ARB_SCOPE_H

#include "arb_ring.h"

#define ARB_MAX_TREES (2 * 1024)	/* of two scopes: ../scope.go */
#define ARB_MAX_SCOPE_CGROUPS (2 * 1024)
#define ARB_MAX_LEVELS (ARB_PATH_BYTES / 2)

/* Roots of the scope's trees. Bit 0 of the value: in the scope of parity 0; bit 1: in
 * that of parity 1.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_TREES);
	__type(key, struct arb_tree);
	__type(value, __u32);
} arb_trees SEC(".maps");

/* Ids of the scope's cgroups (v2), values as above. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_SCOPE_CGROUPS);
	__type(key, __u64);
	__type(value, __u32);
} arb_cgroups SEC(".maps");

/* A walk from a file up to the root of the mount tree, across mount points: where a
 * path name leads through decides, not where else the inode can be reached.
 * Addresses are read with bpf_probe_read_kernel: a rename during the walk can make it
 * miss or hit, never fault.
 */
struct arb_walk {
	struct vfsmount *mnt;
	struct dentry *dentry;
	struct dentry *mnt_root;
	__u32 member; /* bit that must be set in an entry's value */
	__u32 found;
	__u32 ended; /* the top was reached */
};

static long arb_walk_step(__u32 i, struct arb_walk *w)
{
	struct dentry *dentry = w->dentry, *parent;
	struct vfsmount *mnt = w->mnt;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct arb_tree key = {};
	struct mount *m, *up;
	__u32 *value;

	if (inode) {
		key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
		key.ino = BPF_CORE_READ(inode, i_ino);
		value = bpf_map_lookup_elem(&arb_trees, &key);
		if (value && (*value & w->member)) {
			w->found = 1;
			return 1;
		}
	}
	if (dentry != w->mnt_root) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry || !parent)
			goto top;
		w->dentry = parent;
		return 0;
	}
	/* The root of a mount: go on at the directory that it covers. */
	m = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	up = BPF_CORE_READ(m, mnt_parent);
	if (!up || up == m)
		goto top;
	w->dentry = BPF_CORE_READ(m, mnt_mountpoint);
	mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
	w->mnt = mnt;
	w->mnt_root = BPF_CORE_READ(mnt, mnt_root);
	return 0;
top:
	w->ended = 1;
	return 1;
}

static __noinline bool arb_in_trees(struct vfsmount *mnt, struct dentry *dentry, __u32 member)
{
	struct arb_walk w = {
		.mnt = mnt,
		.mnt_root = BPF_CORE_READ(mnt, mnt_root),
		.dentry = dentry,
		.member = member,
	};

	bpf_loop(ARB_MAX_LEVELS, arb_walk_step, &w, 0);
	/* A file deeper than that has no path name either: it is asked about, and gets
	 * the failure verdict of a path that does not fit.
	 */
	return w.found || !w.ended;
}

static __always_inline bool arb_in_cgroups(__u32 member)
{
	__u32 *value;
	__u64 id;
	int level;

	for (level = 1; level <= ARB_CGROUP_LEVELS; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			return false;
		value = bpf_map_lookup_elem(&arb_cgroups, &id);
		if (value && (*value & member))
			return true;
	}
	return false;
}

/* In scope is what is in every dimension that the scope names. The trees are about the
 * object; of an event that has none, about the subject's executable.
 */
static __always_inline bool arb_in_scope(struct arb_header *h, struct vfsmount *mnt,
					 struct dentry *dentry)
{
	__u32 scope = READ_ONCE(h->scope);
	__u32 member = scope & ARB_SCOPE_PARITY ? 2 : 1;
	struct file *exe;

	if (!(scope & (ARB_SCOPE_TREES | ARB_SCOPE_CGROUPS)))
		return false;
	if ((scope & ARB_SCOPE_CGROUPS) && !arb_in_cgroups(member))
		return false;
	if (!(scope & ARB_SCOPE_TREES))
		return true;
	if (!dentry) {
		exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);
		if (!exe)
			return false;
		mnt = BPF_CORE_READ(exe, f_path.mnt);
		dentry = BPF_CORE_READ(exe, f_path.dentry);
	}
	return arb_in_trees(mnt, dentry, member);
}

#endif
