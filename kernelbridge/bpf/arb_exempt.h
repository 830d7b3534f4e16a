/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The first thing that a hook looks at: whether it is for us at all. */
#ifndef ARB_EXEMPT_H
#define ARB_EXEMPT_H

#include "arb_ring.h"

/* The daemon, its guard, the gate's helper, and a child of the daemon's that has not executed
 * its own program yet: it has the daemon's descriptors, and the daemon waits for it. While
 * one daemon takes over from another, neither asks about the other, its guard and its
 * helper: else the two could wait for each other.
 */
static __always_inline bool arb_ours(struct arb_header *h, struct task_struct *task)
{
	__u32 tgid = task->tgid, peer = READ_ONCE(h->peer_tgid);

	if (tgid == h->daemon_tgid || tgid == h->gate_pid || tgid == h->guard_tgid)
		return true;
	if (peer && (tgid == peer || (__u32)BPF_CORE_READ(task, real_parent, tgid) == peer))
		return true;
	/* A thread has the flag, too. */
	return (task->flags & ARB_PF_FORKNOEXEC) && task->pid == task->tgid &&
	       (__u32)BPF_CORE_READ(task, real_parent, tgid) == h->daemon_tgid;
}

/* Not for us: nobody armed, no rule about the event, our own threads, kernel threads.
 *
 * A refusal by an earlier program ends the chain of programs on a hook, so none looks at
 * that (the hook's last argument). Reading it makes the verifier of 6.18 complain of itself.
 */
static __always_inline bool arb_exempt(struct arb_header *h, __u32 event)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return !READ_ONCE(h->armed) || !(READ_ONCE(h->asked) >> event & 1) ||
	       (task->flags & ARB_PF_KTHREAD) || arb_ours(h, task);
}

#endif
