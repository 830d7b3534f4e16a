/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rung "unwind": a hook that must not sleep abandons its system call, and the verdict
 * is there when the call runs again.
 *
 *   1. The question is posted. The hook schedules task work, waits until that is queued,
 *      and returns -ERESTARTNOINTR: the system call drops all its locks.
 *   2. On its way out of the kernel the task runs the work: it sleeps at the gate. The
 *      slot is then UNWOUND, with the verdict.
 *   3. The kernel runs the system call again. Its hook asks the same question, finds the
 *      verdict under the task, and uses it once, if it is the same question under the
 *      same rules. If not, it asks anew, a few times at most.
 *
 * A task that dies in between leaves its slot UNWOUND: the daemon frees those.
 */
#ifndef ARB_UNWIND_H
#define ARB_UNWIND_H

#include "arb_wait.h"

typedef int (*arb_work_callback)(struct bpf_map *map, void *key, void *value);

extern int bpf_task_work_schedule_signal(struct task_struct *task, struct bpf_task_work *tw,
					 void *map__map, arb_work_callback callback) __ksym __weak;
extern int bpf_task_work_schedule_signal_impl(struct task_struct *task, struct bpf_task_work *tw,
					      void *map__map, arb_work_callback callback,
					      void *aux__prog) __ksym __weak; /* 6.18 */

/* One work per slot: whoever has the slot may schedule it. */
struct arb_work {
	struct bpf_task_work work;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ARB_SLOTS);
	__type(key, __u32);
	__type(value, struct arb_work);
} arb_works SEC(".maps");

/* What a task has unwound for. */
struct arb_unwinding {
	__u32 open;	/* there is a question, or its verdict */
	__u32 index;	/* its slot */
	__u32 gen;
	__u32 again;	/* questions in a row whose verdicts were of no use */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct arb_unwinding);
} arb_unwindings SEC(".maps");

#define ARB_MAX_AGAIN 8
/* The work is queued by an interrupt that the scheduling raises: usually at once. */
#define ARB_QUEUED_NS 200000
/* Longest wait under a lock that others need, where there is no unwinding. */
#define ARB_LOCKED_NS 10000000

static __always_inline bool arb_can_unwind(void)
{
	return bpf_ksym_exists(bpf_task_work_schedule_signal) ||
	       bpf_ksym_exists(bpf_task_work_schedule_signal_impl);
}

static int arb_work(struct bpf_map *map, void *key, void *value)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_unwinding *u = bpf_task_storage_get(&arb_unwindings, task, 0, 0);
	struct arb_header *h = arb_get_header();
	__u32 index = *(__u32 *)key;
	struct arb_wait w = {};
	struct arb_slot *s;

	s = bpf_map_lookup_elem(&arb_slots, &index);
	if (!u || !h || !s || !u->open || u->index != index ||
	    (__u32)(READ_ONCE(s->word) >> 32) != u->gen)
		return 0; /* the hook has given up */
	w.slot = s;
	w.index = index;
	w.gen = u->gen;
	w.reason = ARB_REASON_DEADLINE;
	w.keep = 1;
	if (arb_can_sleep(h))
		arb_wait_asleep(h, &w);
	else
		arb_wait_polling(h, &w, h->wait_ns);
	arb_settle(&w);
	return 0;
}

/* Will the system call that the task is in run again if it returns -ERESTARTNOINTR?
 * Some callers of hooks turn the errno into another one.
 */
static __always_inline bool arb_restarts(struct task_struct *task, __u32 event)
{
	struct pt_regs *regs;
	long nr, arg;

	if (task->flags & (ARB_PF_KTHREAD | ARB_PF_IO_WORKER | ARB_PF_EXITING | ARB_PF_DUMPCORE |
			   ARB_PF_USER_WORKER))
		return false;
	if (event == ARB_EVENT_CAPABLE || event == ARB_EVENT_URING_OVERRIDE_CREDS)
		return false;
	regs = (void *)bpf_task_pt_regs(task);
	nr = BPF_CORE_READ(regs, orig_ax);
	arg = BPF_CORE_READ(regs, di);
	if (nr < 0 || nr == ARB_NR_IO_URING_ENTER)
		return false;
	switch (event) {
	case ARB_EVENT_PTRACE: /* others ask whether they may, and do without */
		return nr == ARB_NR_PTRACE;
	case ARB_EVENT_SIGNAL: /* one to many has partial results */
		return (nr == ARB_NR_KILL && (int)arg > 0) || nr == ARB_NR_TKILL ||
		       nr == ARB_NR_TGKILL || nr == ARB_NR_PIDFD_SEND_SIGNAL;
	case ARB_EVENT_MPROTECT_EXEC:
		return nr == ARB_NR_MPROTECT || nr == ARB_NR_PKEY_MPROTECT;
	}
	return true;
}

struct arb_queued {
	struct callback_head *before;
	__u64 deadline;
	__u32 queued;
};

static long arb_queued_step(__u32 i, struct arb_queued *q)
{
	if (bpf_get_current_task_btf()->task_works != q->before) {
		q->queued = 1;
		return 1;
	}
	return bpf_ktime_get_ns() > q->deadline;
}

/* Unwinds for the posted question of w. 0: the hook must return -ERESTARTNOINTR. */
static __noinline int arb_unwind(struct arb_wait *w)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_unwinding *u;
	struct arb_queued q = {};
	struct arb_work *work;
	__u32 index = w->index;
	int err = -1;

	if (!arb_can_unwind() || !arb_restarts(task, w->slot->facts.event))
		return -1;
	u = bpf_task_storage_get(&arb_unwindings, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	work = bpf_map_lookup_elem(&arb_works, &index);
	if (!u || !work || u->again >= ARB_MAX_AGAIN)
		return -1;
	u->index = index;
	u->gen = w->gen;
	u->again++;
	u->open = 1;
	q.before = task->task_works;
	q.deadline = bpf_ktime_get_ns() + ARB_QUEUED_NS;
	if (bpf_ksym_exists(bpf_task_work_schedule_signal))
		err = bpf_task_work_schedule_signal(task, &work->work, &arb_works, arb_work);
	else if (bpf_ksym_exists(bpf_task_work_schedule_signal_impl))
		err = bpf_task_work_schedule_signal_impl(task, &work->work, &arb_works, arb_work,
							 NULL);
	if (!err)
		bpf_loop(1 << 20, arb_queued_step, &q, 0);
	if (q.queued)
		return 0;
	u->open = 0; /* should the work still come, it does nothing */
	return -1;
}

/* The wait in a hook that must not sleep; true: return -ERESTARTNOINTR. */
static __always_inline bool arb_wait_locked(struct arb_header *h, struct arb_wait *w)
{
	bool unwinds =
		arb_can_unwind() && arb_restarts(bpf_get_current_task_btf(), w->slot->facts.event);
	__u64 bound = h->wait_ns;

	if (bound > ARB_LOCKED_NS)
		bound = ARB_LOCKED_NS;
	arb_wait_polling(h, w, unwinds ? h->spin_ns : bound);
	if (!unwinds || arb_answered(w) || w->killed)
		return false;
	if (!arb_unwind(w))
		return true;
	w->reason = ARB_REASON_UNSUPPORTED_CALLER;
	return false;
}

struct arb_same {
	struct arb_slot *a, *b;
	__u32 detail; /* compares the details, not the paths */
	__u32 len;
	__u32 differs;
};

static long arb_same_step(__u32 i, struct arb_same *c)
{
	__u32 at = (i * 8) & (ARB_PATH_BYTES - 8), left = c->len - i * 8;
	__u64 a, b;

	if (i * 8 >= c->len)
		return 1;
	a = *(__u64 *)((c->detail ? c->a->detail : c->a->path) + at);
	b = *(__u64 *)((c->detail ? c->b->detail : c->b->path) + at);
	if (left < 8) {
		a <<= 64 - 8 * left;
		b <<= 64 - 8 * left;
	}
	if (a == b)
		return 0;
	c->differs = 1;
	return 1;
}

/* Do two slots hold the same question, asked by one task? The time does not count, nor
 * what of the object may change while nobody decides: size, mode, owner.
 */
static __noinline bool arb_same_question(struct arb_slot *a, struct arb_slot *b)
{
	struct arb_same c = { .a = a, .b = b };
	struct arb_facts *x, *y;
	int i;

	if (!a || !b)
		return false;
	x = &a->facts;
	y = &b->facts;
	if (x->event != y->event || x->epoch != y->epoch || x->access != y->access ||
	    x->flags != y->flags || x->tid != y->tid || x->start_boottime != y->start_boottime ||
	    x->uid != y->uid || x->euid != y->euid || x->gid != y->gid || x->egid != y->egid ||
	    x->dev != y->dev || x->ino != y->ino || x->generation != y->generation ||
	    x->path_len != y->path_len || x->detail_len != y->detail_len)
		return false;
	for (i = 0; i < ARB_ARGS; i++)
		if (x->arg[i] != y->arg[i])
			return false;
	c.len = x->path_len & ARB_PATH_MASK;
	bpf_loop(ARB_PATH_BYTES / 8, arb_same_step, &c, 0);
	c.len = x->detail_len & ARB_PATH_MASK;
	c.detail = 1;
	if (!c.differs)
		bpf_loop(ARB_PATH_BYTES / 8, arb_same_step, &c, 0);
	return !c.differs;
}

/* The verdict of the question in slot s, if the task has unwound for it: 0 or a negative
 * errno. 1: there is none. Either way the task has no open question afterwards.
 */
static __noinline int arb_unwound_verdict(struct arb_slot *s)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_unwinding *u;
	struct arb_slot *before;
	__u64 word;
	__u32 index;
	bool same;

	if (!arb_can_unwind())
		return 1;
	u = bpf_task_storage_get(&arb_unwindings, task, 0, 0);
	if (!u || !u->open)
		return 1;
	u->open = 0;
	index = u->index;
	before = bpf_map_lookup_elem(&arb_slots, &index);
	if (!before || !s)
		return 1;
	word = READ_ONCE(before->word);
	if ((__u32)(word >> 32) != u->gen || (__u8)word != ARB_UNWOUND)
		return 1;
	same = arb_same_question(before, s);
	if (__sync_val_compare_and_swap(&before->word, word, arb_word(u->gen, ARB_FREE)) != word ||
	    !same)
		return 1;
	u->again = 0;
	return -(int)((word >> 8) & 4095);
}

#endif
