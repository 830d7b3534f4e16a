// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What keeps the marks of process trees, attached while a scope, a mute or a rule names one:
 *
 *   task_alloc            a child, and a thread, gets the marks of who makes it
 *   sched_process_fork    once it can be found, and does not run yet, it gets them again:
 *                         they can have changed since, which takes as long as a fork does
 *   bprm_check_security   a task that executes something has room for a mark
 *   bprm_committed_creds  a task that has executed the program of a root gets its mark
 *   iter/task             marks what runs already, run by the daemon before a scope, or
 *                         a rule, is in force
 *
 * None of them waits. Worst case: two allocations; without them the fork or the exec fails,
 * but for sched_process_fork, where the fork is done.
 */
#include "arb_lineage.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARB_EAGAIN 11

/* One run of the iterator: written by the daemon, the two counters read by it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_marking);
} arb_markings SEC(".maps");

SEC("lsm/task_alloc")
int BPF_PROG(arb_task_alloc, struct task_struct *task, unsigned long flags)
{
	__u64 marks, *child;

	if (!arb_marks_of(bpf_get_current_task_btf(), &marks))
		return -ARB_EAGAIN; /* else the child could leave its tree */
	if (!marks)
		return 0;
	child = bpf_task_storage_get(&arb_lineage, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!child)
		return -ARB_EAGAIN;
	*child = marks;
	return 0;
}

/* The iterator has passed the child by before this, or finds it after. So what it has done to
 * the parent's marks before is done to the child's here, and what it does to them later it
 * does to the child's in its next pass, for it has changed something.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(arb_forked, struct task_struct *parent, struct task_struct *child)
{
	__u64 *own, marks;

	if (!arb_marks_of(parent, &marks))
		return 0; /* it keeps what it has */
	own = bpf_task_storage_get(&arb_lineage, child, 0,
				   marks ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!own || *(volatile __u64 *)own == marks)
		return 0;
	__sync_fetch_and_or(own, marks);
	__sync_fetch_and_and(own, marks);
	return 0;
}

/* Makes room for the mark while the exec can still fail. */
SEC("lsm/bprm_check_security")
int BPF_PROG(arb_check_room, struct linux_binprm *bprm)
{
	if (!bpf_task_storage_get(&arb_lineage, bpf_get_current_task_btf(), 0,
				  BPF_LOCAL_STORAGE_GET_F_CREATE))
		return -ARB_EAGAIN;
	return 0;
}

SEC("lsm/bprm_committed_creds")
int BPF_PROG(arb_committed_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 bits = arb_roots_of(task), *mark;

	if (!bits)
		return 0;
	mark = bpf_task_storage_get(&arb_lineage, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (mark)
		__sync_fetch_and_or(mark, bits);
	return 0;
}

SEC("iter/task")
int arb_mark_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;
	__u64 bits, before, *mark, *up;
	struct arb_marking *m;
	__u32 zero = 0;

	m = bpf_map_lookup_elem(&arb_markings, &zero);
	if (!task || !m)
		return 0;
	if (m->clear) {
		mark = bpf_task_storage_get(&arb_lineage, task, 0, 0);
		if (mark && (*mark & m->clear)) {
			__sync_fetch_and_and(mark, ~m->clear);
			m->changed++;
		}
		return 0;
	}
	bits = arb_roots_of(task);
	parent = task->real_parent;
	if (parent) {
		up = bpf_task_storage_get(&arb_lineage, parent, 0, 0);
		if (up)
			bits |= *up;
	}
	bits &= m->set;
	if (!bits)
		return 0;
	mark = bpf_task_storage_get(&arb_lineage, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!mark) {
		m->failed++;
		return 0;
	}
	before = __sync_fetch_and_or(mark, bits);
	if (bits & ~before)
		m->changed++;
	return 0;
}
