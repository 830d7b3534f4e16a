// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

const (
	noDevices = "devices come and go in the kernel, without a hook"
	netFilter = "no hook of its own: the use of CAP_NET_ADMIN (12)"
	reboots   = "no hook of its own: the use of CAP_SYS_BOOT (22)"
	mapCalls  = "the call bpf(2); what BPF programs do with maps has no hook"
)

var esf = [...]Foreign{
	{"PROCESS_TRACE", on(abi.EventPtrace), ""},
	{"PROCESS_SIGNAL", on(abi.EventSignal), ""},
	{"PROCESS_MAP_EXEC", on(abi.EventMMapExec, abi.EventMProtectExec), ""},
	{"PROCESS_EXITED", nil, "a task has ended, which cannot be refused"},
	{"PROCESS_EXECUTION", on(abi.EventExec), ""},
	{"PROCESS_CREATED", nil, "no event in this version: called for each thread, and what a new process executes is asked about"},
	{"PROCESS_CRASHED", nil, "the kernel ends a task that went wrong, without a hook"},
	{"PROCESS_CHUID", on(abi.EventSetUID), ""},
	{"PROCESS_CHGID", on(abi.EventSetGID), "not the supplementary groups"},

	{"FILE_CREATE", on(abi.EventCreate, abi.EventMkdir, abi.EventMknod), ""},
	{"FILE_REMOVE", on(abi.EventUnlink, abi.EventRmdir), ""},
	{"FILE_MOVE", on(abi.EventRename), ""},
	{"FILE_OPEN", on(abi.EventOpen), ""},
	{"FILE_MODIFY", on(abi.EventOpen), "decided when the file is opened for writing"},
	{"FILE_EXEC", on(abi.EventExec), ""},
	{"FILE_TRUNCATE", on(abi.EventTruncate), "with O_TRUNC it is an open"},
	{"FILE_READ", on(abi.EventOpen), "decided when the file is opened for reading"},
	{"FILE_ACCESS", nil, "whether an access would be allowed, as access(2) asks; decided when it is made"},
	{"FILE_CLOSED", nil, "a file is closed, which cannot be refused"},
	{"FILE_INODE_CHECK_PERM", on(abi.EventOpen), "the PoC asks at inode_permission for opens alone; the hook is called under RCU too"},

	{"FS_MOUNT", on(abi.EventMount, abi.EventRemount, abi.EventMoveMount), ""},
	{"FS_UMOUNT", on(abi.EventUmount), ""},
	{"FS_LINK_CREATE", on(abi.EventSymlink, abi.EventLink), ""},
	{"FS_LINK_REMOVE", on(abi.EventUnlink), ""},
	{"FS_FILE_CHOWN", on(abi.EventChown), ""},
	{"FS_FILE_CHATTR", on(abi.EventChmod, abi.EventSetAttr), "not the flags that chattr(1) sets"},
	{"FS_FILE_CHXATTR", on(abi.EventSetXattr, abi.EventRemoveXattr), ""},

	{"NET_CONN_ESTABLISHED", on(abi.EventConnect, abi.EventAccept), "asked before; that it is established comes with a packet, where no task can be held"},
	{"NET_DOMAIN_RESOLVED", nil, "names are resolved by programs; the kernel sees a connect or sendmsg to port 53"},
	{"NET_SOCKET_CREATED", on(abi.EventSocket), ""},
	{"NET_SOCKET_RECV", on(abi.EventConnect, abi.EventAccept), "decided for the connection, not for each message"},
	{"NET_SOCKET_SEND", on(abi.EventConnect, abi.EventSendmsg), "decided for the connection; for a message that names its receiver by itself"},
	{"NET_TUN_CREATE", on(abi.EventCapable), netFilter},
	{"NET_TUN_CLOSE", nil, "a file is closed, which cannot be refused"},
	{"NET_NF_CONF_CHANGED", on(abi.EventCapable), netFilter},
	{"NET_NF_CONF_RULE_ADD", on(abi.EventCapable), netFilter},
	{"NET_NF_CONF_RULE_REMOVE", on(abi.EventCapable), netFilter},

	{"HW_DEVICE_ADD", nil, noDevices},
	{"HW_DEVICE_REMOVE", nil, noDevices},
	{"HW_DEVICE_SOFT_REMOVE", nil, noDevices},

	{"KERN_BPF_PROG_LOAD", on(abi.EventBPF), "command 5"},
	{"KERN_BPF_PROG_UNLOAD", nil, "a program goes with its last user, which cannot be refused"},
	{"KERN_BPF_MAP_LOOKUP_ELEM", on(abi.EventBPF), mapCalls},
	{"KERN_BPF_MAP_UPDATE_ELEM", on(abi.EventBPF), mapCalls},
	{"KERN_BPF_MAP_REMOVE_ELEM", on(abi.EventBPF), mapCalls},
	{"KERN_MOD_LOAD", on(abi.EventModuleLoad), ""},
	{"KERN_MOD_UNLOAD", on(abi.EventCapable), "no hook of its own: the use of CAP_SYS_MODULE (16)"},
	{"KERN_SHUTDOWN", on(abi.EventCapable), reboots},
	{"KERN_REBOOT", on(abi.EventCapable), reboots},
}
