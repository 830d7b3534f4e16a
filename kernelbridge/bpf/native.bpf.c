// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The queue without a hook: a program that a privileged process runs itself, so that
 * the very function that the LSM hooks call can be exercised and timed on a kernel
 * that allows no LSM programs.
 *
 *   syscall/arb_native: asks args.count times, one after another, and keeps how long
 *   each took. Worst case: count times header.wait_ns.
 *
 *   syscall/arb_native_staged: the same, and keeps when each stage was over.
 *
 *   syscall/arb_native_due: asks at the times that it finds in the samples, and keeps how
 *   long after its time each was answered. Worst case: count times header.wait_ns and
 *   ARB_NATIVE_WAITS looks at the clock.
 *
 *   syscall/arb_native_cached: arb_native for the verdict cache: whether an exec of the
 *   caller's own executable is in it, after it was kept.
 *
 *   syscall/arb_native_decided: arb_native for the rules that the kernel decides by, of the
 *   question as it stands there.
 *
 *   syscall/arb_native_hook: what a hook does until it knows that nobody is asked about an
 *   open of the caller's own executable, ARB_NATIVE_HOOKS times for one sample. Worst case:
 *   so many walks of arb_in_scope(). It takes one sample only: before 6.12 a loop around
 *   this one is a call too deep for the walks.
 */
#include "arb_exempt.h"
#include "arb_scope.h"

/* Stands for the counters of renames and mounts, which cannot be found on every kernel: the
 * reads cost the same.
 */
static __always_inline const void *arb_native_lock(void);
#define ARB_RENAME_LOCK arb_native_lock()
#define ARB_MOUNT_LOCK arb_native_lock()
#include "arb_cache.h"
#include "arb_decide.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The object that is asked about, written by the one who runs the program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_slot);
} arb_question SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ARB_SAMPLES);
	__type(key, __u32);
	__type(value, __u64); /* ns; an array's elements are 8 bytes at least */
} arb_samples SEC(".maps");

/* When the stages of one question were over, CLOCK_MONOTONIC. */
struct arb_native_stages {
	__u64 begun, claimed, filled, posted, settled;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ARB_SAMPLES);
	__type(key, __u32);
	__type(value, struct arb_native_stages);
} arb_stages SEC(".maps");

#define ARB_SHORT_TEXT 64

/* A short text is copied here: calling the helper costs more than the copy. */
static __always_inline __u32 arb_copy_text(__u8 *to, const __u8 *from, __u32 len)
{
	len &= ARB_PATH_BYTES - 1;
	if (len <= ARB_SHORT_TEXT)
		__builtin_memcpy(__builtin_assume_aligned(to, 8), __builtin_assume_aligned(from, 8),
				 ARB_SHORT_TEXT);
	else
		bpf_probe_read_kernel(to, len, from);
	return len;
}

/* stages may be NULL, which the compiler knows. */
static __always_inline int arb_ask_native(__u64 now, struct arb_native_stages *stages)
{
	struct arb_header *h = arb_get_header();
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_counts *counts;
	struct arb_claim claim = {};
	struct arb_wait w = {};
	struct arb_slot *q, *s;
	__u32 zero = 0, event, want;

	q = bpf_map_lookup_elem(&arb_question, &zero);
	if (!h || !q)
		return 0;
	event = q->facts.event;
	counts = arb_get_counts(event);
	if (!counts || event >= ARB_EVENT_COUNT)
		return 0;
	arb_count(&counts->asked);
	if (!arb_alive(h, now))
		return arb_fail(h, NULL, event, ARB_REASON_NO_WORKER);
	s = arb_claim(&claim);
	if (!s)
		return arb_fail(h, NULL, event, ARB_REASON_RING_FULL);

	if (stages)
		stages->claimed = bpf_ktime_get_ns();
	want = h->want[event];
	s->facts = q->facts;
	s->facts.posted_ns = now;
	arb_fill_subject(&s->facts, task);
	if (want & ARB_FIELD_CGROUP)
		arb_fill_cgroup(&s->facts);
	s->facts.path_len = arb_copy_text(s->path, q->path, q->facts.path_len);
	s->facts.exe_len = 0;
	if (want & ARB_FIELD_EXE)
		s->facts.exe_len = arb_copy_text(s->exe, q->exe, q->facts.exe_len);
	if (stages)
		stages->filled = bpf_ktime_get_ns();
	arb_begin_wait(&w, s, &claim);
	arb_post(h, &w);
	if (stages)
		stages->posted = bpf_ktime_get_ns();
	arb_wait_polling(h, &w, h->wait_ns);
	return arb_settle(&w);
}

struct arb_native_args *arb_native_args_btf __attribute__((unused));

struct arb_run {
	struct arb_native_args *args;
	__u64 pad;
};

static long arb_native_step(__u32 i, struct arb_run *run)
{
	__u64 start = bpf_ktime_get_ns();
	int verdict = arb_ask_native(start, NULL);
	__u64 took = bpf_ktime_get_ns() - start;
	__u64 *sample = bpf_map_lookup_elem(&arb_samples, &i);

	if (sample)
		*sample = took;
	run->args->last_verdict = verdict;
	return 0;
}

SEC("syscall")
int arb_native(struct arb_native_args *args)
{
	struct arb_run run = { .args = args };

	bpf_loop(args->count, arb_native_step, &run, 0);
	return 0;
}

static long arb_native_staged_step(__u32 i, struct arb_run *run)
{
	struct arb_native_stages *stages = bpf_map_lookup_elem(&arb_stages, &i);

	if (!stages)
		return 1;
	stages->begun = bpf_ktime_get_ns();
	run->args->last_verdict = arb_ask_native(stages->begun, stages);
	stages->settled = bpf_ktime_get_ns();
	return 0;
}

SEC("syscall")
int arb_native_staged(struct arb_native_args *args)
{
	struct arb_run run = { .args = args };

	bpf_loop(args->count, arb_native_staged_step, &run, 0);
	return 0;
}

#define ARB_NATIVE_WAITS (1 << 18) /* 1.5 ms where a look takes 6 ns: more than is ever waited */

static long arb_native_until(__u32 i, __u64 *due)
{
	return bpf_ktime_get_ns() >= *due;
}

static long arb_native_due_step(__u32 i, struct arb_run *run)
{
	__u64 *sample = bpf_map_lookup_elem(&arb_samples, &i);
	__u64 due, now;

	if (!sample)
		return 1;
	due = *sample;
	bpf_loop(ARB_NATIVE_WAITS, arb_native_until, &due, 0);
	run->args->last_verdict = arb_ask_native(bpf_ktime_get_ns(), NULL);
	now = bpf_ktime_get_ns();
	*sample = now > due ? now - due : 0;
	return 0;
}

SEC("syscall")
int arb_native_due(struct arb_native_args *args)
{
	struct arb_run run = { .args = args };

	bpf_loop(args->count, arb_native_due_step, &run, 0);
	return 0;
}

static __always_inline const void *arb_native_lock(void)
{
	struct arb_header *h = arb_get_header();

	return h ? h->pad_sleeps : NULL;
}

static long arb_native_cached_step(__u32 i, struct arb_run *run)
{
	struct arb_header *h = arb_get_header();
	struct file *exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);
	struct arb_question q = {
		.event = ARB_EVENT_EXEC,
		.access = ARB_ACCESS_EXEC,
		.mnt = BPF_CORE_READ(exe, f_path.mnt),
		.dentry = BPF_CORE_READ(exe, f_path.dentry),
	};
	struct arb_cache_stamp stamp = {};
	__u64 start, took, *sample;
	bool hit;

	start = bpf_ktime_get_ns();
	hit = arb_cached(h, &q, &stamp);
	took = bpf_ktime_get_ns() - start;
	if (!hit)
		arb_keep(h, &q, &stamp);
	sample = bpf_map_lookup_elem(&arb_samples, &i);
	if (sample)
		*sample = took;
	run->args->last_verdict = hit;
	return 0;
}

SEC("syscall")
int arb_native_cached(struct arb_native_args *args)
{
	struct arb_run run = { .args = args };

	bpf_loop(args->count, arb_native_cached_step, &run, 0);
	return 0;
}

static long arb_native_decided_step(__u32 i, struct arb_run *run)
{
	struct arb_header *h = arb_get_header();
	struct arb_question q = {};
	__u64 start, took, *sample;
	struct arb_slot *s;
	__u32 zero = 0;
	int verdict;

	s = bpf_map_lookup_elem(&arb_question, &zero);
	if (!h || !s)
		return 1;
	q.event = s->facts.event;
	q.access = s->facts.access;
	start = bpf_ktime_get_ns();
	verdict = arb_decide(&q);
	if (verdict > 0)
		verdict = arb_decide_path(h, &q, s, zero);
	took = bpf_ktime_get_ns() - start;
	sample = bpf_map_lookup_elem(&arb_samples, &i);
	if (sample)
		*sample = took;
	run->args->last_verdict = verdict;
	return 0;
}

SEC("syscall")
int arb_native_decided(struct arb_native_args *args)
{
	struct arb_run run = { .args = args };

	bpf_loop(args->count, arb_native_decided_step, &run, 0);
	return 0;
}

/* A sample is the mean of so many: one takes less than a look at the clock. */
#define ARB_NATIVE_HOOKS 64

struct arb_native_file {
	struct vfsmount *mnt;
	struct dentry *dentry;
	__u64 asked; /* how often it came to a question */
};

/* The steps of arb_file_open() and arb_file_hook(). */
static long arb_native_hook_once(__u32 i, struct arb_native_file *file)
{
	struct arb_header *h = arb_get_header();

	if (!h || arb_exempt(h, ARB_EVENT_OPEN))
		return 0;
	struct arb_question q = {
		.event = ARB_EVENT_OPEN,
		.access = ARB_ACCESS_READ,
		.mnt = file->mnt,
		.dentry = file->dentry,
	};
	if (arb_in_scope(h, &q))
		file->asked++;
	return 0;
}

SEC("syscall")
int arb_native_hook(struct arb_native_args *args)
{
	struct file *exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);
	struct arb_native_file file = {
		.mnt = BPF_CORE_READ(exe, f_path.mnt),
		.dentry = BPF_CORE_READ(exe, f_path.dentry),
	};
	__u64 start, took, *sample;
	__u32 zero = 0;

	start = bpf_ktime_get_ns();
	bpf_loop(ARB_NATIVE_HOOKS, arb_native_hook_once, &file, 0);
	took = bpf_ktime_get_ns() - start;
	sample = bpf_map_lookup_elem(&arb_samples, &zero);
	if (sample)
		*sample = took / ARB_NATIVE_HOOKS;
	args->last_verdict = file.asked;
	return 0;
}
