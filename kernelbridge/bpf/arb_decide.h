/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rules that the kernel decides alone: those that look at ids, numbers, access and simple
 * patterns of the path only, as far as they stand before all others of their event.
 *
 * Before the path is known those are tried that come before the first that looks at it.
 * Nobody has to be there to answer, so they hold in every hook and for every caller. The others
 * are tried when the path has been written into a slot, and only allow: a refusal is asked
 * about, for its record has more facts than are known here.
 *
 * Worst case: ARB_MAX_RULES rules, and arb_pattern.h.
 */
#ifndef ARB_DECIDE_H
#define ARB_DECIDE_H

#include "arb_pattern.h"
#include "arb_question.h"

/* Two halves: the daemon writes the one that header.decide does not name. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * ARB_EVENT_COUNT * ARB_MAX_RULES);
	__type(key, __u32);
	__type(value, struct arb_rule);
} arb_rules SEC(".maps");

struct arb_decision {
	struct arb_question *q;
	__u32 id[ARB_TEST_ACCESS]; /* by arb_test_field */
	__u32 first;	 /* of arb_rules */
	__u32 count;
	__u32 paths; /* bit i: rule i has a pattern that matches */
	__s32 rule;
	__s32 verdict; /* 1: none yet */
	__u32 pad;
};

static __always_inline bool arb_test_holds(struct arb_decision *d, const struct arb_test *t)
{
	__u64 v;

	if (t->field >= ARB_TEST_ARG)
		v = d->q->arg[(t->field - ARB_TEST_ARG) & (ARB_ARGS - 1)];
	else if (t->field == ARB_TEST_ACCESS)
		v = d->q->access;
	else
		v = d->id[t->field & 3];
	v &= t->mask;
	return v >= t->low && v <= t->high;
}

static long arb_decide_step(__u32 i, struct arb_decision *d)
{
	__u32 index = d->first + i, tests;
	struct arb_rule *r;

	if (i >= d->count)
		return 1;
	r = bpf_map_lookup_elem(&arb_rules, &index);
	if (!r)
		return 1;
	tests = r->tests;
	if ((r->about_path && !(d->paths >> (i & 31) & 1)) ||
	    (tests > 0 && !arb_test_holds(d, &r->test[0])) ||
	    (tests > 1 && !arb_test_holds(d, &r->test[1])) ||
	    (tests > 2 && !arb_test_holds(d, &r->test[2])) ||
	    (tests > 3 && !arb_test_holds(d, &r->test[3])))
		return 0;
	d->rule = r->rule;
	d->verdict = -(int)(r->rule_errno & 4095);
	return 1;
}

/* Tells the daemon of a refusal by a rule that was decided here. */
static __noinline void arb_notify_rule(struct arb_question *q, __s32 rule, __u32 rule_errno)
{
	struct arb_header *h = arb_get_header();
	struct arb_notice *n = bpf_ringbuf_reserve(&arb_notices, sizeof(*n), 0);
	int i;

	if (!n)
		return;
	__builtin_memset(&n->facts, 0, sizeof(n->facts));
	n->facts.posted_ns = bpf_ktime_get_ns();
	n->facts.event = q->event;
	n->facts.access = q->access;
	n->facts.epoch = h ? READ_ONCE(h->epoch) : 0;
	for (i = 0; i < ARB_ARGS; i++)
		n->facts.arg[i] = q->arg[i];
	arb_fill_subject(&n->facts, bpf_get_current_task_btf());
	n->path[0] = 0;
	n->reason = ARB_REASON_NONE;
	n->fail_errno = rule_errno;
	n->rule = rule;
	n->pad = 0;
	bpf_ringbuf_submit(n, 0);
}

/* The verdict of the first of d->count rules that matches. 1: none does, or other rules count
 * by now: the half that these are in stays as it is until they do not count any more.
 */
static __always_inline int arb_decide_by(struct arb_header *h, struct arb_question *q,
					 struct arb_decision *d, __u32 word, __u64 epoch)
{
	const struct cred *cred = bpf_get_current_task_btf()->cred;

	d->first = q->event * ARB_MAX_RULES;
	if (word & ARB_DECIDE_ODD)
		d->first += ARB_EVENT_COUNT * ARB_MAX_RULES;
	d->verdict = 1;
	d->q = q;
	d->id[ARB_TEST_UID] = cred->uid.val;
	d->id[ARB_TEST_EUID] = cred->euid.val;
	d->id[ARB_TEST_GID] = cred->gid.val;
	d->id[ARB_TEST_EGID] = cred->egid.val;
	bpf_loop(ARB_MAX_RULES, arb_decide_step, d, 0);
	if (READ_ONCE(h->epoch) != epoch || (!d->verdict && READ_ONCE(h->watched)))
		return 1;
	return d->verdict;
}

static __always_inline int arb_decided(__u32 event, int verdict)
{
	struct arb_counts *counts = arb_get_counts(event);

	if (counts) {
		arb_count(&counts->asked);
		arb_count(&counts->decided);
	}
	return verdict;
}

/* The verdict of the rules that the kernel decides by before the path is known: 0 or a negative
 * errno. 1: a worker has to be asked.
 */
ARB_GLOBAL int arb_decide(struct arb_question *q)
{
	struct arb_header *h = arb_get_header();
	struct arb_decision d;
	__u32 word, before;
	__u64 epoch;
	int verdict;

	if (!h || !q)
		return 1;
	epoch = READ_ONCE(h->epoch);
	word = READ_ONCE(h->decide[q->event & 63]);
	before = word >> ARB_DECIDE_BEFORE & ARB_DECIDE_COUNT;
	if (!before || READ_ONCE(h->dead)) /* hooks without a daemon have one verdict for all */
		return 1;
	__builtin_memset(&d, 0, sizeof(d));
	d.count = before;
	verdict = arb_decide_by(h, q, &d, word, epoch);
	if (verdict > 0)
		return 1;
	if (verdict)
		arb_notify_rule(q, d.rule, -verdict);
	return arb_decided(q->event, verdict);
}

/* 0 if the rules that the kernel decides by allow what is asked in slot s. 1: a worker has to be
 * asked. paths are the rules with a pattern that matches.
 */
ARB_GLOBAL int arb_decide_by_path(struct arb_question *q, struct arb_slot *s, __u32 paths)
{
	struct arb_header *h = arb_get_header();
	struct arb_decision d;
	__u32 word;

	if (!h || !q || !s)
		return 1;
	word = READ_ONCE(h->decide[q->event & 63]);
	__builtin_memset(&d, 0, sizeof(d));
	d.count = word & ARB_DECIDE_COUNT;
	d.paths = paths;
	if (arb_decide_by(h, q, &d, word, s->facts.epoch))
		return 1;
	return arb_decided(q->event, 0);
}

/* The same for a question whose path has just been written into slot s, number index. */
static __always_inline int arb_decide_path(struct arb_header *h, struct arb_question *q,
					   struct arb_slot *s, __u32 index)
{
	__u32 word = READ_ONCE(h->decide[q->event & 63]);

	if (!s->facts.path_len || READ_ONCE(h->dead) ||
	    (word & ARB_DECIDE_COUNT) == (word >> ARB_DECIDE_BEFORE & ARB_DECIDE_COUNT))
		return 1;
	return arb_decide_by_path(
		q, s, arb_match_path(s, index, 2 * q->event + (word / ARB_DECIDE_ODD & 1)));
}

#endif
