/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs of protect.bpf.c share: their maps, and who is let through.
 */
#ifndef ARB_PROTECT_H
#define ARB_PROTECT_H

#include "arb_kernel.h"
#include "arb_abi.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define ARB_ANCESTORS 64
#define ARB_TICK_NS 10000000 /* of /proc/PID/stat */
#define ARB_MAP_TYPE_INODE_STORAGE 28

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_protection);
} arb_protection SEC(".maps");

/* Not task storage: before 6.2 a lookup there fails when another task of this CPU has been
 * interrupted in one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct arb_guarded);
} arb_guarded SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct arb_token);
} arb_tokens SEC(".maps");

struct {
	__uint(type, ARB_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __s32);
	__type(value, struct arb_place);
} arb_places SEC(".maps");

/* The directories among them whose contents are protected. Not by inode storage: the
 * verifier of later kernels does not trust the way from an open file to its directory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct arb_tree);
	__type(value, struct arb_place);
} arb_kept_trees SEC(".maps");

/* Ids of mounts, maps and programs. The mounts are in use, so their ids are. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, __u32);
} arb_mounts SEC(".maps"), arb_map_ids SEC(".maps"), arb_prog_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ARB_HOOK_COUNT);
	__type(key, __u32);
	__type(value, struct arb_refusals);
} arb_refusals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} arb_refusal_notices SEC(".maps");

struct arb_refusal *arb_refusal_btf __attribute__((unused));

/* The protection, NULL when it is not in force. */
static __always_inline struct arb_protection *arb_get_protection(void)
{
	__u32 zero = 0;
	struct arb_protection *p = bpf_map_lookup_elem(&arb_protection, &zero);

	return p && p->armed ? p : NULL;
}

static __always_inline __u64 arb_start_ticks(struct task_struct *task)
{
	struct task_struct___leader *t = (void *)task;

	return BPF_CORE_READ(t, group_leader, start_boottime) / ARB_TICK_NS;
}

static __always_inline struct arb_guarded *arb_get_guarded(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct arb_guarded *g = bpf_map_lookup_elem(&arb_guarded, &tgid);

	return g && g->start_ticks == arb_start_ticks(task) ? g : NULL;
}

struct arb_descent {
	struct task_struct *task;
	__u64 now;
	__u32 holds;
	__u32 pad;
};

static long arb_ancestor(__u32 i, struct arb_descent *d)
{
	struct task_struct *task = d->task;
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct arb_token *t;

	if (tgid <= 1)
		return 1;
	t = bpf_map_lookup_elem(&arb_tokens, &tgid);
	if (t && d->now < t->until_ns && t->start_ticks == arb_start_ticks(task)) {
		d->holds = 1;
		return 1;
	}
	d->task = BPF_CORE_READ(task, real_parent);
	return 0;
}

/* Whether a process, or one that it descends from, holds a token. Parents go under RCU,
 * which a program that does not sleep runs under.
 */
static __always_inline bool arb_holds_token(struct task_struct *task)
{
	struct arb_descent d = { .task = task, .now = bpf_ktime_get_ns() };

	bpf_loop(ARB_ANCESTORS, arb_ancestor, &d, 0);
	return d.holds;
}

/* What is refused. */
struct arb_attempt {
	__u32 hook;
	__u32 index;
	__u32 depth;
	__u32 pad;
	__u64 arg[3];
	struct dentry *dentry;
};

static __always_inline void arb_notify(struct arb_attempt *a, struct arb_refusals *counts)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_refusal *r = bpf_ringbuf_reserve(&arb_refusal_notices, sizeof(*r), 0);
	__u64 id;

	if (!r) {
		counts->unnoticed++;
		return;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->hook = a->hook;
	r->index = a->index;
	r->depth = a->depth;
	r->arg[0] = a->arg[0];
	r->arg[1] = a->arg[1];
	r->arg[2] = a->arg[2];
	r->start_boottime = BPF_CORE_READ(task, start_boottime);
	id = bpf_get_current_pid_tgid();
	r->tgid = id >> 32;
	r->tid = (__u32)id;
	id = bpf_get_current_uid_gid();
	r->uid = (__u32)id;
	r->gid = id >> 32;
	bpf_get_current_comm(r->comm, sizeof(r->comm));
	if (a->dentry) {
		struct dentry *dentry = a->dentry;
		struct inode *inode = BPF_CORE_READ(dentry, d_inode);

		r->dev = BPF_CORE_READ(dentry, d_sb, s_dev);
		if (inode)
			r->ino = BPF_CORE_READ(inode, i_ino);
		bpf_probe_read_kernel_str(r->leaf, sizeof(r->leaf),
					  BPF_CORE_READ(dentry, d_name.name));
	}
	bpf_ringbuf_submit(r, 0);
}

/* The outcome of what is protected: 0 or -EPERM. */
static __always_inline int arb_refuse(struct arb_attempt *a)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_refusals *counts = bpf_map_lookup_elem(&arb_refusals, &a->hook);

	if (!counts || arb_get_guarded(task))
		return 0;
	if (arb_holds_token(task)) {
		counts->maintained++;
		return 0;
	}
	counts->refused++;
	arb_notify(a, counts);
	return -ARB_EPERM;
}

#endif
