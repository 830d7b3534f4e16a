/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files that are opened, executed, mapped or handed over:
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
 * These three are sleepable and called without a lock that anybody else waits for, but
 * for the task's own cred_guard_mutex. Worst case of each: header.sleep_ns, without a
 * gate header.wait_ns, plus the walk of arb_in_scope().
 */

/* The file that a task has last opened to execute it and was asked about. The address
 * identifies it as long as execve has it open; it is never followed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} arb_executed SEC(".maps");

enum arb_exec_arg { ARB_EXEC_ROLE };

/* What a file is to the exec that opens it, as the catalogue has it. */
enum arb_role {
	ARB_ROLE_UNKNOWN,
	ARB_ROLE_PROGRAM,
	ARB_ROLE_INTERPRETER,
};

/* The role of the file that the current task opens for an event. From 6.8 on execve opens the
 * program first and sets in_execve then, until its end. Before, all is opened with that set: the
 * program by the name that user space gave, an interpreter by one of the kernel's. Both are the
 * kernel's where it starts a helper, which has no memory before, and then both count as the
 * program.
 */
ARB_GLOBAL __u32 arb_role(__u32 event)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct filename *name;

	if (event != ARB_EVENT_EXEC || !bpf_core_field_exists(struct task_struct, in_execve))
		return ARB_ROLE_UNKNOWN;
	if (!BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return ARB_ROLE_PROGRAM;
	if (!bpf_core_field_exists(struct filename, uptr))
		return ARB_ROLE_INTERPRETER; /* it was there until 6.18 */
	name = BPF_CORE_READ(task, nameidata, name);
	if (!task->mm || (name && BPF_CORE_READ(name, uptr)))
		return ARB_ROLE_PROGRAM;
	return ARB_ROLE_INTERPRETER;
}

/* Asks about a file in scope, or gives a kept allow; 0 or a negative errno. */
static __noinline int arb_ask_file(struct arb_header *h, struct arb_question *q, struct file *file)
{
	struct arb_cache_stamp stamp = {};
	struct arb_counts *counts;
	__u64 *executed;
	bool keep = false;
	int ret;

	if (!h || !q)
		return 0;
	if (q->event == ARB_EVENT_EXEC) {
		executed = bpf_task_storage_get(&arb_executed, bpf_get_current_task_btf(), 0,
						BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (executed) /* else a second hook asks once more */
			*executed = (__u64)file;
	}
	if (arb_cached(h, q, &stamp)) {
		counts = arb_get_counts(q->event);
		if (counts) {
			arb_count(&counts->asked);
			arb_count(&counts->cached);
		}
		return 0;
	}
	ret = arb_ask_free(h, q, file, &keep);
	if (!ret && keep)
		arb_keep(h, q, &stamp);
	return ret;
}

/* role is of an exec. */
static __always_inline int arb_file_hook(struct arb_header *h, struct file *file, __u32 event,
					 __u32 access, __u32 role)
{
	struct arb_question q = {
		.event = event,
		.access = access,
		.mnt = file->f_path.mnt,
		.dentry = file->f_path.dentry,
		.arg[ARB_EXEC_ROLE] = role,
	};
	int verdict;

	if (!arb_in_scope(h, &q))
		return 0;
	verdict = arb_decide(&q);
	return arb_return(verdict <= 0 ? verdict : arb_ask_file(h, &q, file));
}

SEC("lsm.s/file_open")
int BPF_PROG(arb_file_open, struct file *file)
{
	struct arb_header *h = arb_get_header();
	__u32 mode = file->f_mode, flags = file->f_flags;
	/* Without a branch, which the verifier would follow to the end for either side. */
	__u32 exec = flags / ARB_FMODE_EXEC & 1, event = ARB_EVENT_OPEN + exec, access;

	_Static_assert(ARB_EVENT_EXEC == ARB_EVENT_OPEN + 1, "event is open or exec");
	if (!h || arb_exempt(h, event))
		return 0;
	/* The open of the overlayfs file above was asked about. */
	if (mode & ARB_FMODE_BELOW)
		return 0;
	access = mode & (ARB_FMODE_READ | ARB_FMODE_WRITE);
	access |= (mode / ARB_FMODE_CREATED & 1) * ARB_ACCESS_CREATED;
	access |= (flags / ARB_O_APPEND & 1) * ARB_ACCESS_APPEND;
	access |= (flags / ARB_O_TRUNC & 1) * ARB_ACCESS_TRUNCATE;
	barrier_var(exec);
	access = access * (1 - exec) + ARB_ACCESS_EXEC * exec;
	return arb_file_hook(h, file, event, access, arb_role(event));
}

/* The second line, see above. */
static __always_inline int arb_bprm(struct linux_binprm *bprm, __u32 role)
{
	struct arb_header *h = arb_get_header();
	struct file *file = bprm->file;
	__u64 *executed;

	if (!h || arb_exempt(h, ARB_EVENT_EXEC))
		return 0;
	executed = bpf_task_storage_get(&arb_executed, bpf_get_current_task_btf(), 0, 0);
	if (executed && *executed == (__u64)file)
		return 0;
	return arb_file_hook(h, file, ARB_EVENT_EXEC, ARB_ACCESS_EXEC, role);
}

SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(arb_creds_for_exec, struct linux_binprm *bprm)
{
	return arb_bprm(bprm, ARB_ROLE_PROGRAM);
}

/* Called with the program, and with each interpreter that takes its place. */
SEC("lsm.s/bprm_check_security")
int BPF_PROG(arb_check_security, struct linux_binprm *bprm)
{
	return arb_bprm(bprm, bprm->interp == bprm->filename ? ARB_ROLE_PROGRAM :
								ARB_ROLE_INTERPRETER);
}
