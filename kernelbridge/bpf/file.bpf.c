// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The hooks on files:
 *
 *   file_open            event open: every open but those by execve itself
 *   bprm_creds_for_exec  event exec: the file named in execve, also for AT_EXECVE_CHECK
 *   bprm_check_security  event exec: each interpreter of a script, one level at a time
 *
 * All three are sleepable and called without a lock that anybody else waits for, but for
 * the task's own cred_guard_mutex in the two bprm hooks. Worst case of each:
 * header.wait_ns, plus the walk of arb_in_scope().
 */
#include "arb_scope.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";


/* Not for us: an earlier refusal, nobody armed, our own threads, kernel threads. */
static __always_inline bool arb_exempt(struct arb_header *h, int ret)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return ret || !READ_ONCE(h->armed) || (__u32)task->tgid == h->daemon_tgid ||
	       (task->flags & ARB_PF_KTHREAD);
}

static __always_inline void arb_fill_object(struct arb_facts *f, struct file *file)
{
	struct inode *inode = file->f_inode;

	f->dev = inode->i_sb->s_dev;
	f->ino = inode->i_ino;
	f->size = inode->i_size;
	f->mode = inode->i_mode;
	f->owner_uid = inode->i_uid.val;
	f->owner_gid = inode->i_gid.val;
	f->generation = inode->i_generation;
}

/* Paths as the task sees them, below its own root. */
static __always_inline void arb_fill_paths(struct arb_slot *s, struct file *file, __u32 want,
					   struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct file *exe;
	long n;

	n = bpf_d_path(&file->f_path, (char *)s->path, sizeof(s->path));
	if (n > 0 && n <= ARB_PATH_BYTES)
		s->facts.path_len = n - 1;
	else
		s->facts.flags |= ARB_FLAG_PATH_TRUNCATED;
	if (!(want & ARB_FIELD_EXE) || !mm)
		goto no_exe;
	exe = mm->exe_file;
	if (!exe)
		goto no_exe;
	n = bpf_d_path(&exe->f_path, (char *)s->exe, sizeof(s->exe));
	if (n <= 0 || n > ARB_PATH_BYTES)
		goto no_exe;
	s->facts.exe_len = n - 1;
	return;
no_exe:
	s->facts.flags |= ARB_FLAG_NO_EXE;
}

/* Asks about file; 0 or a negative errno. */
static __always_inline int arb_ask(struct arb_header *h, struct file *file, __u32 event,
				   __u32 access)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_counts *counts = arb_get_counts(event);
	__u64 now = bpf_ktime_get_ns();
	struct arb_claim claim = {};
	struct arb_slot *s;
	__u32 want;

	if (!counts)
		return 0;
	arb_count(&counts->asked);
	if (!arb_alive(h, now))
		return arb_fail(h, NULL, event, ARB_REASON_NO_WORKER);
	s = arb_claim(&claim);
	if (!s)
		return arb_fail(h, NULL, event, ARB_REASON_RING_FULL);

	want = h->want[event];
	__builtin_memset(&s->facts, 0, sizeof(s->facts));
	s->facts.posted_ns = now;
	s->facts.event = event;
	s->facts.access = access;
	arb_fill_subject(&s->facts, task);
	if (want & ARB_FIELD_CGROUP)
		arb_fill_cgroup(&s->facts);
	arb_fill_object(&s->facts, file);
	arb_fill_paths(s, file, want, task);
	return arb_arbitrate(s, claim.index, claim.gen);
}

SEC("lsm.s/file_open")
int BPF_PROG(arb_file_open, struct file *file, int ret)
{
	struct arb_header *h = arb_get_header();
	__u32 mode, flags, access = 0;

	if (!h || arb_exempt(h, ret))
		return ret;
	mode = file->f_mode;
	flags = file->f_flags;
	/* execve's own open: event exec decides. The file below an overlayfs file: the
	 * open of the upper one was asked about.
	 */
	if ((flags & ARB_FMODE_EXEC) || (mode & ARB_FMODE_BACKING))
		return 0;
	if (!arb_in_scope(h, file))
		return 0;
	if (mode & ARB_FMODE_READ)
		access |= ARB_ACCESS_READ;
	if (mode & ARB_FMODE_WRITE)
		access |= ARB_ACCESS_WRITE;
	if (mode & ARB_FMODE_CREATED)
		access |= ARB_ACCESS_CREATED;
	if (flags & ARB_O_APPEND)
		access |= ARB_ACCESS_APPEND;
	if (flags & ARB_O_TRUNC)
		access |= ARB_ACCESS_TRUNCATE;
	return arb_ask(h, file, ARB_EVENT_OPEN, access);
}

SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(arb_creds_for_exec, struct linux_binprm *bprm, int ret)
{
	struct arb_header *h = arb_get_header();

	if (!h || arb_exempt(h, ret))
		return ret;
	if (!arb_in_scope(h, bprm->file))
		return 0;
	return arb_ask(h, bprm->file, ARB_EVENT_EXEC, ARB_ACCESS_EXEC);
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(arb_check_security, struct linux_binprm *bprm, int ret)
{
	struct arb_header *h = arb_get_header();

	if (!h || arb_exempt(h, ret))
		return ret;
	/* The first level was asked about by arb_creds_for_exec. */
	if (bprm->interp == bprm->filename)
		return 0;
	if (!arb_in_scope(h, bprm->file))
		return 0;
	return arb_ask(h, bprm->file, ARB_EVENT_EXEC, ARB_ACCESS_EXEC);
}
