// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

const (
	aboutSocket = "reads what describes a socket and changes nothing"
	socketOpts  = "no event in this version, and a hot path: options of sockets"
	ipsec       = "labels of IPsec, nothing is decided without them"
	sctp        = "no event in this version: SCTP's own calls"
)

// netHooks are about sockets and what passes through them.
var netHooks = []Hook{
	{"socket_create", Free, on(abi.EventSocket), 0, ""},
	{"socket_bind", Free, on(abi.EventBind), 0, ""},
	{"socket_connect", Free, on(abi.EventConnect), 0, ""},
	{"socket_listen", Free, on(abi.EventListen), 0, ""},
	{"socket_accept", Free, on(abi.EventAccept), 0, ""},
	{"socket_sendmsg", Free, on(abi.EventSendmsg), 0, "only for a message that names its receiver"},
	{"unix_stream_connect", Atomic, on(abi.EventUnixConnect), RestartAll, ""},
	{"unix_may_send", Atomic, on(abi.EventUnixConnect), RestartSome, "not behind the first message of sendmmsg(2), which tells how many it has sent"},
	{"unix_find", Atomic, nil, 0, "asked about at socket_connect and unix_stream_connect"},
	{"socket_post_create", Free, nil, 0, "asked about before, at socket_create"},
	{"socket_socketpair", Free, nil, 0, "asked about before, at socket_create; both ends belong to the task"},
	{"socket_recvmsg", Free, nil, 0, "called for each message; asked about at socket_accept and socket_connect"},
	{"socket_getsockname", Free, nil, 0, aboutSocket},
	{"socket_getpeername", Free, nil, 0, aboutSocket},
	{"socket_getsockopt", Free, nil, 0, socketOpts},
	{"socket_setsockopt", Atomic, nil, 0, socketOpts},
	{"socket_shutdown", Free, nil, 0, "the task gives up what it has"},
	{"socket_sock_rcv_skb", Atomic, nil, 0, packet},
	{"socket_getpeersec_stream", Atomic, nil, 0, labels},
	{"socket_getpeersec_dgram", Free, nil, 0, labels},
	{"netlink_send", Free, nil, 0, "no event in this version: netlink; what changes the system needs a capability, whose use is capable"},
	{"inet_conn_request", Atomic, nil, 0, packet},
	{"inet_csk_clone", Void, nil, 0, packet},
	{"inet_conn_established", Void, nil, 0, packet},
	{"req_classify_flow", Void, nil, 0, packet},
	{"secmark_relabel_packet", Atomic, nil, 0, labels},
	{"secmark_refcount_inc", Void, nil, 0, labels},
	{"secmark_refcount_dec", Void, nil, 0, labels},
	{"sk_alloc_security", Atomic, nil, 0, lifetime},
	{"sk_free_security", Void, nil, 0, lifetime},
	{"sk_clone_security", Void, nil, 0, lifetime},
	{"sk_getsecid", Void, nil, 0, labels},
	{"sock_graft", Void, nil, 0, labels},
	{"mptcp_add_subflow", Atomic, nil, 0, "one more flow of a connection that was asked about"},
	{"sctp_assoc_request", Atomic, nil, 0, packet},
	{"sctp_assoc_established", Atomic, nil, 0, packet},
	{"sctp_bind_connect", Atomic, nil, 0, sctp},
	{"sctp_sk_clone", Void, nil, 0, packet},
	{"tun_dev_create", Atomic, nil, 0, tunnel},
	{"tun_dev_attach", Atomic, nil, 0, tunnel},
	{"tun_dev_attach_queue", Atomic, nil, 0, tunnel},
	{"tun_dev_open", Atomic, nil, 0, tunnel},
	{"tun_dev_alloc_security", Atomic, nil, 0, lifetime},
	{"tun_dev_free_security", Void, nil, 0, lifetime},
	{"ib_pkey_access", Atomic, nil, 0, infini},
	{"ib_endport_manage_subnet", Atomic, nil, 0, infini},
	{"ib_alloc_security", Atomic, nil, 0, lifetime},
	{"ib_free_security", Void, nil, 0, lifetime},
	{"xfrm_policy_alloc_security", Atomic, nil, 0, ipsec},
	{"xfrm_policy_clone_security", Atomic, nil, 0, ipsec},
	{"xfrm_policy_free_security", Void, nil, 0, ipsec},
	{"xfrm_policy_delete_security", Atomic, nil, 0, ipsec},
	{"xfrm_policy_lookup", Atomic, nil, 0, ipsec},
	{"xfrm_state_alloc", Atomic, nil, 0, ipsec},
	{"xfrm_state_alloc_acquire", Atomic, nil, 0, ipsec},
	{"xfrm_state_free_security", Void, nil, 0, ipsec},
	{"xfrm_state_delete_security", Atomic, nil, 0, ipsec},
	{"xfrm_state_pol_flow_match", Atomic, nil, 0, ipsec},
	{"xfrm_decode_session", Atomic, nil, 0, refused},
}
