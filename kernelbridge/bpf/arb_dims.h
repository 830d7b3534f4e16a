/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The dimensions of scope and mute, one map each, and how a task or a file is looked up
 * in them. ../scopemaps.go writes them.
 *
 * A value holds, per use, two bits: one for each parity of the scope word. Only those of
 * the word's parity count, so that two scopes can be in the maps at once, and an entry of
 * both is never missed while one follows the other.
 */
#ifndef ARB_DIMS_H
#define ARB_DIMS_H

#include "arb_question.h"
#include "arb_lineage.h"

#define ARB_MAX_TREES (8 * 1024)	/* of two scopes, four uses: ../scopemaps.go */
#define ARB_MAX_SCOPE_CGROUPS (6 * 1024)
#define ARB_MAX_MOUNTED (4 * 1024)
#define ARB_MAX_UID_RANGES 64		/* of one use in one scope */
#define ARB_MAX_LEVELS (ARB_PATH_BYTES / 2)
#define ARB_MAX_CGROUP1_STEPS 512	/* hierarchies times levels */

/* Uses of a value, each with the bit of parity 0. */
enum arb_use {
	ARB_USE_SCOPE = 1 << 0,
	ARB_USE_MUTE = 1 << 2,
	ARB_USE_SCOPE_EXE = 1 << 4,	/* of arb_trees */
	ARB_USE_MUTE_EXE = 1 << 6,
	ARB_USE_SERVICE = 1 << 4,	/* of arb_cgroups: the default mutes */
	ARB_USE_OURS = 1 << 6,
};

/* Directories, whose trees are meant, and single files. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_TREES);
	__type(key, struct arb_tree);
	__type(value, __u32);
} arb_trees SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_SCOPE_CGROUPS);
	__type(key, struct arb_cgroup_key);
	__type(value, __u32);
} arb_cgroups SEC(".maps");

/* File systems, by device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_MOUNTED);
	__type(key, __u64);
	__type(value, __u32);
} arb_mounted SEC(".maps");

/* Ranges of real user ids: those of parity 0 in the scope, of parity 0 muted, of parity
 * 1 in the scope, of parity 1 muted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4 * ARB_MAX_UID_RANGES);
	__type(key, __u32);
	__type(value, struct arb_uid_range);
} arb_uids SEC(".maps");

/* By parity. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct arb_scope_config);
} arb_scope_configs SEC(".maps");

static __always_inline __u32 arb_parity(__u32 word)
{
	return word & ARB_SCOPE_PARITY ? 1 : 0;
}

/* A walk from a file up to the root of the mount tree, across mount points: where a
 * path name leads through decides, not where else the inode can be reached.
 * Addresses are read with bpf_probe_read_kernel: a rename during the walk can make it
 * miss or hit, never fault.
 */
struct arb_walk {
	struct vfsmount *mnt;
	struct dentry *dentry;
	struct dentry *mnt_root;
	__u32 want; /* bits that are looked for */
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
		if (value) {
			w->found |= *value & w->want;
			if (w->found == w->want)
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

/* Which of the wanted bits a file has from itself and what is above it. A file that lies
 * too deep for the walk has no path name either: it has the bits of unknown, so that it
 * is asked about and gets the failure verdict of a path that does not fit.
 */
ARB_GLOBAL __u32 arb_tree_bits(__u64 mnt, __u64 dentry, __u32 want, __u32 unknown)
{
	struct vfsmount *v = (void *)mnt;
	struct arb_walk w = {
		.mnt = v,
		.mnt_root = BPF_CORE_READ(v, mnt_root),
		.dentry = (void *)dentry,
		.want = want,
	};

	bpf_loop(ARB_MAX_LEVELS, arb_walk_step, &w, 0);
	if (w.found == want || w.ended)
		return w.found;
	return w.found | unknown;
}

static __always_inline __u32 arb_mounted_bits(struct super_block *sb)
{
	__u64 dev = BPF_CORE_READ(sb, s_dev);
	__u32 *value = bpf_map_lookup_elem(&arb_mounted, &dev);

	return value ? *value : 0;
}

static __always_inline __u32 arb_cgroup_bits_of(__u64 id, __u64 hierarchy)
{
	struct arb_cgroup_key key = { .id = id, .hierarchy = hierarchy };
	__u32 *value = bpf_map_lookup_elem(&arb_cgroups, &key);

	return value ? *value : 0;
}

/* A walk through a task's cgroups of all hierarchies, from each up to its root. v2 is
 * hierarchy 0. No kfunc for v1 is in a kernel before 6.8, and this needs none.
 */
struct arb_cgroup1_walk {
	struct list_head *head;
	struct list_head *link;
	struct cgroup *cgroup; /* NULL: take the next hierarchy */
	__u64 hierarchy;
	__u32 found;
};

/* The cgroup of the hierarchy that a link is about. */
static __always_inline void arb_cgroup1_at(struct arb_cgroup1_walk *w, struct list_head *link)
{
	struct cgrp_cset_link *l;
	struct cgroup *cgroup;

	l = (void *)link - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
	cgroup = BPF_CORE_READ(l, cgrp);
	w->link = link;
	w->cgroup = cgroup;
	w->hierarchy = (__u32)BPF_CORE_READ(cgroup, root, hierarchy_id);
}

static long arb_cgroup1_step(__u32 i, struct arb_cgroup1_walk *w)
{
	struct list_head *link = w->link;
	struct cgroup *cgroup = w->cgroup;
	struct cgroup_subsys_state *up;

	if (!cgroup) {
		link = BPF_CORE_READ(link, next);
		if (!link || link == w->head)
			return 1;
		arb_cgroup1_at(w, link);
		return 0;
	}
	w->found |= arb_cgroup_bits_of(BPF_CORE_READ(cgroup, kn, id), w->hierarchy);
	up = BPF_CORE_READ(cgroup, self.parent);
	w->cgroup = up ? (void *)up - bpf_core_field_offset(struct cgroup, self) : NULL;
	return 0;
}

ARB_GLOBAL __u32 arb_cgroup1_bits(void)
{
	struct css_set *set = BPF_CORE_READ(bpf_get_current_task_btf(), cgroups);
	struct list_head *head = (void *)set + bpf_core_field_offset(struct css_set, cgrp_links);
	struct arb_cgroup1_walk w = { .head = head };

	/* There is a link for each hierarchy, v2 included. The walk must not begin with what
	 * the verifier knows: before 6.7 it takes that for what each step finds.
	 */
	arb_cgroup1_at(&w, BPF_CORE_READ(head, next));
	bpf_loop(ARB_MAX_CGROUP1_STEPS, arb_cgroup1_step, &w, 0);
	return w.found;
}

/* What the cgroups have that the current task is in or below. */
static __always_inline __u32 arb_cgroup_bits(__u32 word)
{
	__u32 found = 0;
	__u64 id;
	int level;

	if (word & ARB_SCOPE_CGROUP1)
		return arb_cgroup1_bits();
	for (level = 1; level <= ARB_CGROUP_LEVELS; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		found |= arb_cgroup_bits_of(id, 0);
	}
	return found;
}

struct arb_uid_walk {
	__u32 uid;
	__u32 first; /* index of the first range */
	__u32 found;
};

static long arb_uid_step(__u32 i, struct arb_uid_walk *w)
{
	__u32 index = w->first + i;
	struct arb_uid_range *r = bpf_map_lookup_elem(&arb_uids, &index);

	if (!r)
		return 1;
	if (w->uid < r->lo || w->uid > r->hi)
		return 0;
	w->found = 1;
	return 1;
}

ARB_GLOBAL bool arb_uid_in(__u32 uid, __u32 first, __u32 n)
{
	struct arb_uid_walk w = { .uid = uid, .first = first };

	bpf_loop(n, arb_uid_step, &w, 0);
	return w.found;
}

#endif
