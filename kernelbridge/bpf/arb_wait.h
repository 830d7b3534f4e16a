/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rungs of the wait ladder on which the CPU is given back:
 *
 *   sleep    in a sleepable program: at the gate, a FUSE file of the daemon's. Reading
 *            an extended attribute of it blocks until the daemon answers, and wakes a
 *            worker that was parked.
 *   unwind   in any other: the system call is abandoned with -ERESTARTNOINTR, drops
 *            all locks, sleeps at the gate on its way out, and runs again. The hook
 *            then finds the verdict.
 *
 * Both need kfuncs that the running kernel may not have: then the functions here say
 * so, and the caller polls. So does who is refused at the gate by another LSM.
 */
#ifndef ARB_WAIT_H
#define ARB_WAIT_H

#include "arb_ring.h"

#define ARB_MAX_SLEEPS 1024 /* the daemon ends each after a second at most */
#define ARB_TICK_NS 10000000 /* of /proc/PID/stat */

extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;
extern struct file *bpf_get_task_exe_file(struct task_struct *task) __ksym __weak;
extern void bpf_put_file(struct file *file) __ksym __weak;
extern int bpf_get_file_xattr(struct file *file, const char *name__str,
			      struct bpf_dynptr *value_p) __ksym __weak;

/* Where the kernel would put the value of the attribute. The daemon sends none: the
 * size that is asked for says which slot sleeps.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[ARB_SLOTS]);
} arb_gate_value SEC(".maps");

const char arb_gate_name[] = "user.arbiter";

static __always_inline bool arb_can_sleep(struct arb_header *h)
{
	return bpf_ksym_exists(bpf_get_file_xattr) && bpf_ksym_exists(bpf_get_task_exe_file) &&
	       bpf_ksym_exists(bpf_task_from_pid) && READ_ONCE(h->gate_pid);
}

static __always_inline bool arb_gate_refuses(int err)
{
	return err == -ARB_EACCES || err == -ARB_EPERM;
}

/* Sleeps at the gate once. 0: look at the slot again; else why there is no gate: EACCES or
 * EPERM when another LSM does not let this task read it.
 */
static __always_inline int arb_sleep(struct arb_header *h, __u32 index)
{
	struct bpf_dynptr value;
	struct task_struct *helper;
	struct file *gate;
	__u32 zero = 0;
	__u8 *buf;
	int err = -ARB_ENODEV;

	buf = bpf_map_lookup_elem(&arb_gate_value, &zero);
	if (!buf)
		return err;
	helper = bpf_task_from_pid(READ_ONCE(h->gate_pid));
	if (!helper)
		return err;
	gate = bpf_get_task_exe_file(helper);
	if (gate) {
		/* It must be the very file of the daemon's: another process may have the
		 * number by now.
		 */
		if (gate->f_inode->i_ino == h->gate_ino &&
		    gate->f_inode->i_sb->s_dev == h->gate_dev &&
		    helper->start_boottime / ARB_TICK_NS == h->gate_start) {
			bpf_dynptr_from_mem(buf, (index & (ARB_SLOTS - 1)) + 1, 0, &value);
			__sync_fetch_and_add(&h->sleeps, 1);
			err = bpf_get_file_xattr(gate, arb_gate_name, &value);
			if (arb_gate_refuses(err)) { /* the daemon will never read of it */
				__sync_fetch_and_add(&h->sleeps, -1);
				__sync_fetch_and_add(&h->gate_refused, 1);
			}
		}
		bpf_put_file(gate);
	}
	bpf_task_release(helper);
	/* ENODATA is the daemon's answer to all of them, EINTR the kernel's to SIGKILL
	 * before the daemon has read of it.
	 */
	return err == -ARB_ENODATA || err == -ARB_EINTR ? 0 : err;
}

static long arb_sleep_step(__u32 i, struct arb_wait *w)
{
	struct arb_header *h = arb_get_header();
	int err;

	if (!h)
		return 1;
	err = arb_sleep(h, w->index);
	if (err) {
		w->reason = ARB_REASON_GATE_DEAD;
		w->refused = arb_gate_refuses(err);
		goto over;
	}
	w->word = READ_ONCE(w->slot->word);
	if ((__u8)w->word == ARB_DONE)
		goto over;
	if (arb_killed(bpf_get_current_task_btf())) {
		w->killed = 1;
		goto over;
	}
	if (bpf_ktime_get_ns() > w->deadline)
		goto over;
	return 0;
over:
	w->over = 1;
	return 1;
}

/* Says in the word that the answerer has to wake us. False: it is answered already. */
static __always_inline bool arb_mark_sleeping(struct arb_wait *w)
{
	__u64 word = arb_word(w->gen, ARB_POSTED);

	if (w->sleeping)
		return true;
	w->word = __sync_val_compare_and_swap(&w->slot->word, word, word | ARB_SLEEPING);
	if (w->word == arb_word(w->gen, ARB_TAKEN)) {
		word = w->word;
		w->word = __sync_val_compare_and_swap(&w->slot->word, word, word | ARB_SLEEPING);
	}
	if (w->word != word)
		return false;
	w->sleeping = ARB_SLEEPING;
	return true;
}

/* Rung "sleep", in a context that may. Who is refused at the gate polls. */
static __always_inline void arb_wait_asleep(struct arb_header *h, struct arb_wait *w)
{
	w->deadline = w->slot->facts.posted_ns + h->sleep_ns;
	if (!arb_mark_sleeping(w))
		return;
	bpf_loop(ARB_MAX_SLEEPS, arb_sleep_step, w, 0);
	if (w->refused) {
		w->over = 0;
		w->reason = ARB_REASON_DEADLINE;
		arb_wait_polling(h, w, h->wait_ns);
	}
}

/* Polls for as long as the rung above is worth it, if a worker polls too; else the way to
 * the gate, which wakes a worker, is the shorter one. True: that was the whole wait.
 */
static __always_inline bool arb_wait_shortly(struct arb_header *h, struct arb_wait *w)
{
	__u64 here;

	if (!arb_hot_elsewhere(h, &here))
		return false;
	w->deadline = w->slot->facts.posted_ns + h->spin_ns;
	w->kick_at = ~0ull;
	arb_wait_hot(w);
	if (arb_answered(w) || w->killed)
		return true;
	w->over = 0;
	return false;
}

/* The wait in a sleepable program that holds no lock. */
static __always_inline void arb_wait_free(struct arb_header *h, struct arb_wait *w)
{
	if (!arb_can_sleep(h))
		arb_wait_polling(h, w, h->wait_ns);
	else if (!arb_wait_shortly(h, w))
		arb_wait_asleep(h, w);
}

#endif
