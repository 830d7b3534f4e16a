/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The queue, kernel side: claim a slot, post the question, poll, free the slot.
 * Every program that asks calls arb_claim(), fills in the facts, and then arb_post(), a
 * wait and arb_settle(); there is no other way to a verdict. The waits that do not
 * poll are in arb_wait.h.
 *
 * A BPF program runs to its end even if its task dies, so a slot that was claimed
 * is always freed.
 */
#ifndef ARB_RING_H
#define ARB_RING_H

#include "arb_kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "arb_abi.h"

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

/*
 * A function that is not static is verified once and by itself, not again in each state
 * that it is called in. Its arguments are numbers, kernel addresses among them, and memory
 * of ours, which may be NULL; the caller knows nothing of what it returns. Pointers in the
 * memory that it is given are numbers from then on, for the caller too: they can be read by
 * bpf_probe_read_kernel() alone.
 */
#define ARB_GLOBAL __noinline

/* The wait when no verdict can come because the only worker belongs on this CPU. */
#define ARB_FUTILE_WAIT_NS 50000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_header);
} arb_header SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ARB_SLOTS);
	__type(key, __u32);
	__type(value, struct arb_slot);
} arb_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ARB_EVENT_COUNT);
	__type(key, __u32);
	__type(value, struct arb_counts);
} arb_counts SEC(".maps");

/* Wakes parked workers; its records mean nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} arb_kick SEC(".maps");

/* Failure verdicts, for the event stream. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} arb_notices SEC(".maps");

/* Makes the layout visible in BTF, for the daemon's layout test. */
struct arb_notice *arb_notice_btf __attribute__((unused));

static __always_inline __u64 arb_word(__u32 gen, __u32 state)
{
	return (__u64)gen << 32 | state;
}

static __always_inline struct arb_header *arb_get_header(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&arb_header, &zero);
}

static __always_inline struct arb_counts *arb_get_counts(__u32 event)
{
	return bpf_map_lookup_elem(&arb_counts, &event);
}

/* Counters are per CPU, but a sleepable program can be preempted by another one on
 * its CPU, so they are added to atomically.
 */
static __always_inline void arb_count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* What arb_claim() found. */
struct arb_claim {
	__u32 start;
	__u32 index;
	__u32 gen;
	__u32 found;
};

static long arb_try_slot(__u32 i, struct arb_claim *c)
{
	__u32 index = (c->start + i) % ARB_SLOTS;
	struct arb_slot *s = bpf_map_lookup_elem(&arb_slots, &index);
	__u64 word;

	if (!s)
		return 1;
	word = READ_ONCE(s->word);
	if ((__u8)word != ARB_FREE)
		return 0;
	c->gen = (__u32)(word >> 32) + 1;
	if (__sync_val_compare_and_swap(&s->word, word, arb_word(c->gen, ARB_FILLING)) != word)
		return 0;
	c->index = index;
	c->found = 1;
	return 1;
}

/* Claims a free slot for the caller alone. The search begins at the CPU's own part
 * of the ring, so that a busy CPU finds its slot in its own cache. NULL: all slots
 * are in use.
 */
static __always_inline struct arb_slot *arb_claim(struct arb_claim *c)
{
	c->start = bpf_get_smp_processor_id() * 8;
	c->found = 0;
	if (arb_try_slot(0, c) == 0)
		bpf_loop(ARB_SLOTS, arb_try_slot, c, 0);
	if (!c->found)
		return NULL;
	return bpf_map_lookup_elem(&arb_slots, &c->index);
}

/* The facts of the subject that every event has. */
static __always_inline void arb_fill_subject(struct arb_facts *f, struct task_struct *t)
{
	const struct cred *cred = t->cred;

	f->tgid = t->tgid;
	f->tid = t->pid;
	f->start_boottime = t->start_boottime;
	f->uid = cred->uid.val;
	f->gid = cred->gid.val;
	f->euid = cred->euid.val;
	f->egid = cred->egid.val;
	/* Without the helper, which costs more than all the others together. A name that
	 * changes meanwhile may be a mixture; its last byte is always zero.
	 */
	__builtin_memcpy(f->comm, t->comm, sizeof(f->comm));
}

static __always_inline void arb_fill_cgroup(struct arb_facts *f)
{
	int level;

	for (level = 0; level < ARB_CGROUP_LEVELS; level++)
		f->cgroup[level] = bpf_get_current_ancestor_cgroup_id(level + 1);
}

static __always_inline bool arb_killed(struct task_struct *t)
{
	return t->pending.signal.sig[0] & ARB_SIGKILL_BIT;
}

struct arb_wait {
	struct arb_slot *slot;
	__u32 index;
	__u32 gen;
	__u64 deadline;
	__u64 kick_at;	/* then wake parked workers if nobody has taken the question */
	__u64 word;	/* as last seen */
	__u32 sleeping; /* ARB_SLEEPING once that is in the word */
	__u8 reason;	/* why there is no answer, if there will be none */
	__u8 killed;
	__u8 over; /* answered, killed, or out of time */
	__u8 keep; /* the verdict is for when the system call runs again */
	__u8 refused; /* at the gate, by another LSM */
	__u8 pad[7];
};

static __always_inline void arb_kick_parked(void)
{
	__u64 *kick = bpf_ringbuf_reserve(&arb_kick, sizeof(*kick), 0);

	if (kick)
		bpf_ringbuf_discard(kick, BPF_RB_FORCE_WAKEUP);
}

/* Polls before the first look at the word, some 10 ns each: no verdict comes sooner, and
 * each look takes the word's cache line away from the worker who is about to write
 * it. Measured on an EPYC in turns, p50 of a cached verdict: 0.27 or 0.34 µs with 18, as it
 * falls, 0.28 to 0.29 with 20 to 22, 0.30 with 23, 0.35 with 28.
 */
#define ARB_FIRST_LOOK 21

static long arb_poll(__u32 i, struct arb_wait *w)
{
	__u64 now;

	if (i < ARB_FIRST_LOOK)
		return 0;
	w->word = READ_ONCE(w->slot->word);
	if ((__u8)w->word == ARB_DONE)
		goto over;
	if (i % 32 != 31)
		return 0;
	now = bpf_ktime_get_ns();
	if (now > w->deadline)
		goto over;
	if (arb_killed(bpf_get_current_task_btf())) {
		w->killed = 1;
		goto over;
	}
	/* A worker polls, it said, but it may have lost its CPU to us or others. */
	if (now > w->kick_at) {
		w->kick_at = ~0ull;
		if ((__u8)w->word == ARB_POSTED)
			arb_kick_parked();
	}
	return 0;
over:
	w->over = 1;
	return 1;
}

/* bpf_loop() ends after 2^23 calls, 25 to 90 ms: often enough for the longest wait. */
#define ARB_POLL_ROUNDS 8

static __noinline void arb_wait_hot(struct arb_wait *w)
{
	int round;

	for (round = 0; round < ARB_POLL_ROUNDS && !w->over; round++)
		bpf_loop(1 << 23, arb_poll, w, 0);
}

/* Tells the daemon of a failure verdict; s may be NULL. A full buffer loses it, the
 * counter stays.
 */
static __noinline void arb_notify(struct arb_slot *s, __u32 event, __u32 reason, __u32 fail_errno)
{
	struct arb_notice *n = bpf_ringbuf_reserve(&arb_notices, sizeof(*n), 0);

	if (!n)
		return;
	__builtin_memset(&n->facts, 0, sizeof(n->facts));
	n->path[0] = 0;
	if (s) {
		n->facts = s->facts;
		if (n->facts.path_len) /* else the slot has an older path */
			bpf_probe_read_kernel_str(n->path, sizeof(n->path), s->path);
	} else {
		n->facts.posted_ns = bpf_ktime_get_ns();
		n->facts.event = event;
		arb_fill_subject(&n->facts, bpf_get_current_task_btf());
	}
	n->reason = reason;
	n->fail_errno = fail_errno;
	n->rule = -1;
	n->pad = 0;
	bpf_ringbuf_submit(n, 0);
}

/* Programs that go on when the daemon is dead and its hooks are not. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct arb_tree);
	__type(value, __u32);
} arb_rescue SEC(".maps");

static __noinline bool arb_rescued(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	struct arb_tree key = {};

	if (task->tgid == 1)
		return true;
	if (!exe)
		return false;
	key.dev = BPF_CORE_READ(exe, f_inode, i_sb, s_dev);
	key.ino = BPF_CORE_READ(exe, f_inode, i_ino);
	return bpf_map_lookup_elem(&arb_rescue, &key) != NULL;
}

/* Counts a failure and returns its verdict: 0 or a negative errno. */
static __always_inline int arb_fail(struct arb_header *h, struct arb_slot *s, __u32 event,
				    __u32 reason)
{
	struct arb_counts *c = arb_get_counts(event);
	__u32 err;

	/* One register is checked and then used, which older verifiers insist on. */
	barrier_var(event);
	barrier_var(reason);
	if (!c || event >= ARB_EVENT_COUNT || reason >= ARB_REASON_COUNT)
		return 0;
	arb_count(&c->failed[reason]);
	err = h->fail_errno[event] & 4095;
	if (READ_ONCE(h->dead))
		err = arb_rescued() ? 0 : h->dead_errno & 4095;
	arb_notify(s, event, reason, err);
	return -(int)err;
}

/* Is somebody there to answer? The daemon's heart beats every few milliseconds. */
static __always_inline bool arb_alive(struct arb_header *h, __u64 now)
{
	if (READ_ONCE(h->dead))
		return false;
	return now - READ_ONCE(h->heartbeat_ns) < h->heartbeat_limit_ns ||
	       READ_ONCE(h->heartbeat_ns) > now;
}

#define ARB_SECOND_KICK_NS 50000

/* Posts the question in slot s: from here on workers see it. */
static __always_inline void arb_post(struct arb_header *h, struct arb_wait *w)
{
	/* The facts are in place before the word says so, and the word before the bit:
	 * x86 keeps stores in order, and the locked or is a full barrier.
	 */
	WRITE_ONCE(w->slot->word, arb_word(w->gen, ARB_POSTED));
	__sync_fetch_and_or(&h->posted[(w->index / 64) % ARB_SLOT_WORDS], 1ull << (w->index % 64));
}

/* Workers that poll on another CPU than this one: they can answer while we keep it.
 *
 * The caller has posted: a worker clears its hot bit before it looks at the bitmap for
 * the last time, and we set our bit before we look at the hot bits, so one of the two
 * sees the other. (x86: locked operations are full barriers.)
 */
static __always_inline __u64 arb_hot_elsewhere(struct arb_header *h, __u64 *here)
{
	__u32 cpu = bpf_get_smp_processor_id();

	*here = cpu < ARB_MAX_CPUS ? READ_ONCE(h->pinned[cpu]) : 0;
	return READ_ONCE(h->hot) & ~*here;
}

/* Rung "hot" alone: wakes workers if none polls elsewhere, and polls for at most bound
 * from the question on.
 */
static __always_inline void arb_wait_polling(struct arb_header *h, struct arb_wait *w, __u64 bound)
{
	__u64 here, others = arb_hot_elsewhere(h, &here);
	__u64 posted = w->slot->facts.posted_ns;

	w->kick_at = others ? posted + ARB_SECOND_KICK_NS : ~0ull;
	if (!others) {
		if (h->workers == 1 && here) {
			/* Nobody can answer while we keep this CPU. */
			w->reason = ARB_REASON_NO_WORKER;
			if (bound > ARB_FUTILE_WAIT_NS)
				bound = ARB_FUTILE_WAIT_NS;
		} else {
			arb_kick_parked();
		}
	}
	w->deadline = posted + bound;
	arb_wait_hot(w);
}

/* Did the worker answer this very question? */
static __always_inline bool arb_answered(struct arb_wait *w)
{
	return (__u8)w->word == ARB_DONE && (__u32)(w->word >> 32) == w->gen;
}

/*
 * arb_settle() - the end of a question that was posted: the verdict, or giving up.
 *
 * The slot is free afterwards, or kept with the verdict. Returns 0 or a negative errno. Counts
 * exactly one of answered and failed[reason].
 */
static __noinline int arb_settle(struct arb_wait *w)
{
	struct arb_header *h = arb_get_header();
	struct arb_slot *s = w->slot;
	struct arb_counts *counts;
	__u32 event;
	__u64 word;
	int ret;

	if (!s || !h)
		return 0;
	event = s->facts.event;
	counts = arb_get_counts(event);
	if (!counts)
		return 0;
	if (!arb_answered(w)) {
		/* Give up, unless the answer comes at this very moment. Exactly one
		 * of the two sides wins; the worker sees its answer refused.
		 */
		__u64 gone = arb_word(w->gen, ARB_ABANDONED);

		word = arb_word(w->gen, ARB_POSTED) | w->sleeping;
		w->word = __sync_val_compare_and_swap(&s->word, word, gone);
		if (w->word == (arb_word(w->gen, ARB_TAKEN) | w->sleeping)) {
			word = w->word;
			w->word = __sync_val_compare_and_swap(&s->word, word, gone);
		}
		if (w->word == word) {
			if (w->killed) {
				w->reason = ARB_REASON_INTERRUPTED;
				arb_count(&counts->killed);
			}
			ret = arb_fail(h, s, event, w->reason);
			goto out;
		}
	}
	if (!arb_answered(w)) {
		ret = arb_fail(h, NULL, event, ARB_REASON_WORKER_ERROR); /* a corrupted word */
		goto out;
	}
	arb_count(&counts->answered);
	ret = -(int)((w->word >> 8) & 4095);
out:
	word = arb_word(w->gen, ARB_FREE);
	if (w->keep && !w->killed)
		word = arb_word(w->gen, ARB_UNWOUND) | (__u64)(-ret & 4095) << 8;
	WRITE_ONCE(s->word, word);
	return ret;
}

/* The wait for slot s that arb_claim() found. */
static __always_inline void arb_begin_wait(struct arb_wait *w, struct arb_slot *s,
					   struct arb_claim *c)
{
	w->slot = s;
	w->index = c->index;
	w->gen = c->gen;
	w->reason = ARB_REASON_DEADLINE;
}

#endif
