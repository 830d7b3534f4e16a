/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict cache in the kernel: an open or an exec that a worker has allowed, and that
 * nothing has changed since, is allowed again without a question.
 *
 * Only plain allows are kept: a refusal and an audited allow are recorded each time, so
 * a worker has to see them. The worker says whether an allow may be kept (ARB_KEEP).
 *
 * The key holds all that the verdict was made from, compared in full, and what the path
 * name depends on, so that nothing has to be told when something is renamed:
 *
 *   - the rules: epoch, and which facts they consult for the event
 *   - the file: device, inode, generation, and the time of its last change, which is two
 *     seconds ago at least, and with which its owner and its mode change. It has one name,
 *     and nobody has it open for writing.
 *   - its name: the kernel counts all renames (rename_lock) and all changes of mount
 *     trees (mount_lock); the mount, which is never confused with another one since
 *     6.8; and the task's root. With one name, and no rename and no mount in between,
 *     the path is the same.
 *   - the subject: of its ids, cgroup, process trees and executable those that the rules
 *     consult
 *
 * An entry is of no use after a minute or so: counters of 32 bits wrap.
 */
#ifndef ARB_CACHE_H
#define ARB_CACHE_H

#include "arb_lineage.h"
#include "arb_question.h"

#define ARB_CACHE_ENTRIES 16384
#define ARB_SETTLED_SEC 2
#define ARB_DCACHE_OP_REVALIDATE (1u << 2) /* names can change without the kernel's doing */
#define ARB_S_IFMT 0170000
#define ARB_S_IFREG 0100000

/* One file at one place. */
struct arb_cache_file {
	__u64 ino;
	__s64 ctime_sec;
	__u64 mnt; /* mnt_id_unique */
	__u32 ctime_nsec;
	__u32 generation;
	__u32 dev;
	__u32 pad;
};

struct arb_cache_key {
	__u64 epoch;
	__u64 minute;
	__u64 cgroup;
	__u64 trees;
	__u64 root_ino;
	__u64 root_mnt;
	struct arb_cache_file object;
	struct arb_cache_file exe;
	__u32 event;
	__u32 access;
	__u32 renames;
	__u32 mounts;
	__u32 root_dev;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 egid;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ARB_CACHE_ENTRIES);
	__type(key, struct arb_cache_key);
	__type(value, __u64);
} arb_cache SEC(".maps");

/* What must not have changed between the question and its answer. The facts that other
 * threads or tasks can change meanwhile (times, root, executable, cgroup, marks) are mixed
 * into one word, for the stack is short: a mix tells a change, it identifies nothing.
 */
struct arb_cache_stamp {
	__u64 epoch;
	__u64 mix;
	__u32 renames;
	__u32 mounts;
	__u32 valid;
	__u32 pad;
};

static __always_inline __u64 arb_cache_mix(const struct arb_cache_key *k)
{
	const __u64 odd = 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio */
	__u64 mix = k->object.ctime_sec;

	mix = mix * odd + k->object.ctime_nsec;
	mix = mix * odd + k->cgroup;
	mix = mix * odd + k->trees;
	mix = mix * odd + k->root_ino;
	mix = mix * odd + k->root_mnt;
	return mix * odd + k->exe.ino;
}

#ifndef ARB_RENAME_LOCK
extern void rename_lock __ksym __weak;
extern void mount_lock __ksym __weak;
#define ARB_RENAME_LOCK (&rename_lock)
#define ARB_MOUNT_LOCK (&mount_lock)
#endif

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak; /* >= 6.2 */

/* A kernel address as a pointer to a type: reads through it cost one instruction, and read
 * zero where there is nothing.
 */
#define ARB_AS(type, address)                                                                  \
	((struct type *)bpf_rdonly_cast((address), bpf_core_type_id_kernel(struct type)))

/* The count of a seqlock_t, its first member. False while a writer is at work. */
static __always_inline bool arb_sequence(const void *lock, __u32 *count)
{
	if (!lock)
		return false;
	*count = READ_ONCE(ARB_AS(seqcount, lock)->sequence);
	return !(*count & 1);
}

static __always_inline struct mount *arb_mount(struct vfsmount *mnt)
{
	return ARB_AS(mount, (void *)mnt - bpf_core_field_offset(struct mount, mnt));
}

#define ARB_BTRFS_SUPER_MAGIC 0x9123683E
#define ARB_BCACHEFS_SUPER_MAGIC 0xca451a4e

/* False: this file is not one for the cache. now is CLOCK_REALTIME, seconds. A snapshot has files
 * that are the same in all that is compared, with other paths.
 */
static __always_inline bool arb_cache_file(struct arb_cache_file *f, struct vfsmount *mnt,
					   struct dentry *at, __s64 now)
{
	struct dentry *dentry = ARB_AS(dentry, at);
	struct inode *inode = dentry->d_inode;

	if (!mnt || !inode)
		return false;
	if ((inode->i_mode & ARB_S_IFMT) != ARB_S_IFREG || inode->i_nlink != 1 ||
	    inode->i_writecount.counter > 0 || (dentry->d_flags & ARB_DCACHE_OP_REVALIDATE))
		return false;
	if (inode->i_sb->s_magic == ARB_BTRFS_SUPER_MAGIC ||
	    inode->i_sb->s_magic == ARB_BCACHEFS_SUPER_MAGIC)
		return false;
	f->ino = inode->i_ino;
	f->generation = inode->i_generation;
	f->dev = inode->i_sb->s_dev;
	f->ctime_sec = inode->i_ctime_sec;
	f->ctime_nsec = inode->i_ctime_nsec;
	f->mnt = arb_mount(mnt)->mnt_id_unique;
	return f->ctime_sec + ARB_SETTLED_SEC < now;
}

/* False: this is not a question for the cache. */
static __always_inline bool arb_cache_key(struct arb_header *h, struct arb_cache_key *k,
					  struct arb_question *q)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 keep = READ_ONCE(h->keep[q->event & 63]);
	__u64 ns = READ_ONCE(h->heartbeat_ns); /* a clock that costs nothing, 20 ms coarse */
	__s64 now = (ns + READ_ONCE(h->realtime_offset)) / 1000000000;
	struct fs_struct *fs;
	struct dentry *root;
	struct file *exe;

	if (READ_ONCE(h->dead)) /* hooks without a daemon have one verdict for all */
		return false;
	if (!(keep & ARB_FIELD_KEEP) || (q->access & ~(ARB_ACCESS_READ | ARB_ACCESS_EXEC)))
		return false;
	if (!bpf_core_field_exists(struct inode, i_ctime_sec) ||
	    !bpf_core_field_exists(struct mount, mnt_id_unique) ||
	    !bpf_ksym_exists(bpf_rdonly_cast))
		return false;
	if (!arb_sequence(ARB_RENAME_LOCK, &k->renames) ||
	    !arb_sequence(ARB_MOUNT_LOCK, &k->mounts))
		return false;
	if (!arb_cache_file(&k->object, q->mnt, q->dentry, now))
		return false;
	k->epoch = READ_ONCE(h->epoch);
	k->minute = ns >> 36;
	k->event = q->event;
	k->access = q->access;
	fs = ARB_AS(fs_struct, task->fs);
	root = fs->root.dentry;
	k->root_ino = root->d_inode->i_ino;
	k->root_dev = root->d_sb->s_dev;
	k->root_mnt = arb_mount(fs->root.mnt)->mnt_id_unique;
	if (keep & ARB_FIELD_UID) {
		k->uid = task->cred->uid.val;
		k->euid = task->cred->euid.val;
	}
	if (keep & ARB_FIELD_GID) {
		k->gid = task->cred->gid.val;
		k->egid = task->cred->egid.val;
	}
	if (keep & ARB_FIELD_CGROUP)
		k->cgroup = bpf_get_current_cgroup_id();
	if ((keep & ARB_FIELD_TREE) && !arb_marks_of(task, &k->trees))
		return false;
	if (keep & ARB_FIELD_EXE) {
		exe = ARB_AS(mm_struct, task->mm)->exe_file;
		return exe && arb_cache_file(&k->exe, exe->f_path.mnt, exe->f_path.dentry, now);
	}
	return true;
}

/* Was this allowed before, by the same rules and from the same facts? stamp is for
 * arb_keep().
 */
static __noinline bool arb_cached(struct arb_header *h, struct arb_question *q,
				  struct arb_cache_stamp *stamp)
{
	struct arb_cache_key k;

	if (!h || !stamp)
		return false;
	__builtin_memset(&k, 0, sizeof(k));
	if (!arb_cache_key(h, &k, q))
		return false;
	stamp->epoch = k.epoch;
	stamp->mix = arb_cache_mix(&k);
	stamp->renames = k.renames;
	stamp->mounts = k.mounts;
	stamp->valid = 1;
	return bpf_map_lookup_elem(&arb_cache, &k) != NULL;
}

/* Keeps an allow, if nothing has changed since the question. */
static __noinline int arb_keep(struct arb_header *h, struct arb_question *q,
			       struct arb_cache_stamp *stamp)
{
	struct arb_cache_key k;
	__u64 one = 1;

	if (!h || !stamp || !stamp->valid)
		return 0;
	__builtin_memset(&k, 0, sizeof(k));
	if (!arb_cache_key(h, &k, q) || k.epoch != stamp->epoch ||
	    arb_cache_mix(&k) != stamp->mix || k.renames != stamp->renames ||
	    k.mounts != stamp->mounts)
		return 0;
	bpf_map_update_elem(&arb_cache, &k, &one, 0);
	return 0;
}

#endif
