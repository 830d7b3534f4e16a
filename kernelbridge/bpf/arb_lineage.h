/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Process trees: each task knows of which of them it is, by a mark that it gets when it
 * executes the program of a root, and that its children and threads inherit, whoever
 * becomes their parent later. The programs that keep the marks are in lineage.bpf.c.
 */
#ifndef ARB_LINEAGE_H
#define ARB_LINEAGE_H

#include "arb_kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "arb_abi.h"

#define ARB_MAX_ROOTS 64 /* of two policies, a bit of a mark each */

/* Bit r: the task is in tree r. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} arb_lineage SEC(".maps");

/* The programs of the roots, and the bits of their trees. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ARB_MAX_ROOTS);
	__type(key, struct arb_tree);
	__type(value, __u64);
} arb_roots SEC(".maps");

/* The trees that the task is in. False: it cannot be known. */
static __always_inline bool arb_marks_of(struct task_struct *task, __u64 *marks)
{
	/* Created, so that NULL says that. */
	__u64 *mark = bpf_task_storage_get(&arb_lineage, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (mark)
		*marks = *(volatile __u64 *)mark;
	return mark;
}

/* The trees that the task executes the root of, by its program. */
static __always_inline __u64 arb_roots_of(struct task_struct *task)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);
	struct arb_tree key = {};
	__u64 *bits;

	if (!inode)
		return 0;
	key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key.ino = BPF_CORE_READ(inode, i_ino);
	bits = bpf_map_lookup_elem(&arb_roots, &key);
	return bits ? *bits : 0;
}

#endif
