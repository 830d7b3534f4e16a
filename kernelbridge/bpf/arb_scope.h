/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is this access asked about? Decided in the kernel, before a slot is claimed: outside of
 * its scope, and of what it leaves alone inside of it, the daemon arbitrates nothing.
 *
 * An access is asked about when it is in every dimension that the scope names and no
 * dimension of the mute leaves it alone: see arb_passes(). Dimensions are looked at
 * from the cheapest to the dearest, those of the task first.
 *
 * Worst case: one step per path component of two targets and of the executable, PATH_MAX
 * / 2 each.
 */
#ifndef ARB_SCOPE_H
#define ARB_SCOPE_H

#include "arb_dims.h"
#include "arb_path.h"

#define ARB_NAMED(dim) ((dim) | ARB_MUTED(dim))

/* What one dimension says. It is passed when the scope does not name it or the access is
 * in it, and when the mute does not name it or the access is not muted; inverted, only
 * what is muted passes.
 */
static __always_inline bool arb_passes(__u32 word, __u32 dim, bool in, bool muted)
{
	if ((word & dim) && !in)
		return false;
	return !(word & ARB_MUTED(dim)) || muted == !!(word & ARB_INVERTED(dim));
}

static __always_inline bool arb_passes_bits(__u32 word, __u32 dim, __u32 found)
{
	found >>= arb_parity(word);
	return arb_passes(word, dim, found & ARB_USE_SCOPE, found & ARB_USE_MUTE);
}

static __always_inline bool arb_passes_uid(__u32 word, struct arb_scope_config *c, __u32 uid)
{
	__u32 first = arb_parity(word) * 2 * ARB_MAX_UID_RANGES;
	bool in = false, muted = false;

	if (word & ARB_SCOPE_UIDS)
		in = arb_uid_in(uid, first, c->uids[0]);
	if (word & ARB_MUTED(ARB_SCOPE_UIDS))
		muted = arb_uid_in(uid, first + ARB_MAX_UID_RANGES, c->uids[1]);
	return arb_passes(word, ARB_SCOPE_UIDS, in, muted);
}

static __always_inline bool arb_passes_lineage(__u32 word, struct arb_scope_config *c,
					       struct task_struct *task)
{
	__u64 marks;

	if (!arb_marks_of(task, &marks))
		return true; /* it is asked about */
	return arb_passes(word, ARB_SCOPE_LINEAGE, marks & c->lineage[0], marks & c->lineage[1]);
}

/* The dimensions of the task, but for its executable. */
ARB_GLOBAL bool arb_asks_task(__u32 word)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 parity = arb_parity(word);
	struct arb_scope_config *c;

	if (!(word & ARB_SCOPE_DIMS))
		return false;
	if ((word & ARB_SCOPE_INIT) && task->tgid == 1)
		return false;
	if (word & ARB_NAMED(ARB_SCOPE_UIDS | ARB_SCOPE_LINEAGE)) {
		c = bpf_map_lookup_elem(&arb_scope_configs, &parity);
		if (!c)
			return false;
		if ((word & ARB_NAMED(ARB_SCOPE_UIDS)) &&
		    !arb_passes_uid(word, c, task->cred->uid.val))
			return false;
		if ((word & ARB_NAMED(ARB_SCOPE_LINEAGE)) && !arb_passes_lineage(word, c, task))
			return false;
	}
	return !(word & ARB_NAMED(ARB_SCOPE_CGROUPS)) ||
	       arb_passes_bits(word, ARB_SCOPE_CGROUPS, arb_cgroup_bits(word));
}

/* The targets of an access: none, one, or two. Of an event that has none, or whose object
 * is a process, the scope looks at the subject's executable, and the mute at nothing.
 */
struct arb_targets {
	struct vfsmount *mnt, *mnt2;
	struct dentry *dentry, *dentry2;
	bool none;
};

/* In scope is an access with any target that is. Muted is one whose targets all are;
 * inverted, any.
 */
static __always_inline bool arb_passes_targets(__u32 word, __u32 dim, struct arb_targets *t,
					       __u32 one, __u32 two)
{
	bool inverted = word & ARB_INVERTED(dim);
	__u32 any = one | two, all = one & two;

	if (!t->dentry2)
		all = one;
	if (t->none)
		return arb_passes(word & ~ARB_MUTED(dim), dim, any & ARB_USE_SCOPE, false);
	return arb_passes(word, dim, any & ARB_USE_SCOPE, (inverted ? any : all) & ARB_USE_MUTE);
}

static __always_inline bool arb_passes_mounted(__u32 word, struct arb_targets *t)
{
	__u32 parity = arb_parity(word), one, two = 0;
	struct dentry *dentry = t->dentry;

	one = arb_mounted_bits(BPF_CORE_READ(dentry, d_sb)) >> parity;
	dentry = t->dentry2;
	if (dentry)
		two = arb_mounted_bits(BPF_CORE_READ(dentry, d_sb)) >> parity;
	return arb_passes_targets(word, ARB_SCOPE_MOUNTED, t, one, two);
}

static __always_inline bool arb_passes_trees(__u32 word, struct arb_targets *t)
{
	__u32 parity = arb_parity(word), want = 0, unknown, one, two = 0;

	if (word & ARB_SCOPE_TREES)
		want |= ARB_USE_SCOPE;
	unknown = want;
	if (word & ARB_MUTED(ARB_SCOPE_TREES)) {
		want |= ARB_USE_MUTE;
		if (word & ARB_INVERTED(ARB_SCOPE_TREES))
			unknown |= ARB_USE_MUTE;
	}
	one = arb_tree_bits((__u64)t->mnt, (__u64)t->dentry, want << parity, unknown << parity) >>
	      parity;
	if (t->dentry2)
		two = arb_tree_bits((__u64)t->mnt2, (__u64)t->dentry2, want << parity,
				    unknown << parity) >>
		      parity;
	return arb_passes_targets(word, ARB_SCOPE_TREES, t, one, two);
}

static __always_inline bool arb_passes_exe(__u32 word, struct file *exe)
{
	__u32 parity = arb_parity(word), want = 0, unknown, found;

	if (word & ARB_SCOPE_EXES)
		want |= ARB_USE_SCOPE_EXE;
	unknown = want;
	if (word & ARB_MUTED(ARB_SCOPE_EXES)) {
		want |= ARB_USE_MUTE_EXE;
		if (word & ARB_INVERTED(ARB_SCOPE_EXES))
			unknown |= ARB_USE_MUTE_EXE;
	}
	if (!exe)
		return arb_passes(word, ARB_SCOPE_EXES, false, false);
	found = arb_tree_bits((__u64)BPF_CORE_READ(exe, f_path.mnt),
			      (__u64)BPF_CORE_READ(exe, f_path.dentry), want << parity,
			      unknown << parity) >>
		parity;
	return arb_passes(word, ARB_SCOPE_EXES, found & ARB_USE_SCOPE_EXE,
			  found & ARB_USE_MUTE_EXE);
}

/* The default mutes: our own cgroup, and those of services that we, or the whole
 * system, wait for. A program that such a service starts is asked about all the same.
 */
static __always_inline bool arb_is_service(__u32 word, __u32 event)
{
	__u32 found;

	if (word & ARB_SCOPE_CGROUP1)
		found = arb_cgroup1_bits();
	else
		found = arb_cgroup_bits_of(bpf_get_current_cgroup_id(), 0);
	found >>= arb_parity(word);
	return (found & ARB_USE_OURS) || ((found & ARB_USE_SERVICE) && event != ARB_EVENT_EXEC);
}

/* The dimensions of the access, after those of the task, by the same word. */
static __always_inline bool arb_asks_access(__u32 word, struct arb_question *q)
{
	struct arb_targets t = {
		.mnt = q->mnt,
		.dentry = q->dentry,
		.mnt2 = q->detail_mnt,
		.dentry2 = q->detail_dentry,
	};
	struct file *exe = NULL;

	if (q->object_is_process)
		t.dentry = NULL;
	if (!t.dentry || (word & ARB_NAMED(ARB_SCOPE_EXES)))
		exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);
	if (!t.dentry && exe) {
		t.none = true;
		t.mnt = BPF_CORE_READ(exe, f_path.mnt);
		t.dentry = BPF_CORE_READ(exe, f_path.dentry);
		t.dentry2 = NULL;
	}
	if (word & ARB_NAMED(ARB_SCOPE_MOUNTED | ARB_SCOPE_TREES)) {
		if (!t.dentry) { /* neither a target nor an executable */
			if (word & (ARB_SCOPE_MOUNTED | ARB_SCOPE_TREES))
				return false;
		} else {
			if ((word & ARB_NAMED(ARB_SCOPE_MOUNTED)) && !arb_passes_mounted(word, &t))
				return false;
			if ((word & ARB_NAMED(ARB_SCOPE_TREES)) && !arb_passes_trees(word, &t))
				return false;
		}
	}
	if ((word & ARB_NAMED(ARB_SCOPE_EXES)) && !arb_passes_exe(word, exe))
		return false;
	return !(word & ARB_SCOPE_SERVICES) || !arb_is_service(word, q->event);
}

#define ARB_ALL_MUTED ARB_MUTED(ARB_SCOPE_DIMS)

/* The word without the mute, for an event that the mute is not about. */
static __always_inline __u32 arb_word_for(__u32 word, __u32 event)
{
	__u32 parity = arb_parity(word);
	struct arb_scope_config *c;

	if (!(word & ARB_ALL_MUTED))
		return word;
	c = bpf_map_lookup_elem(&arb_scope_configs, &parity);
	if (c && c->mute_events && !(c->mute_events >> (event & 63) & 1))
		word &= ~ARB_ALL_MUTED;
	return word;
}

ARB_GLOBAL bool arb_asks(__u32 word, struct arb_question *q)
{
	if (!q)
		return false;
	word = arb_word_for(word, q->event);
	if (!arb_asks_task(word))
		return false;
	if (!q->mnt && q->dentry)
		q->mnt = (void *)arb_mount_of((__u64)q->dentry);
	return arb_asks_access(word, q);
}

#define ARB_MAX_LOOKS 2 /* a third one takes two changes in one look */

static __always_inline bool arb_in_scope(struct arb_header *h, struct arb_question *q)
{
	__u32 word = READ_ONCE(h->scope), now;
	bool asks;
	int look;

	for (look = 0; look < ARB_MAX_LOOKS; look++) {
		asks = arb_asks(word, q);
		now = READ_ONCE(h->scope);
		if (now == word)
			return asks;
		word = now; /* what was looked at may have been half gone: look again */
	}
	return true; /* changed again: rather asked about */
}

#endif
