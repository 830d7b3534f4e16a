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

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
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

#define ARB_PF_KTHREAD 0x00200000u	/* include/linux/sched.h */
#define ARB_SIGKILL_BIT (1ull << (9 - 1))

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;
typedef struct {
	__u32 val;
} kgid_t;

struct super_block {
	__u32 s_dev;
};

struct inode {
	__u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
};

struct dentry {
	struct dentry *d_parent;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

/* fs/mount.h: the vfsmount that struct path points to is inside of it. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
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

struct mm_struct {
	struct file *exe_file;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct task_struct {
	__u32 flags;
	__s32 pid;
	__s32 tgid;
	__u64 start_boottime;
	struct mm_struct *mm;
	const struct cred *cred;
	char comm[16];
	struct sigpending pending;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
};

#pragma clang attribute pop

#endif
