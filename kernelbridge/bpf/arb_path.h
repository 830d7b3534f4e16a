/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Path names, written into a slot by walking from the object up to the root of the
 * task: for the hooks in which bpf_d_path() is not to be had. What it writes is what
 * bpf_d_path() writes, but for the remark that a file was deleted.
 *
 * Everything is read with bpf_probe_read_kernel: a rename during the walk can make the
 * name one that the file never had, which is why rules on names are about names and
 * not about identity. It cannot fault.
 *
 * Worst case: one step per path component, PATH_MAX / 2 of them.
 */
#ifndef ARB_PATH_H
#define ARB_PATH_H

#include "arb_ring.h"

#define ARB_PATH_MASK (ARB_PATH_BYTES - 1)
#define ARB_MAX_DEPTH (ARB_PATH_BYTES / 2)
#define ARB_MAX_MOUNTS 4096 /* of one superblock that are looked at */

struct arb_name_walk {
	struct vfsmount *mnt;
	struct dentry *dentry;
	struct dentry *mnt_root;
	struct vfsmount *root_mnt; /* the task's root */
	struct dentry *root;
	__u8 *text;
	__u32 begin; /* of what is written, from the end of text */
	__u32 ended; /* the root was reached */
};

static long arb_name_step(__u32 i, struct arb_name_walk *w)
{
	struct dentry *dentry = w->dentry, *parent;
	struct vfsmount *mnt = w->mnt;
	struct mount *m, *up;
	__u32 len, at;

	if (dentry == w->root && mnt == w->root_mnt)
		goto top;
	if (dentry == w->mnt_root) {
		m = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		up = BPF_CORE_READ(m, mnt_parent);
		if (!up || up == m)
			goto top;
		w->dentry = BPF_CORE_READ(m, mnt_mountpoint);
		mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
		w->mnt = mnt;
		w->mnt_root = BPF_CORE_READ(mnt, mnt_root);
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (parent == dentry || !parent)
		return 1; /* not below the root of its mount */
	len = BPF_CORE_READ(dentry, d_name.len) & (ARB_NAME_BYTES - 1);
	if (len + 1 > w->begin)
		return 1; /* does not fit */
	at = (w->begin - len) & ARB_PATH_MASK;
	bpf_probe_read_kernel(w->text + at, len, BPF_CORE_READ(dentry, d_name.name));
	at = (at - 1) & ARB_PATH_MASK;
	w->text[at] = '/';
	w->begin = at;
	w->dentry = parent;
	return 0;
top:
	w->ended = 1;
	return 1;
}

/* A text of a slot, and what follows it there: nothing is written into that, but the
 * verifier cannot see it.
 */
struct arb_text {
	__u8 text[ARB_PATH_BYTES];
	__u8 beyond[ARB_NAME_BYTES];
};

/* Writes the path of a dentry into text, one of the texts of a slot. Returns its length,
 * 0 when it does not fit or cannot be known.
 */
ARB_GLOBAL __u32 arb_write_path(struct arb_text *t, __u64 mnt, __u64 dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vfsmount *v = (void *)mnt;
	__u8 *text;
	struct arb_name_walk w = {
		.mnt = v,
		.dentry = (void *)dentry,
		.mnt_root = BPF_CORE_READ(v, mnt_root),
		.root_mnt = BPF_CORE_READ(task, fs, root.mnt),
		.root = BPF_CORE_READ(task, fs, root.dentry),
		.begin = ARB_PATH_MASK,
	};
	__u32 len;

	if (!t || !mnt || !dentry)
		return 0;
	text = t->text;
	w.text = text;
	bpf_loop(ARB_MAX_DEPTH, arb_name_step, &w, 0);
	if (!w.ended)
		return 0;
	len = (ARB_PATH_MASK - w.begin) & ARB_PATH_MASK;
	if (!len) { /* the root itself */
		text[0] = '/';
		return 1;
	}
	/* To the begin of the text. It overlaps, and is copied upwards. */
	bpf_probe_read_kernel(text, len, text + (w.begin & ARB_PATH_MASK));
	return len;
}

/* The search for a mount of a superblock in the task's mount namespace through which a
 * dentry can be seen.
 */
struct arb_mount_search {
	struct mount *mount;
	struct list_head *head; /* where the list ends, before 6.18 */
	struct mnt_namespace *ns;
	struct dentry *dentry;
	struct dentry *sb_root;
	struct vfsmount *found;
};

struct arb_below {
	struct dentry *dentry, *root;
	__u32 found;
	__u32 pad;
};

static long arb_below_step(__u32 i, struct arb_below *b)
{
	struct dentry *dentry = b->dentry;

	if (dentry == b->root) {
		b->found = 1;
		return 1;
	}
	b->dentry = BPF_CORE_READ(dentry, d_parent);
	return !b->dentry || b->dentry == dentry;
}

static __always_inline struct mount *arb_next_mount(struct arb_mount_search *s)
{
	struct mount *m = s->mount;
	struct mount___list *old = (void *)m;
	struct list_head *next;

	if (bpf_core_field_exists(struct mount, mnt_next_for_sb))
		return BPF_CORE_READ(m, mnt_next_for_sb);
	next = BPF_CORE_READ(old, mnt_instance.next);
	if (next == s->head)
		return NULL;
	return (void *)next - bpf_core_field_offset(struct mount___list, mnt_instance);
}

static long arb_mount_step(__u32 i, struct arb_mount_search *s)
{
	struct mount *m = s->mount;
	struct arb_below b = {};

	if (!m)
		return 1;
	s->mount = arb_next_mount(s);
	if (BPF_CORE_READ(m, mnt_ns) != s->ns)
		return 0;
	b.dentry = s->dentry;
	b.root = BPF_CORE_READ(m, mnt.mnt_root);
	if (b.root != s->sb_root) { /* a part of the file system */
		if (s->found)
			return 0;
		bpf_loop(ARB_MAX_DEPTH, arb_below_step, &b, 0);
		if (!b.found)
			return 0;
	}
	s->found = (void *)m + bpf_core_field_offset(struct mount, mnt);
	return b.root == s->sb_root;
}

/* A mount through which the task can see a file: for the hooks that are given an inode
 * and not where it was reached. One of the whole file system, if there is one; which of
 * several cannot be known. 0: there is none in its mount namespace.
 */
ARB_GLOBAL __u64 arb_mount_of(__u64 dentry)
{
	struct dentry *d = (void *)dentry;
	struct super_block *sb = BPF_CORE_READ(d, d_sb);
	struct super_block___list *old = (void *)sb;
	struct arb_mount_search s = {
		.ns = BPF_CORE_READ(bpf_get_current_task_btf(), nsproxy, mnt_ns),
		.dentry = d,
		.sb_root = BPF_CORE_READ(sb, s_root),
	};
	struct list_head *first;

	if (bpf_core_field_exists(struct mount, mnt_next_for_sb)) {
		s.mount = BPF_CORE_READ(sb, s_mounts);
	} else {
		first = BPF_CORE_READ(old, s_mounts.next);
		s.head = (void *)old + bpf_core_field_offset(struct super_block___list, s_mounts);
		if (first == s.head)
			return 0;
		s.mount = (void *)first - bpf_core_field_offset(struct mount___list, mnt_instance);
	}
	bpf_loop(ARB_MAX_MOUNTS, arb_mount_step, &s, 0);
	return (__u64)s.found;
}

#endif
