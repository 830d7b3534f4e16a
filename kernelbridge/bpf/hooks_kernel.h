/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What changes the kernel itself: modules and other files that it reads, BPF, the clock,
 * io_uring.
 */

#define ARB_PROT_EXEC 4

/* A file that may be missing. */
static __always_inline void arb_file_object(struct arb_question *q, struct file *file)
{
	if (!file)
		return;
	q->mnt = BPF_CORE_READ(file, f_path.mnt);
	q->dentry = BPF_CORE_READ(file, f_path.dentry);
}

/* What is read, as the catalogue numbers it. */
static __always_inline void arb_read(struct arb_question *q, __u32 id)
{
	__u32 module = bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE);

	if (bpf_core_enum_value_exists(enum kernel_read_file_id, READING_MODULE_COMPRESSED) &&
	    id == bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE_COMPRESSED))
		id = module;
	q->event = id == module ? ARB_EVENT_MODULE_LOAD : ARB_EVENT_READ_FILE;
	q->arg[0] = id;
}

SEC("lsm.s/kernel_read_file")
int BPF_PROG(arb_kernel_read_file, struct file *file, int id, int contents)
{
	struct arb_question q = {};

	arb_read(&q, id);
	arb_file_object(&q, file);
	return arb_free_hook(&q);
}

/* The same numbers, for what comes from memory: init_module(2), kexec_load(2). */
SEC("lsm/kernel_load_data")
int BPF_PROG(arb_kernel_load_data, int id, int contents)
{
	struct arb_question q = {};

	arb_read(&q, id);
	return arb_locked_hook(&q);
}

SEC("lsm.s/mmap_file")
int BPF_PROG(arb_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags)
{
	struct arb_question q = { .event = ARB_EVENT_MMAP_EXEC, .arg = { prot, flags } };

	if (!(prot & ARB_PROT_EXEC))
		return 0;
	arb_file_object(&q, file);
	return arb_free_hook(&q);
}

SEC("lsm/file_mprotect")
int BPF_PROG(arb_file_mprotect, struct vm_area_struct *vma, unsigned long reqprot,
	     unsigned long prot)
{
	/* One question for each mapping: the address tells them apart. */
	struct arb_question q = {
		.event = ARB_EVENT_MPROTECT_EXEC, .arg = { prot, BPF_CORE_READ(vma, vm_start) },
	};

	if (!(prot & ARB_PROT_EXEC))
		return 0;
	arb_file_object(&q, BPF_CORE_READ(vma, vm_file));
	return arb_locked_hook(&q);
}

SEC("lsm.s/file_receive")
int BPF_PROG(arb_file_receive, struct file *file)
{
	struct arb_question q = { .event = ARB_EVENT_RECEIVE };

	arb_file_object(&q, file);
	return arb_free_hook(&q);
}

SEC("lsm.s/bpf")
int BPF_PROG(arb_bpf, int cmd, void *attr, __u32 size)
{
	struct arb_question q = { .event = ARB_EVENT_BPF, .arg = { (__u32)cmd } };

	return arb_free_hook(&q);
}

SEC("lsm.s/bpf")
int BPF_PROG(arb_bpf_kernel, int cmd, void *attr, __u32 size, bool kernel)
{
	struct arb_question q = { .event = ARB_EVENT_BPF, .arg = { (__u32)cmd } };

	return arb_free_hook(&q);
}

SEC("lsm.s/bpf_map")
int BPF_PROG(arb_bpf_map, struct bpf_map *map, __u32 mode)
{
	struct arb_question q = {.event = ARB_EVENT_BPF_MAP,
				 .arg = {map->id, map->map_type, mode & 3}};

	return arb_free_hook(&q);
}

SEC("lsm.s/bpf_prog")
int BPF_PROG(arb_bpf_prog, struct bpf_prog *prog)
{
	struct arb_question q = { .event = ARB_EVENT_BPF_PROG };

	q.arg[0] = BPF_CORE_READ(prog, aux, id);
	q.arg[1] = BPF_CORE_READ(prog, type);
	return arb_free_hook(&q);
}

SEC("lsm.s/settime")
int BPF_PROG(arb_settime, const struct timespec64 *ts, const void *tz)
{
	struct arb_question q = {.event = ARB_EVENT_SETTIME, .arg = {BPF_CORE_READ(ts, tv_sec)}};

	return arb_free_hook(&q);
}

SEC("lsm/uring_override_creds")
int BPF_PROG(arb_uring_override_creds, const struct cred *new)
{
	struct arb_question q = {
		.event = ARB_EVENT_URING_OVERRIDE_CREDS, .arg = { new->uid.val, new->euid.val },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/uring_sqpoll")
int BPF_PROG(arb_uring_sqpoll)
{
	struct arb_question q = { .event = ARB_EVENT_URING_SQPOLL };

	return arb_locked_hook(&q);
}

SEC("lsm/uring_cmd")
int BPF_PROG(arb_uring_cmd, struct io_uring_cmd *cmd)
{
	struct arb_question q = {.event = ARB_EVENT_URING_CMD, .arg = {BPF_CORE_READ(cmd, cmd_op)}};

	arb_file_object(&q, BPF_CORE_READ(cmd, file));
	return arb_locked_hook(&q);
}

SEC("lsm/uring_allowed")
int BPF_PROG(arb_uring_allowed)
{
	struct arb_question q = { .event = ARB_EVENT_URING_ALLOWED };

	return arb_locked_hook(&q);
}
