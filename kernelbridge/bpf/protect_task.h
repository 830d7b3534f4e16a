/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Protected processes, and protected maps and programs.
 */

#define ARB_PTRACE_MODE_ATTACH 2

static __always_inline int arb_touch_task(struct task_struct *task, struct arb_attempt *a)
{
	if (!arb_get_protection() || !arb_get_guarded(task))
		return 0;
	a->arg[1] = (__u32)BPF_CORE_READ(task, tgid);
	return arb_refuse(a);
}

/* Process 1 and the parent, one of which is the service manager, may send every signal: it
 * must be able to stop the daemon.
 */
static __always_inline bool arb_is_manager(struct task_struct *task)
{
	struct task_struct___leader *t = (void *)task;
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	return tgid == 1 || tgid == (__u32)BPF_CORE_READ(t, group_leader, real_parent, tgid);
}

SEC("lsm/task_kill")
int BPF_PROG(arb_guard_kill, struct task_struct *task, void *info, int signal,
	     const struct cred *cred)
{
	struct arb_attempt a = { .hook = ARB_HOOK_TASK_KILL, .arg = { (__u32)signal } };
	struct arb_refusals *counts;
	struct arb_guarded *g;

	if (!signal || !arb_get_protection())
		return 0;
	g = arb_get_guarded(task);
	if (!g || g->signals >> ((signal - 1) & 63) & 1)
		return 0;
	counts = bpf_map_lookup_elem(&arb_refusals, &a.hook);
	if (counts && arb_is_manager(task)) {
		counts->by_manager++;
		return 0;
	}
	a.arg[1] = (__u32)BPF_CORE_READ(task, tgid);
	return arb_refuse(&a);
}

/* Who caused it is not who runs, so nobody may. */
SEC("lsm/file_send_sigiotask")
int BPF_PROG(arb_guard_sigio, struct task_struct *task, void *fown, int signal)
{
	__u32 hook = ARB_HOOK_FILE_SEND_SIGIOTASK;
	struct arb_refusals *counts;

	if (!arb_get_protection() || !arb_get_guarded(task))
		return 0;
	counts = bpf_map_lookup_elem(&arb_refusals, &hook);
	if (counts)
		counts->refused++;
	return -ARB_EPERM;
}

/* PTRACE_ATTACH, /proc/PID/mem, process_vm_readv(2) and process_vm_writev(2),
 * pidfd_getfd(2). Of a holder of a token, too: it would be a way to get the token.
 */
SEC("lsm/ptrace_access_check")
int BPF_PROG(arb_guard_ptrace, struct task_struct *task, __u32 mode)
{
	struct arb_attempt a = { .hook = ARB_HOOK_PTRACE_ACCESS_CHECK, .arg = { mode } };

	if (!(mode & ARB_PTRACE_MODE_ATTACH) || !arb_get_protection())
		return 0;
	if (!arb_get_guarded(task) && !arb_holds_token(task))
		return 0;
	a.arg[1] = (__u32)BPF_CORE_READ(task, tgid);
	return arb_refuse(&a);
}

SEC("lsm/task_setscheduler")
int BPF_PROG(arb_guard_scheduler, struct task_struct *task)
{
	struct arb_attempt a = { .hook = ARB_HOOK_TASK_SETSCHEDULER };

	return arb_touch_task(task, &a);
}

SEC("lsm/task_setnice")
int BPF_PROG(arb_guard_nice, struct task_struct *task, int nice)
{
	struct arb_attempt a = { .hook = ARB_HOOK_TASK_SETNICE };

	return arb_touch_task(task, &a);
}

SEC("lsm/task_setioprio")
int BPF_PROG(arb_guard_ioprio, struct task_struct *task, int ioprio)
{
	struct arb_attempt a = { .hook = ARB_HOOK_TASK_SETIOPRIO };

	return arb_touch_task(task, &a);
}

SEC("lsm/task_setrlimit")
int BPF_PROG(arb_guard_rlimit, struct task_struct *task, __u32 resource, void *limit)
{
	struct arb_attempt a = { .hook = ARB_HOOK_TASK_SETRLIMIT, .arg = { resource } };

	return arb_touch_task(task, &a);
}

/* Of each process that ends, so that somebody who keeps these programs attached does not
 * keep the protection.
 */
SEC("lsm/task_free")
int BPF_PROG(arb_guard_end, struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct arb_protection *p;
	struct arb_guarded *g;

	if ((__u32)BPF_CORE_READ(task, pid) != tgid)
		return 0;
	g = bpf_map_lookup_elem(&arb_guarded, &tgid);
	p = arb_get_protection();
	if (p && g && g->is_daemon &&
	    g->start_ticks == BPF_CORE_READ(task, start_boottime) / ARB_TICK_NS)
		p->armed = 0;
	return 0;
}

SEC("lsm/bpf_map")
int BPF_PROG(arb_guard_map, struct bpf_map *map, __u32 mode)
{
	__u32 id = BPF_CORE_READ(map, id);
	struct arb_attempt a = { .hook = ARB_HOOK_BPF_MAP, .arg = { id, 0, mode & 3 } };

	if (!(mode & ARB_FMODE_WRITE) || !bpf_map_lookup_elem(&arb_map_ids, &id) ||
	    !arb_get_protection())
		return 0;
	a.arg[1] = BPF_CORE_READ(map, map_type);
	return arb_refuse(&a);
}

/* Another program may be put in the place of one whose descriptor is to be had. */
SEC("lsm/bpf_prog")
int BPF_PROG(arb_guard_prog, struct bpf_prog *prog)
{
	__u32 id = BPF_CORE_READ(prog, aux, id);
	struct arb_attempt a = { .hook = ARB_HOOK_BPF_PROG, .arg = { id } };

	if (!bpf_map_lookup_elem(&arb_prog_ids, &id) || !arb_get_protection())
		return 0;
	a.arg[1] = BPF_CORE_READ(prog, type);
	return arb_refuse(&a);
}
