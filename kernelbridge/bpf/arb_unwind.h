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
 *      verdict under the task, and uses it, if it is the same question in the same
 *      call under the same rules. If not, it asks anew, a few times at most.
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

/* A slot that a task has unwound for. */
struct arb_open {
	__u32 used;
	__u32 index;
	__u32 gen;
};

/* The system call that a task is in, as far as user space says it: the same when the
 * kernel runs it again.
 */
struct arb_call {
	__u64 nr, ip, sp, arg0, arg1;
};

/* What a task has unwound for. Nearly always that is one question. A call that asks more
 * of them under locks, as mprotect(2) of several mappings does, asks the first again
 * while the verdict of the second is there. From then on it is "lost": what it was
 * allowed is kept until the call has all of it, or the daemon frees it (seconds), for
 * otherwise it would never get to its end.
 */
#define ARB_MAX_OPEN 4
struct arb_unwinding {
	struct arb_open open[ARB_MAX_OPEN];
	struct arb_call call;
	__u32 lost;
	__u32 again;	/* questions in a row without progress */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct arb_unwinding);
} arb_unwindings SEC(".maps");

#define ARB_PIDFD_SIGNAL_PROCESS_GROUP 4
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
	__u32 index = *(__u32 *)key, gen;
	struct arb_wait w = {};
	struct arb_slot *s;
	bool mine = false;
	int i;

	s = bpf_map_lookup_elem(&arb_slots, &index);
	if (!u || !h || !s)
		return 0;
	gen = READ_ONCE(s->word) >> 32;
	for (i = 0; i < ARB_MAX_OPEN; i++)
		if (u->open[i].used && u->open[i].index == index && u->open[i].gen == gen)
			mine = true;
	if (!mine)
		return 0; /* the hook has given up */
	w.slot = s;
	w.index = index;
	w.gen = gen;
	w.reason = ARB_REASON_DEADLINE;
	w.keep = 1;
	if (arb_can_sleep(h))
		arb_wait_asleep(h, &w);
	else
		arb_wait_polling(h, &w, h->wait_ns);
	arb_settle(&w);
	return 0;
}

static __always_inline void arb_get_call(struct task_struct *task, struct arb_call *call)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);

	call->nr = BPF_CORE_READ(regs, orig_ax);
	call->ip = BPF_CORE_READ(regs, ip);
	call->sp = BPF_CORE_READ(regs, sp);
	call->arg0 = BPF_CORE_READ(regs, di);
	call->arg1 = BPF_CORE_READ(regs, si);
}

static __always_inline bool arb_same_call(struct arb_call *a, struct arb_call *b)
{
	return a->nr == b->nr && a->ip == b->ip && a->sp == b->sp && a->arg0 == b->arg0 &&
	       a->arg1 == b->arg1;
}

/* Will the system call that the task is in run again if it returns -ERESTARTNOINTR? Only
 * those are named of which that is known: other callers of hooks turn the errno into
 * another one, io_uring puts it into a completion, and work that io_uring has
 * left to a task runs in whatever call that task makes next. Numbers of x86-64; a call
 * of the 32-bit ABI is not told apart, and none of its numbers leads here.
 */
ARB_GLOBAL bool arb_restarts(__u32 event)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs;
	long nr, arg;

	if (task->flags & (ARB_PF_KTHREAD | ARB_PF_IO_WORKER | ARB_PF_EXITING | ARB_PF_DUMPCORE |
			   ARB_PF_USER_WORKER))
		return false;
	regs = (void *)bpf_task_pt_regs(task);
	nr = BPF_CORE_READ(regs, orig_ax);
	arg = BPF_CORE_READ(regs, di);
	switch (event) {
	case ARB_EVENT_CREATE: /* open, creat, mknod, openat, mknodat, openat2 */
		return nr == 2 || nr == 85 || nr == 133 || nr == 257 || nr == 259 || nr == 437;
	case ARB_EVENT_MKDIR: /* mkdir, mkdirat */
		return nr == 83 || nr == 258;
	case ARB_EVENT_MKNOD: /* bind, mknod, mknodat */
		return nr == 49 || nr == 133 || nr == 259;
	case ARB_EVENT_SYMLINK: /* symlink, symlinkat */
		return nr == 88 || nr == 266;
	case ARB_EVENT_LINK: /* link, linkat */
		return nr == 86 || nr == 265;
	case ARB_EVENT_UNLINK: /* unlink, unlinkat */
		return nr == 87 || nr == 263;
	case ARB_EVENT_RMDIR: /* rmdir, unlinkat */
		return nr == 84 || nr == 263;
	case ARB_EVENT_RENAME: /* rename, renameat, renameat2 */
		return nr == 82 || nr == 264 || nr == 316;
	case ARB_EVENT_CHMOD: /* chmod, fchmod, fchmodat, fchmodat2 */
		return nr == 90 || nr == 91 || nr == 268 || nr == 452;
	case ARB_EVENT_CHOWN: /* chown, fchown, lchown, fchownat */
		return (nr >= 92 && nr <= 94) || nr == 260;
	case ARB_EVENT_TRUNCATE: /* truncate, ftruncate; O_TRUNC of the open calls */
		return nr == 76 || nr == 77 || nr == 2 || nr == 85 || nr == 257 || nr == 304 ||
		       nr == 437;
	case ARB_EVENT_SETATTR: /* utime, utimes, futimesat, utimensat */
		return nr == 132 || nr == 235 || nr == 261 || nr == 280;
	case ARB_EVENT_SETXATTR: /* setxattr, lsetxattr, fsetxattr, setxattrat */
		return (nr >= 188 && nr <= 190) || nr == 463;
	case ARB_EVENT_REMOVEXATTR: /* removexattr, lremovexattr, fremovexattr, removexattrat */
		return (nr >= 197 && nr <= 199) || nr == 466;
	case ARB_EVENT_MPROTECT_EXEC: /* mprotect, pkey_mprotect */
		return nr == 10 || nr == 329;
	case ARB_EVENT_REMOUNT: /* mount, umount2 of the root; fsconfig cannot come again */
		return nr == 165 || nr == 166;
	case ARB_EVENT_MOVE_MOUNT: /* move_mount */
		return nr == 429;
	case ARB_EVENT_PIVOT_ROOT: /* pivot_root */
		return nr == 155;
	case ARB_EVENT_CHROOT: /* chroot */
		return nr == 161;
	case ARB_EVENT_UNIX_CONNECT: /* write, writev, connect, sendto, sendmsg; not sendmmsg */
		return nr == 1 || nr == 20 || nr == 42 || nr == 44 || nr == 46;
	case ARB_EVENT_SIGNAL: /* kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo */
		return (nr == 62 && (int)arg > 0) || nr == 200 || nr == 234 || nr == 129 ||
		       nr == 297 ||
		       /* pidfd_send_signal; all of these to one and not to a group */
		       (nr == 424 && !(BPF_CORE_READ(regs, r10) & ARB_PIDFD_SIGNAL_PROCESS_GROUP));
	case ARB_EVENT_PTRACE: /* ptrace, but PTRACE_TRACEME, whose caller has interrupts off */
		return nr == 101 && arg != 0;
	case ARB_EVENT_SETUID: /* setuid, setreuid, setresuid; setfsuid tells no errors */
		return nr == 105 || nr == 113 || nr == 117;
	case ARB_EVENT_SETGID: /* setgid, setregid, setresgid */
		return nr == 106 || nr == 114 || nr == 119;
	case ARB_EVENT_MODULE_LOAD: /* init_module */
		return nr == 175;
	case ARB_EVENT_READ_FILE: /* kexec_load */
		return nr == 246;
	case ARB_EVENT_URING_SQPOLL: /* io_uring_setup */
	case ARB_EVENT_URING_ALLOWED:
		return nr == 425;
	}
	return false;
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
	struct arb_open *o = NULL;
	struct arb_queued q = {};
	struct arb_work *work;
	__u32 index = w->index;
	bool others = false;
	int err = -1, i;

	if (!arb_can_unwind())
		return -1;
	u = bpf_task_storage_get(&arb_unwindings, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	work = bpf_map_lookup_elem(&arb_works, &index);
	if (!u || !work || u->again >= ARB_MAX_AGAIN)
		return -1;
	for (i = 0; i < ARB_MAX_OPEN; i++) {
		if (u->open[i].used)
			others = true;
		else
			o = &u->open[i];
	}
	if (!o)
		return -1;
	u->lost = others;
	u->again++;
	arb_get_call(task, &u->call);
	o->index = index;
	o->gen = w->gen;
	o->used = 1;
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
	o->used = 0; /* should the work still come, it does nothing */
	return -1;
}

/* The wait in a hook that must not sleep; true: return -ERESTARTNOINTR. */
static __always_inline bool arb_wait_locked(struct arb_header *h, struct arb_wait *w)
{
	__u64 bound = h->wait_ns;

	if (arb_can_unwind() && arb_restarts(w->slot->facts.event)) {
		if (arb_wait_shortly(h, w))
			return false;
		if (!arb_unwind(w))
			return true;
	}
	if (bound > ARB_LOCKED_NS)
		bound = ARB_LOCKED_NS;
	arb_wait_polling(h, w, bound);
	if (arb_can_unwind() && w->reason == ARB_REASON_DEADLINE)
		w->reason = ARB_REASON_UNSUPPORTED_CALLER;
	return false;
}

struct arb_same {
	__u8 *a, *b; /* a text of each slot */
	__u32 len;
	__u32 differs;
};

static long arb_same_step(__u32 i, struct arb_same *c)
{
	__u32 at = (i * 8) & (ARB_PATH_BYTES - 8), left = c->len - i * 8;
	__u64 a, b;

	if (i * 8 >= c->len)
		return 1;
	a = *(__u64 *)(c->a + at);
	b = *(__u64 *)(c->b + at);
	if (left < 8) {
		a <<= 64 - 8 * left;
		b <<= 64 - 8 * left;
	}
	if (a == b)
		return 0;
	c->differs = 1;
	return 1;
}

static __noinline bool arb_same_text(__u8 *a, __u8 *b, __u32 len)
{
	struct arb_same c = { .a = a, .b = b, .len = len & ARB_PATH_MASK };

	bpf_loop(ARB_PATH_BYTES / 8, arb_same_step, &c, 0);
	return !c.differs;
}

/* Do two slots hold the same question, asked by one task? The time does not count, nor
 * the size of the object, which may change all the time: see arb_same_size.
 */
static __noinline bool arb_same_question(struct arb_slot *a, struct arb_slot *b)
{
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
	    x->path_len != y->path_len || x->detail_len != y->detail_len ||
	    x->exe_len != y->exe_len || x->trees != y->trees || x->marks != y->marks ||
	    x->mode != y->mode || x->owner_uid != y->owner_uid || x->owner_gid != y->owner_gid ||
	    x->login_uid != y->login_uid || x->session != y->session ||
	    x->capabilities != y->capabilities ||
	    x->host_namespaces != y->host_namespaces || x->credentials != y->credentials)
		return false;
	for (i = 0; i < ARB_ARGS; i++)
		if (x->arg[i] != y->arg[i])
			return false;
	for (i = 0; i < ARB_CGROUP_LEVELS; i++)
		if (x->cgroup[i] != y->cgroup[i])
			return false;
	return arb_same_text(a->path, b->path, x->path_len) &&
	       arb_same_text(a->detail, b->detail, x->detail_len) &&
	       arb_same_text(a->exe, b->exe, x->exe_len);
}

/* Is the object as long as it was, if that matters to a rule? */
static __always_inline bool arb_same_size(struct arb_slot *a, struct arb_slot *b)
{
	struct arb_header *h = arb_get_header();

	if (!h || !(h->want[b->facts.event & 63] & ARB_FIELD_SIZE))
		return true;
	return a->facts.size == b->facts.size;
}

/* Frees a slot whose verdict was not used. */
static __always_inline void arb_close(struct arb_open *o)
{
	struct arb_slot *s;
	__u32 index = o->index;
	__u64 word;

	o->used = 0;
	s = bpf_map_lookup_elem(&arb_slots, &index);
	if (!s)
		return;
	word = READ_ONCE(s->word);
	if ((__u32)(word >> 32) == o->gen && (__u8)word == ARB_UNWOUND)
		__sync_val_compare_and_swap(&s->word, word, arb_word(o->gen, ARB_FREE));
}

/* The verdict in o if it is that of the question in slot s: 0 or a negative errno. 1: it is
 * not.
 */
static __always_inline int arb_verdict_of(struct arb_unwinding *u, struct arb_open *o,
					  struct arb_slot *s)
{
	struct arb_slot *before;
	__u32 index = o->index;
	__u64 word, free = arb_word(o->gen, ARB_FREE);
	int err;

	before = bpf_map_lookup_elem(&arb_slots, &index);
	if (!before)
		return 1;
	word = READ_ONCE(before->word);
	if ((__u32)(word >> 32) != o->gen || (__u8)word != ARB_UNWOUND) {
		o->used = 0; /* the daemon has freed it */
		return 1;
	}
	if (!arb_same_question(before, s) || !arb_same_size(before, s))
		return 1;
	err = (word >> 8) & 4095;
	if (err || !u->lost) {
		o->used = 0;
		if (__sync_val_compare_and_swap(&before->word, word, free) != word)
			return 1;
	}
	if (!u->lost)
		u->again = 0;
	return -err;
}

/* The verdict of the question in slot s, if the task has unwound for it: 0 or a negative
 * errno. 1: there is none. A verdict for another system call is given up.
 */
ARB_GLOBAL int arb_unwound_verdict(struct arb_slot *s)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct arb_unwinding *u;
	struct arb_call call;
	int i, ret;

	if (!arb_can_unwind() || !s)
		return 1;
	u = bpf_task_storage_get(&arb_unwindings, task, 0, 0);
	if (!u)
		return 1;
	for (i = 0; i < ARB_MAX_OPEN; i++)
		if (u->open[i].used)
			break;
	if (i == ARB_MAX_OPEN)
		return 1;
	arb_get_call(task, &call);
	if (!arb_same_call(&u->call, &call)) {
		for (i = 0; i < ARB_MAX_OPEN; i++)
			if (u->open[i].used)
				arb_close(&u->open[i]);
		return 1;
	}
	for (i = 0; i < ARB_MAX_OPEN; i++) {
		if (!u->open[i].used)
			continue;
		ret = arb_verdict_of(u, &u->open[i], s);
		if (ret <= 0)
			return ret;
	}
	return 1;
}

#endif
