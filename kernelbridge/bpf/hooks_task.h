/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tasks do to each other and to their own privileges. Most of these hooks are called
 * where nothing may sleep, some by callers that make another errno of a refusal: see
 * arb_restarts().
 */

#define ARB_PTRACE_MODE_ATTACH 2
#define ARB_CAP_OPT_NOAUDIT 2

/* The object is a process: its executable. */
static __always_inline void arb_target(struct arb_question *q, struct task_struct *task)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);

	q->object_is_process = 1;
	q->arg[1] = (__u32)BPF_CORE_READ(task, tgid);
	q->arg[2] = BPF_CORE_READ(task, real_cred, uid.val);
	if (!exe)
		return;
	q->mnt = BPF_CORE_READ(exe, f_path.mnt);
	q->dentry = BPF_CORE_READ(exe, f_path.dentry);
}

SEC("lsm/task_kill")
int BPF_PROG(arb_task_kill, struct task_struct *task, void *info, int signal,
	     const struct cred *cred)
{
	struct arb_question q = { .event = ARB_EVENT_SIGNAL, .arg = { (__u32)signal } };

	arb_target(&q, task);
	return arb_locked_hook(&q);
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(arb_ptrace_access_check, struct task_struct *task, __u32 mode)
{
	struct arb_question q = { .event = ARB_EVENT_PTRACE, .arg = { mode } };

	/* Reads of /proc files come here too, all day long. */
	if (!(mode & ARB_PTRACE_MODE_ATTACH))
		return 0;
	arb_target(&q, task);
	return arb_locked_hook(&q);
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(arb_ptrace_traceme, struct task_struct *parent)
{
	struct arb_question q = { .event = ARB_EVENT_PTRACE };

	arb_target(&q, parent);
	return arb_locked_hook(&q);
}

SEC("lsm/task_fix_setuid")
int BPF_PROG(arb_task_fix_setuid, struct cred *new, const struct cred *old, int flags)
{
	struct arb_question q = {
		.event = ARB_EVENT_SETUID, .arg = { new->uid.val, new->euid.val, new->suid.val },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/task_fix_setgid")
int BPF_PROG(arb_task_fix_setgid, struct cred *new, const struct cred *old, int flags)
{
	struct arb_question q = {
		.event = ARB_EVENT_SETGID, .arg = { new->gid.val, new->egid.val, new->sgid.val },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/capable")
int BPF_PROG(arb_capable, const struct cred *cred, void *ns, int cap, __u32 options)
{
	struct arb_question q = { .event = ARB_EVENT_CAPABLE, .arg = { (__u32)cap } };

	/* Only looking whether it would be there. */
	if (options & ARB_CAP_OPT_NOAUDIT)
		return 0;
	return arb_locked_hook(&q);
}

SEC("lsm.s/userns_create")
int BPF_PROG(arb_userns_create, const struct cred *cred)
{
	struct arb_question q = { .event = ARB_EVENT_USERNS_CREATE };

	return arb_free_hook(&q);
}

SEC("lsm.s/task_prctl")
int BPF_PROG(arb_task_prctl, int option, unsigned long arg2, unsigned long arg3, unsigned long arg4,
	     unsigned long arg5)
{
	struct arb_question q = {
		.event = ARB_EVENT_PRCTL, .arg = { (__u32)option, arg2, arg3, arg4, arg5 },
	};

	int ret = arb_free_hook(&q);

	/* -ENOSYS is the hook's way to say that it has no opinion: it would make an allowed
	 * call of a refusal.
	 */
	return ret == -ARB_ENOSYS ? -ARB_EPERM : ret;
}
