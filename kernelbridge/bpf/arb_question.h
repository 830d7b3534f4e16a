/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A question before it has a slot. */
#ifndef ARB_QUESTION_H
#define ARB_QUESTION_H

#include "arb_ring.h"

/* Pointers are the kernel's and only ever read with
 * bpf_probe_read_kernel.
 */
struct arb_question {
	__u32 event;
	__u32 access;
	/* The object, and where it was reached; mnt NULL: by its file system. */
	struct vfsmount *mnt;
	struct dentry *dentry;
	/* The second text: a path, or a string. */
	struct vfsmount *detail_mnt;
	struct dentry *detail_dentry;
	const char *detail;
	/* The object's name when it is not a path: of an AF_UNIX address. */
	const char *name;
	__u32 name_len;
	/* The scope asks for the subject, though there is an object: it is a process. */
	__u32 object_is_process;
	__u64 arg[ARB_ARGS];
};

#endif
