/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types that the programs read, with CO-RE relocation: a field is
 * found by name in the running kernel's BTF, so only what is read stands here.
 */
#ifndef ARB_KERNEL_H
#define ARB_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef unsigned long size_t;
typedef _Bool bool;
#define true 1
#define false 0

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
	BPF_RB_FORCE_WAKEUP = 1U << 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1U << 0,
};

/* include/linux/fs.h, include/uapi/asm-generic/fcntl.h (x86, arm64) */
#define ARB_FMODE_READ (1u << 0)
#define ARB_FMODE_WRITE (1u << 1)
#define ARB_FMODE_EXEC 0x20u	 /* __FMODE_EXEC, in f_flags: opened by execve */
#define ARB_FMODE_CREATED (1u << 20)
/* The file below an overlayfs file: FMODE_BACKING since 6.12, FMODE_NOACCOUNT on 6.1. */
#define ARB_FMODE_BELOW (1u << 24 | 1u << 29)
#define ARB_O_TRUNC 01000u
#define ARB_O_APPEND 02000u

/* include/linux/sched.h */
#define ARB_PF_EXITING 0x00000004u
#define ARB_PF_FORKNOEXEC 0x00000040u
#define ARB_PF_IO_WORKER 0x00000010u
#define ARB_PF_DUMPCORE 0x00000200u
#define ARB_PF_USER_WORKER 0x00004000u
#define ARB_PF_KTHREAD 0x00200000u

/* include/uapi/asm-generic/errno.h */
#define ARB_EPERM 1
#define ARB_EINTR 4
#define ARB_EACCES 13
#define ARB_ENODEV 19
#define ARB_ENOSYS 38
#define ARB_ENODATA 61

/* include/linux/errno.h: the system call is run again once its task has handled what is
 * pending. Must not be returned when nothing is.
 */
#define ARB_ERESTARTNOINTR 513

/* include/uapi/linux/posix_acl_xattr.h: an ACL as an attribute's value. */
#define ARB_ACL_HEAD_BYTES 4
#define ARB_ACL_ENTRY_BYTES 8

#define ARB_SIGKILL_BIT (1ull << (9 - 1))

/* include/uapi/linux/bpf.h */
struct bpf_task_work {
	__u64 __opaque;
} __attribute__((aligned(8)));

struct bpf_dynptr {
	__u64 opaque[2];
} __attribute__((aligned(8)));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;
typedef struct {
	__u32 val;
} kgid_t;

struct file_system_type {
	const char *name;
};

struct mount;
struct dentry;

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct user_namespace *s_user_ns;
	struct file_system_type *s_type;
	struct dentry *s_root;
	struct mount *s_mounts; /* >= 6.18 */
};

typedef struct {
	int counter;
} atomic_t;

struct inode {
	__u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
	__u32 i_nlink;
	atomic_t i_writecount;
	__s64 i_ctime_sec; /* >= 6.11 */
	__u32 i_ctime_nsec;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct dentry {
	__u32 d_flags;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct mnt_idmap;
struct user_namespace;

struct vfsmount {
	struct dentry *mnt_root;
	struct mnt_idmap *mnt_idmap; /* >= 6.2 */
};

struct vfsmount___userns {
	struct user_namespace *mnt_userns; /* before */
};

struct mnt_namespace;

/* fs/mount.h: the vfsmount that struct path points to is inside of it. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
	__u64 mnt_id_unique; /* >= 6.8 */
	struct mount *mnt_next_for_sb; /* >= 6.18 */
};

struct list_head {
	struct list_head *next;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

/* The cgroups of a task, one per hierarchy. */
struct css_set {
	struct list_head cgrp_links;
};

struct cgrp_cset_link {
	struct cgroup *cgrp;
	struct list_head cgrp_link;
};

/* The mounts of a superblock, before 6.18. */
struct super_block___list {
	struct list_head s_mounts;
};
struct mount___list {
	struct list_head mnt_instance;
};

struct ns_common {
	unsigned int inum;
};

/* Each kind of namespace has its number by that name. */
struct user_namespace {
	struct ns_common ns;
};
struct cgroup_namespace {
	struct ns_common ns;
};
struct ipc_namespace {
	struct ns_common ns;
};
struct mnt_namespace___inum {
	struct ns_common ns;
};
struct net {
	struct ns_common ns;
};
struct uts_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct cgroup_namespace *cgroup_ns;
	struct ipc_namespace *ipc_ns;
	struct net *net_ns;
	struct uts_namespace *uts_ns;
};

struct pid {
	__u32 level; /* 0 in the initial pid namespace */
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	__u32 f_mode;
	__u32 f_flags;
};

struct seqcount {
	__u32 sequence;
};

struct fs_struct {
	struct path root;
};

struct mm_struct {
	struct file *exe_file;
};

struct callback_head {
	struct callback_head *next;
};

struct pt_regs {
	unsigned long orig_ax;
	unsigned long di;
	unsigned long si;
	unsigned long r10;
	unsigned long ip;
	unsigned long sp;
};

/* Its 64 bits have had several names. */
struct arb_capabilities {
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	struct arb_capabilities cap_effective;
	struct user_namespace *user_ns;
};

struct timespec64 {
	__s64 tv_sec;
};

enum bpf_prog_type {
	BPF_PROG_TYPE_UNSPEC,
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	enum bpf_prog_type type;
	struct bpf_prog_aux *aux;
};

struct vm_area_struct {
	unsigned long vm_start;
	struct file *vm_file;
};

struct io_uring_cmd {
	struct file *file;
	__u32 cmd_op;
};

/* include/linux/kernel_read_file.h; kernel_load_data_id has the same numbers. */
enum kernel_read_file_id {
	READING_MODULE = 2,
	READING_MODULE_COMPRESSED = 7, /* >= 6.19 */
};

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	__u16 skc_family;
	__u16 skc_num; /* host byte order */
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u8 sk_kern_sock : 1;
	__u16 sk_type;
	__u16 sk_protocol;
};

struct socket {
	struct sock *sk;
};

struct sockaddr_un {
	__u16 sun_family;
};

struct unix_address {
	int len;
	struct sockaddr_un name[];
};

struct unix_sock {
	struct unix_address *addr;
	struct path path;
};

struct msghdr {
	void *msg_name;
	int msg_namelen;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct filename {
	const char *uptr; /* before 7.0 */
};

struct nameidata {
	struct filename *name;
};

struct task_struct {
	__u32 flags;
	__s32 pid;
	__s32 tgid;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct mm_struct *mm;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct nameidata *nameidata;
	unsigned int in_execve : 1;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
	struct sigpending pending;
	struct callback_head *task_works;
	kuid_t loginuid; /* with CONFIG_AUDIT */
	unsigned int sessionid; /* likewise */
};

struct bpf_map {
	__u32 id;
	enum bpf_map_type map_type;
};

struct posix_acl {
	unsigned int a_count;
};

struct iattr {
	__u32 ia_valid;
};

struct bpf_iter__task {
	struct task_struct *task;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
};

/* What the self-protection reads besides. */
struct task_struct___leader {
	struct task_struct *group_leader;
};

struct mount___shared {
	struct mount___shared *mnt_parent;
	int mnt_id;
	int mnt_group_id; /* 0: not shared */
};

struct signal_struct___live {
	struct {
		int counter;
	} live;
};

struct task_struct___exit {
	struct signal_struct___live *signal;
};

struct user_namespace___level {
	int level;
};

struct cred___ns {
	struct user_namespace___level *user_ns;
};

#pragma clang attribute pop

#endif
