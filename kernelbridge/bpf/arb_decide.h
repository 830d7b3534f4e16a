/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rules that the kernel decides alone: those that look at ids, numbers and access only, as
 * far as they stand before all others of their event. Nobody has to be there to answer,
 * so they hold in every hook and for every caller.
 *
 * Worst case: ARB_MAX_RULES rules.
 */
#ifndef ARB_DECIDE_H
#define ARB_DECIDE_H

#include "arb_question.h"

/* Two halves: the daemon writes the one that header.decide does not name. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * ARB_EVENT_COUNT * ARB_MAX_RULES);
	__type(key, __u32);
	__type(value, struct arb_rule);
} arb_rules SEC(".maps");

struct arb_decision {
	__u64 value[16]; /* ARB_TEST_FIELDS of them are used */
	__u32 first;	 /* of arb_rules */
	__u32 count;
	__s32 rule;
	__s32 verdict; /* 1: none yet */
};

static __always_inline bool arb_test_holds(struct arb_decision *d, const struct arb_test *t)
{
	__u64 v = d->value[t->field & 15] & t->mask;

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
	if ((tests > 0 && !arb_test_holds(d, &r->test[0])) ||
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

/* The verdict of the rules that the kernel decides by: 0 or a negative errno. 1: a worker
 * has to be asked.
 */
ARB_GLOBAL int arb_decide(struct arb_question *q)
{
	struct arb_header *h = arb_get_header();
	const struct cred *cred = bpf_get_current_task_btf()->cred;
	struct arb_counts *counts;
	struct arb_decision d;
	__u32 word;
	int i;

	if (!h || !q)
		return 1;
	word = READ_ONCE(h->decide[q->event & 63]);
	if (!word || READ_ONCE(h->dead)) /* hooks without a daemon have one verdict for all */
		return 1;
	__builtin_memset(&d, 0, sizeof(d));
	d.count = word & ~ARB_DECIDE_ODD;
	d.first = q->event * ARB_MAX_RULES;
	if (word & ARB_DECIDE_ODD)
		d.first += ARB_EVENT_COUNT * ARB_MAX_RULES;
	d.verdict = 1;
	d.value[ARB_TEST_UID] = cred->uid.val;
	d.value[ARB_TEST_EUID] = cred->euid.val;
	d.value[ARB_TEST_GID] = cred->gid.val;
	d.value[ARB_TEST_EGID] = cred->egid.val;
	d.value[ARB_TEST_ACCESS] = q->access;
	for (i = 0; i < ARB_ARGS; i++)
		d.value[ARB_TEST_ARG + i] = q->arg[i];
	bpf_loop(ARB_MAX_RULES, arb_decide_step, &d, 0);
	if (d.verdict > 0 || (!d.verdict && READ_ONCE(h->watched)))
		return 1;
	counts = arb_get_counts(q->event);
	if (counts) {
		arb_count(&counts->asked);
		arb_count(&counts->decided);
	}
	if (d.verdict)
		arb_notify_rule(q, d.rule, -d.verdict);
	return d.verdict;
}

#endif
