// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The hooks on files:
 *
 *   file_open            event open; event exec for what execve opens: the program, also
 *                        for AT_EXECVE_CHECK, the interpreters of scripts and of
 *                        binfmt_misc, the ELF interpreter
 *   bprm_creds_for_exec  event exec: the program, if file_open did not ask about it
 *   bprm_check_security  event exec: an interpreter, if file_open did not ask about it
 *
 * The two bprm hooks are the second line: a file that comes to be executed without
 * having been opened for it is asked about all the same.
 *
 * All three are sleepable and called without a lock that anybody else waits for, but for
 * the task's own cred_guard_mutex. Worst case of each: header.wait_ns, plus the walk
 * of arb_in_scope().
 */
#include "arb_scope.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The file that a task has last opened to execute it and was asked about. The address
 * identifies it as long as execve has it open; it is never followed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} arb_executed SEC(".maps");

/* What a hook may return. The verdicts are in this range already; the verifier wants to
 * see it, and a kernel older than 6.12 does not check.
 */
static __always_inline int arb_return(int ret)
{
	barrier_var(ret);
	if (ret < -4095 || ret > 0)
		return -1; /* EPERM */
	return ret;
}

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

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

extern struct file *bpf_get_task_exe_file(struct task_struct *task) __ksym __weak;
extern void bpf_put_file(struct file *file) __ksym __weak;

/* The path of a file as the task sees it, below its own root; 0 or its length. */
static __always_inline __u32 arb_path(struct file *file, __u8 *buf)
{
	long n = bpf_d_path(&file->f_path, (char *)buf, ARB_PATH_BYTES);

	return n > 1 && n <= ARB_PATH_BYTES ? n - 1 : 0;
}

/* The path of the subject's executable; 0 if it has none. */
static __always_inline __u32 arb_exe_path(struct task_struct *task, __u8 *buf)
{
	struct mm_struct *mm;
	struct file *exe;
	__u32 n;

	if (bpf_ksym_exists(bpf_get_task_exe_file)) { /* >= 6.12 */
		exe = bpf_get_task_exe_file(task);
		if (!exe)
			return 0;
		n = arb_path(exe, buf);
		bpf_put_file(exe);
		return n;
	}
	/* Before, there is no reference to be had, but the verifier lets us follow the
	 * pointers. A thread of the same process that replaces its executable (prctl
	 * PR_SET_MM) within these few instructions, and for a whole grace period, could
	 * make us read freed memory: docs/limitations.md.
	 */
	mm = task->mm;
	if (!mm)
		return 0;
	exe = mm->exe_file;
	return exe ? arb_path(exe, buf) : 0;
}

static __always_inline void arb_fill_paths(struct arb_slot *s, struct file *file, __u32 want,
					   struct task_struct *task)
{
	s->facts.path_len = arb_path(file, s->path);
	if (!s->facts.path_len)
		s->facts.flags |= ARB_FLAG_PATH_TRUNCATED;
	if (want & ARB_FIELD_EXE)
		s->facts.exe_len = arb_exe_path(task, s->exe);
	if (!s->facts.exe_len)
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

static __always_inline int arb_ask_exec(struct arb_header *h, struct file *file)
{
	__u64 *executed = bpf_task_storage_get(&arb_executed, bpf_get_current_task_btf(), 0,
					       BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (executed) /* else a second hook asks once more */
		*executed = (__u64)file;
	return arb_ask(h, file, ARB_EVENT_EXEC, ARB_ACCESS_EXEC);
}

SEC("lsm.s/file_open")
int BPF_PROG(arb_file_open, struct file *file, int ret)
{
	struct arb_header *h = arb_get_header();
	__u32 mode, flags, access = 0;

	if (!h || arb_exempt(h, ret))
		return arb_return(ret);
	mode = file->f_mode;
	flags = file->f_flags;
	/* The open of the overlayfs file above was asked about. */
	if (mode & ARB_FMODE_BELOW)
		return 0;
	if (!arb_in_scope(h, file))
		return 0;
	if (flags & ARB_FMODE_EXEC)
		return arb_return(arb_ask_exec(h, file));
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
	return arb_return(arb_ask(h, file, ARB_EVENT_OPEN, access));
}

/* The second line, see above. */
static __always_inline int arb_bprm(struct linux_binprm *bprm, int ret)
{
	struct arb_header *h = arb_get_header();
	struct file *file = bprm->file;
	__u64 *executed;

	if (!h || arb_exempt(h, ret))
		return arb_return(ret);
	executed = bpf_task_storage_get(&arb_executed, bpf_get_current_task_btf(), 0, 0);
	if (executed && *executed == (__u64)file)
		return 0;
	if (!arb_in_scope(h, file))
		return 0;
	return arb_return(arb_ask_exec(h, file));
}

SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(arb_creds_for_exec, struct linux_binprm *bprm, int ret)
{
	return arb_bprm(bprm, ret);
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(arb_check_security, struct linux_binprm *bprm, int ret)
{
	return arb_bprm(bprm, ret);
}
