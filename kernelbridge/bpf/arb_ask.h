/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every hook does: it describes its question in a struct arb_question and returns
 * arb_ask_free() or arb_ask_locked() of it, by its class in the catalogue.
 */
#ifndef ARB_ASK_H
#define ARB_ASK_H

#include "arb_cache.h"
#include "arb_decide.h"
#include "arb_exempt.h"
#include "arb_scope.h"
#include "arb_path.h"
#include "arb_unwind.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

/* What a hook may return. The verdicts are in this range already; the verifier wants to
 * see it, and a kernel older than 6.12 does not check.
 */
static __always_inline int arb_return(int ret)
{
	barrier_var(ret);
	if (ret < -4095 || ret > 0)
		return -1; /* EPERM */
	return ret;
}

/* What a mount has that maps no ids. */
extern void nop_mnt_idmap __ksym __weak; /* >= 6.2 */
extern void init_user_ns __ksym __weak;

#define ARB_FUSE_SUPER_MAGIC 0x65735546
#define ARB_OVERLAYFS_SUPER_MAGIC 0x794c7630

/* Is the owner of an inode the host's word, and the one that is seen here? On a mount that
 * maps ids it is another one, and the server of a FUSE file system, who may be any user, says
 * what he likes. An overlay that a user has mounted, in a user namespace, may be on such a one
 * and takes its owners over.
 */
static __always_inline bool arb_owner_is_sure(struct dentry *dentry, struct vfsmount *mnt)
{
	struct vfsmount___userns *old = (void *)mnt;
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);
	unsigned long magic = BPF_CORE_READ(sb, s_magic);

	if (magic == ARB_FUSE_SUPER_MAGIC ||
	    (magic == ARB_OVERLAYFS_SUPER_MAGIC &&
	     (void *)BPF_CORE_READ(sb, s_user_ns) != &init_user_ns))
		return false;
	if (!mnt) /* nor is the hook told */
		return true;
	if (bpf_core_field_exists(mnt->mnt_idmap))
		return (void *)BPF_CORE_READ(mnt, mnt_idmap) == &nop_mnt_idmap;
	return (void *)BPF_CORE_READ(old, mnt_userns) == &init_user_ns;
}

static __noinline void arb_fill_object(struct arb_facts *f, struct dentry *dentry,
				      struct vfsmount *mnt)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);

	f->dev = BPF_CORE_READ(dentry, d_sb, s_dev);
	if (!inode)
		return; /* about to be created */
	f->ino = BPF_CORE_READ(inode, i_ino);
	f->size = BPF_CORE_READ(inode, i_size);
	f->mode = BPF_CORE_READ(inode, i_mode);
	f->owner_uid = ~0u;
	f->owner_gid = ~0u;
	if (arb_owner_is_sure(dentry, mnt)) {
		f->owner_uid = BPF_CORE_READ(inode, i_uid.val);
		f->owner_gid = BPF_CORE_READ(inode, i_gid.val);
	}
	f->generation = BPF_CORE_READ(inode, i_generation);
}

/* The path of a file, for hooks in which bpf_d_path() is to be had: it is quicker than
 * our own walk, and takes part in the locking of renames.
 */
static __always_inline __u32 arb_d_path(struct file *file, __u8 *text)
{
	long n = bpf_d_path(&file->f_path, (char *)text, ARB_PATH_BYTES);

	return n > 1 && n <= ARB_PATH_BYTES ? n - 1 : 0;
}

/* The path of the subject's executable; 0 if it has none. */
static __always_inline __u32 arb_exe_path(struct task_struct *task, __u8 *text, bool d_path)
{
	struct file *exe;
	__u32 len;

	if (d_path && bpf_ksym_exists(bpf_get_task_exe_file)) { /* >= 6.12 */
		exe = bpf_get_task_exe_file(task);
		if (!exe)
			return 0;
		len = arb_d_path(exe, text);
		bpf_put_file(exe);
		return len;
	}
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return 0;
	return arb_write_path((void *)text, (__u64)BPF_CORE_READ(exe, f_path.mnt),
			      (__u64)BPF_CORE_READ(exe, f_path.dentry));
}

/* The name of a unix socket. One in the file system ends with a NUL, if there is one;
 * one that begins with a NUL is abstract, and all of its bytes count.
 */
static __always_inline __u32 arb_write_name(__u8 *text, const char *name, __u32 len)
{
	long n;

	len &= ARB_NAME_BYTES - 1;
	text[0] = 0;
	bpf_probe_read_kernel(text, len, name);
	if (!text[0]) {
		text[0] = '@';
		return len;
	}
	n = bpf_probe_read_kernel_str(text, len + 1, name);
	return n > 0 ? n - 1 : 0;
}

/* file is the object for bpf_d_path(), or NULL. */
static __always_inline void arb_fill_path(struct arb_slot *s, struct arb_question *q,
					  struct file *file)
{
	struct arb_facts *f = &s->facts;

	if (q->dentry) {
		if (file)
			f->path_len = arb_d_path(file, s->path);
		else
			f->path_len = arb_write_path((void *)s->path, (__u64)q->mnt,
						     (__u64)q->dentry);
		if (!f->path_len)
			f->flags |= ARB_FLAG_PATH_TRUNCATED;
	} else if (q->name_len) {
		f->path_len = arb_write_name(s->path, q->name, q->name_len);
	} else {
		f->flags |= ARB_FLAG_NO_OBJECT;
	}
}

/* All the other texts. */
static __always_inline void arb_fill_texts(struct arb_slot *s, struct arb_question *q, __u32 want,
					   bool d_path)
{
	struct arb_facts *f = &s->facts;
	long n;

	if (q->detail_dentry) {
		f->detail_len = arb_write_path((void *)s->detail, (__u64)q->detail_mnt,
					       (__u64)q->detail_dentry);
		if (!f->detail_len)
			f->flags |= ARB_FLAG_DETAIL_TRUNCATED;
	} else if (q->detail) {
		n = bpf_probe_read_kernel_str(s->detail, ARB_PATH_BYTES, q->detail);
		if (n > 0 && n < ARB_PATH_BYTES)
			f->detail_len = n - 1;
		else
			f->flags |= ARB_FLAG_DETAIL_TRUNCATED;
	}
	if (want & ARB_FIELD_EXE)
		f->exe_len = arb_exe_path(bpf_get_current_task_btf(), s->exe, d_path);
	if (!f->exe_len)
		f->flags |= ARB_FLAG_NO_EXE;
}

static __always_inline __u32 arb_host_bit(struct arb_header *h, __u32 kind, __u32 inum)
{
	return !h->host_ns[kind] || h->host_ns[kind] == inum ? 1u << kind : 0;
}

/* Who has logged in, what the task may do, and which of its namespaces are the host's. */
static __noinline void arb_fill_credentials(struct arb_header *h, struct arb_facts *f)
{
	struct task_struct *t = bpf_get_current_task_btf();
	const struct cred *cred = t->cred;
	struct nsproxy *ns = t->nsproxy;
	struct mnt_namespace___inum *mnt = (void *)BPF_CORE_READ(ns, mnt_ns);
	__u32 host;

	if (h->host_ns[ARB_NS_MNT] == ~0u || !ns) /* it exits */
		return;
	f->login_uid = ~0u;
	if (bpf_core_field_exists(t->loginuid))
		f->login_uid = BPF_CORE_READ(t, loginuid.val);
	f->session = ~0u;
	if (bpf_core_field_exists(t->sessionid))
		f->session = BPF_CORE_READ(t, sessionid);
	bpf_probe_read_kernel(&f->capabilities, sizeof(f->capabilities), &cred->cap_effective);
	host = arb_host_bit(h, ARB_NS_CGROUP, BPF_CORE_READ(ns, cgroup_ns, ns.inum));
	host |= arb_host_bit(h, ARB_NS_IPC, BPF_CORE_READ(ns, ipc_ns, ns.inum));
	host |= arb_host_bit(h, ARB_NS_MNT, BPF_CORE_READ(mnt, ns.inum));
	host |= arb_host_bit(h, ARB_NS_NET, BPF_CORE_READ(ns, net_ns, ns.inum));
	host |= arb_host_bit(h, ARB_NS_USER, BPF_CORE_READ(cred, user_ns, ns.inum));
	host |= arb_host_bit(h, ARB_NS_UTS, BPF_CORE_READ(ns, uts_ns, ns.inum));
	if (!BPF_CORE_READ(t, thread_pid, level))
		host |= 1u << ARB_NS_PID;
	f->host_namespaces = host;
	f->credentials = 1;
}

/* The process trees that the subject is in. The count is read first: the marks that it counts
 * are there by then.
 */
static __always_inline void arb_fill_trees(struct arb_header *h, struct arb_facts *f)
{
	__u32 marks = READ_ONCE(h->marks);

	if (arb_marks_of(bpf_get_current_task_btf(), &f->trees))
		f->marks = marks;
}

/* Claims a slot and fills it in, all but the texts. NULL: *ret is the verdict. */
static __always_inline struct arb_slot *arb_claim_for(struct arb_header *h, struct arb_question *q,
						      struct arb_claim *claim, int *ret)
{
	struct arb_counts *counts = arb_get_counts(q->event);
	__u64 now = bpf_ktime_get_ns();
	struct arb_slot *s;
	int i;

	*ret = 0;
	if (!counts)
		return NULL;
	if (!arb_alive(h, now)) {
		arb_count(&counts->asked);
		*ret = arb_fail(h, NULL, q->event, ARB_REASON_NO_WORKER);
		return NULL;
	}
	s = arb_claim(claim);
	if (!s) {
		arb_count(&counts->asked);
		*ret = arb_fail(h, NULL, q->event, ARB_REASON_RING_FULL);
		return NULL;
	}
	__builtin_memset(&s->facts, 0, sizeof(s->facts));
	s->facts.posted_ns = now;
	s->facts.event = q->event;
	s->facts.access = q->access;
	s->facts.epoch = READ_ONCE(h->epoch);
	for (i = 0; i < ARB_ARGS; i++)
		s->facts.arg[i] = q->arg[i];
	arb_fill_subject(&s->facts, bpf_get_current_task_btf());
	if (h->want[q->event & 63] & ARB_FIELD_CGROUP)
		arb_fill_cgroup(&s->facts);
	if (h->want[q->event & 63] & ARB_FIELD_CREDENTIALS)
		arb_fill_credentials(h, &s->facts);
	if (h->want[q->event & 63] & ARB_FIELD_TREE)
		arb_fill_trees(h, &s->facts);
	return s;
}

/* Asks in a sleepable program that is called without a lock; 0 or a negative errno. keep is
 * set when the answer may be given again; it may be NULL.
 */
static __noinline int arb_ask_free(struct arb_header *h, struct arb_question *q,
					struct file *file, bool *keep)
{
	struct arb_claim claim = {};
	struct arb_counts *counts;
	struct arb_wait w = {};
	struct arb_slot *s;
	int ret;

	if (!h || !q)
		return 0;
	s = arb_claim_for(h, q, &claim, &ret);
	if (!s)
		return ret;
	arb_begin_wait(&w, s, &claim);
	arb_fill_path(s, q, file);
	if (!arb_decide_path(h, q, s, w.index)) {
		WRITE_ONCE(s->word, arb_word(w.gen, ARB_FREE));
		if (keep)
			*keep = true;
		return 0;
	}
	if (q->dentry)
		arb_fill_object(&s->facts, q->dentry, q->mnt);
	arb_fill_texts(s, q, h->want[q->event & 63], true);
	counts = arb_get_counts(q->event);
	if (counts)
		arb_count(&counts->asked);
	arb_post(h, &w);
	arb_wait_free(h, &w);
	ret = arb_settle(&w);
	if (keep)
		*keep = arb_answered(&w) && (w.word & ARB_KEEP);
	return ret;
}

/* Asks in any other program; 0 or a negative errno, -ERESTARTNOINTR among them. */
static __noinline int arb_ask_locked(struct arb_question *q)
{
	struct arb_header *h = arb_get_header();
	struct arb_counts *counts;
	struct arb_claim claim = {};
	struct arb_wait w = {};
	struct arb_slot *s;
	int ret;

	if (!h || !q)
		return 0;
	counts = arb_get_counts(q->event);
	s = arb_claim_for(h, q, &claim, &ret);
	if (!s)
		return ret;
	if (q->dentry)
		arb_fill_object(&s->facts, q->dentry, q->mnt);
	arb_fill_path(s, q, NULL);
	arb_fill_texts(s, q, h->want[q->event & 63], false);
	ret = arb_unwound_verdict(s);
	if (ret > 0)
		ret = arb_decide_path(h, q, s, claim.index);
	if (ret <= 0) {
		WRITE_ONCE(s->word, arb_word(claim.gen, ARB_FREE));
		return ret;
	}
	if (counts)
		arb_count(&counts->asked);
	arb_begin_wait(&w, s, &claim);
	arb_post(h, &w);
	if (arb_wait_locked(h, &w))
		return -ARB_ERESTARTNOINTR;
	return arb_settle(&w);
}

/* The whole of a hook whose question needs no more than what it is given. */
static __noinline int arb_free_hook(struct arb_question *q)
{
	struct arb_header *h = arb_get_header();
	int verdict;

	if (!h || arb_exempt(h, q->event))
		return 0;
	if (!arb_in_scope(h, q))
		return 0;
	verdict = arb_decide(q);
	return arb_return(verdict <= 0 ? verdict : arb_ask_free(h, q, NULL, NULL));
}

static __noinline int arb_locked_hook(struct arb_question *q)
{
	struct arb_header *h = arb_get_header();
	int verdict;

	if (!h || arb_exempt(h, q->event))
		return 0;
	if (!arb_in_scope(h, q))
		return 0;
	verdict = arb_decide(q);
	return arb_return(verdict <= 0 ? verdict : arb_ask_locked(q));
}

#endif
