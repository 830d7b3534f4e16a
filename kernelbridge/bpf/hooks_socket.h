/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets. The socket_* hooks are called without a lock, with the kernel's own copy of the
 * address; unix_stream_connect and unix_may_send with the locks of both sockets.
 *
 * Sockets that the kernel makes for itself are not asked about.
 */

#define ARB_AF_UNSPEC 0
#define ARB_AF_UNIX 1
#define ARB_AF_INET 2
#define ARB_AF_INET6 10
#define ARB_UNIX_PATH_OFFSET 2 /* of sun_path in struct sockaddr_un */
#define ARB_UNIX_PATH_BYTES 108

/* Numbers of the socket events, in the order of the catalogue. */
enum {
	ARB_SOCKET_FAMILY,
	ARB_SOCKET_TYPE,
	ARB_SOCKET_PROTOCOL,
	ARB_SOCKET_PORT,
	ARB_SOCKET_ADDR_HIGH,
	ARB_SOCKET_ADDR_LOW,
	ARB_SOCKET_EXTRA,
};

/* ::ffff:a.b.c.d in two words, host byte order. */
static __always_inline void arb_mapped_ipv4(struct arb_question *q, __be32 addr)
{
	q->arg[ARB_SOCKET_ADDR_HIGH] = 0;
	q->arg[ARB_SOCKET_ADDR_LOW] = 0xffff00000000ull | bpf_ntohl(addr);
}

static __always_inline void arb_ipv6(struct arb_question *q, const __u64 addr[2])
{
	q->arg[ARB_SOCKET_ADDR_HIGH] = bpf_be64_to_cpu(addr[0]);
	q->arg[ARB_SOCKET_ADDR_LOW] = bpf_be64_to_cpu(addr[1]);
}

/* An address as user space gave it, in the kernel's copy. */
static __always_inline void arb_address(struct arb_question *q, const void *address, __u32 len)
{
	__u64 in6[2] = {};
	__u16 family = 0, port = 0;
	__be32 in = 0;

	if (len < sizeof(family))
		return;
	bpf_probe_read_kernel(&family, sizeof(family), address);
	/* bind(2) and sendto(2) of an IPv4 socket take an address without a family for one
	 * of theirs; connect(2) dissolves the connection.
	 */
	if (family == ARB_AF_UNSPEC && q->event != ARB_EVENT_CONNECT &&
	    q->arg[ARB_SOCKET_FAMILY] == ARB_AF_INET)
		family = ARB_AF_INET;
	q->arg[ARB_SOCKET_FAMILY] = family;
	if (family == ARB_AF_UNIX) {
		len -= ARB_UNIX_PATH_OFFSET;
		if (len > ARB_UNIX_PATH_BYTES)
			len = ARB_UNIX_PATH_BYTES;
		q->name = address + ARB_UNIX_PATH_OFFSET;
		q->name_len = len;
		return;
	}
	if (family != ARB_AF_INET && family != ARB_AF_INET6)
		return;
	bpf_probe_read_kernel(&port, sizeof(port), address + 2);
	q->arg[ARB_SOCKET_PORT] = bpf_ntohs(port);
	if (family == ARB_AF_INET && len >= 8) {
		bpf_probe_read_kernel(&in, sizeof(in), address + 4);
		arb_mapped_ipv4(q, in);
	} else if (family == ARB_AF_INET6 && len >= 24) {
		bpf_probe_read_kernel(&in6, sizeof(in6), address + 8);
		arb_ipv6(q, in6);
	}
}

/* The address that a socket has. */
static __always_inline void arb_local_address(struct arb_question *q, struct sock *sk)
{
	struct unix_sock *unix_sk = (void *)sk;
	struct unix_address *addr;
	__u64 in6[2] = {};

	switch (q->arg[ARB_SOCKET_FAMILY]) {
	case ARB_AF_INET:
		q->arg[ARB_SOCKET_PORT] = BPF_CORE_READ(sk, __sk_common.skc_num);
		arb_mapped_ipv4(q, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		break;
	case ARB_AF_INET6:
		q->arg[ARB_SOCKET_PORT] = BPF_CORE_READ(sk, __sk_common.skc_num);
		BPF_CORE_READ_INTO(&in6, sk, __sk_common.skc_v6_rcv_saddr);
		arb_ipv6(q, in6);
		break;
	case ARB_AF_UNIX:
		addr = BPF_CORE_READ(unix_sk, addr);
		if (!addr)
			break;
		q->name_len = BPF_CORE_READ(addr, len) - ARB_UNIX_PATH_OFFSET;
		q->name = (void *)addr + bpf_core_field_offset(struct unix_address, name) +
			  ARB_UNIX_PATH_OFFSET;
		break;
	}
}

/* What is known of the socket itself. False: the kernel's own. */
static __always_inline bool arb_socket(struct arb_question *q, struct sock *sk)
{
	q->arg[ARB_SOCKET_FAMILY] = BPF_CORE_READ(sk, __sk_common.skc_family);
	q->arg[ARB_SOCKET_TYPE] = BPF_CORE_READ(sk, sk_type);
	q->arg[ARB_SOCKET_PROTOCOL] = BPF_CORE_READ(sk, sk_protocol);
	return !BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock);
}

SEC("lsm.s/socket_create")
int BPF_PROG(arb_socket_create, int family, int type, int protocol, int kern)
{
	struct arb_question q = {
		.event = ARB_EVENT_SOCKET, .arg = { (__u32)family, (__u32)type, (__u32)protocol },
	};

	if (kern)
		return 0;
	return arb_free_hook(&q);
}

SEC("lsm.s/socket_bind")
int BPF_PROG(arb_socket_bind, struct socket *sock, struct sockaddr *address, int len)
{
	struct arb_question q = { .event = ARB_EVENT_BIND };

	if (!arb_socket(&q, BPF_CORE_READ(sock, sk)))
		return 0;
	arb_address(&q, address, len);
	return arb_free_hook(&q);
}

SEC("lsm.s/socket_connect")
int BPF_PROG(arb_socket_connect, struct socket *sock, struct sockaddr *address, int len)
{
	struct arb_question q = { .event = ARB_EVENT_CONNECT };

	if (!arb_socket(&q, BPF_CORE_READ(sock, sk)))
		return 0;
	arb_address(&q, address, len);
	return arb_free_hook(&q);
}

SEC("lsm.s/socket_listen")
int BPF_PROG(arb_socket_listen, struct socket *sock, int backlog)
{
	struct arb_question q = { .event = ARB_EVENT_LISTEN };

	if (!arb_socket(&q, BPF_CORE_READ(sock, sk)))
		return 0;
	arb_local_address(&q, BPF_CORE_READ(sock, sk));
	q.arg[ARB_SOCKET_EXTRA] = (__u32)backlog;
	return arb_free_hook(&q);
}

SEC("lsm.s/socket_accept")
int BPF_PROG(arb_socket_accept, struct socket *sock, struct socket *newsock)
{
	struct arb_question q = { .event = ARB_EVENT_ACCEPT };

	if (!arb_socket(&q, BPF_CORE_READ(sock, sk)))
		return 0;
	arb_local_address(&q, BPF_CORE_READ(sock, sk));
	return arb_free_hook(&q);
}

SEC("lsm.s/socket_sendmsg")
int BPF_PROG(arb_socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	struct arb_question q = { .event = ARB_EVENT_SENDMSG };
	void *address = BPF_CORE_READ(msg, msg_name);

	/* Without an address it goes where the socket was connected to. */
	if (!address || !arb_socket(&q, BPF_CORE_READ(sock, sk)))
		return 0;
	arb_address(&q, address, BPF_CORE_READ(msg, msg_namelen));
	q.arg[ARB_SOCKET_EXTRA] = (__u32)size;
	return arb_free_hook(&q);
}

static __always_inline int arb_to_unix(struct sock *other)
{
	struct unix_sock *to = (void *)other;
	struct arb_question q = {
		.event = ARB_EVENT_UNIX_CONNECT,
		.mnt = BPF_CORE_READ(to, path.mnt),
		.dentry = BPF_CORE_READ(to, path.dentry),
	};

	return arb_locked_hook(&q);
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(arb_unix_stream_connect, struct sock *sock, struct sock *other, struct sock *newsk)
{
	return arb_to_unix(other);
}

SEC("lsm/unix_may_send")
int BPF_PROG(arb_unix_may_send, struct socket *sock, struct socket *other)
{
	return arb_to_unix(BPF_CORE_READ(other, sk));
}
