// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What sees to hooks that outlive their daemon (survive: closed); pinned like those:
 *
 *   sched_process_exit  the daemon's last thread ends: nobody will answer any more
 *   path_mknod          root makes the break-glass file: hooks without a daemon allow
 *                       everything from then on
 *
 * Neither waits.
 */
#include "arb_kernel.h"
#include "arb_abi.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* As in arb_ring.h: the daemon gives the one of its queue. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_header);
} arb_header SEC(".maps");

struct arb_glass_file {
	__u64 dev;
	__u64 ino; /* of the directory */
	char name[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arb_glass_file);
} arb_glass SEC(".maps");

SEC("tp_btf/sched_process_exit")
int BPF_PROG(arb_exit, struct task_struct *task)
{
	struct task_struct___exit *t = (void *)task;
	__u32 zero = 0;
	struct arb_header *h = bpf_map_lookup_elem(&arb_header, &zero);

	if (!h || BPF_CORE_READ(task, tgid) != h->daemon_tgid ||
	    BPF_CORE_READ(t, signal, live.counter))
		return 0;
	h->dead = 1;
	/* The numbers will be others' soon. */
	h->daemon_tgid = 0;
	h->guard_tgid = 0;
	h->peer_tgid = 0;
	h->gate_pid = 0;
	return 0;
}

SEC("lsm/path_mknod")
int BPF_PROG(arb_break_glass, const struct path *dir, struct dentry *dentry, unsigned short mode,
	     unsigned int dev)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 zero = 0;
	struct arb_header *h = bpf_map_lookup_elem(&arb_header, &zero);
	struct arb_glass_file *g = bpf_map_lookup_elem(&arb_glass, &zero);
	struct dentry *at = BPF_CORE_READ(dir, dentry);
	struct cred___ns *cred;
	char name[64] = {};
	int i;

	if (!h || !g || !h->dead)
		return 0;
	cred = (void *)BPF_CORE_READ(task, cred);
	if ((__u32)bpf_get_current_uid_gid() || BPF_CORE_READ(cred, user_ns, level))
		return 0;
	if (BPF_CORE_READ(at, d_sb, s_dev) != g->dev || BPF_CORE_READ(at, d_inode, i_ino) != g->ino)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	for (i = 0; i < 64; i++)
		if (name[i] != g->name[i])
			return 0;
	h->armed = 0;
	return 0;
}
