// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// eventFacts says what there is to match on in an event. A matcher on something
// that the event does not have is an impossible combination and refused.
type eventFacts struct {
	event                   abi.Event
	object, subject, access bool
}

// catalogue is the table of the events that rules can be about, by name.
type catalogue map[string]eventFacts

// available is the catalogue of this version.
var available = catalogue{
	"exec": {event: abi.EventExec, object: true, subject: true},
	"open": {event: abi.EventOpen, object: true, subject: true, access: true},
}

func (c catalogue) names() []string { return slices.Sorted(maps.Keys(c)) }

// later holds the names of the rest of the LSM hook catalogue: a rule about one
// of them is not a typing error, it is early.
var later = map[string]bool{
	"create": true, "link": true, "unlink": true, "symlink": true, "mkdir": true, "rmdir": true, "mknod": true,
	"rename": true, "readlink": true, "truncate": true, "chmod": true, "chown": true, "chroot": true, "getattr": true,
	"setattr": true, "getxattr": true, "setxattr": true, "listxattr": true, "removexattr": true, "permission": true,
	"ioctl": true, "fcntl": true, "lock": true, "mmap": true, "mprotect": true, "receive": true, "read": true,
	"write": true, "socket": true, "socketpair": true, "bind": true, "connect": true, "listen": true, "accept": true,
	"sendmsg": true, "recvmsg": true, "shutdown": true, "setsockopt": true, "getsockopt": true, "unix_connect": true,
	"mount": true, "umount": true, "remount": true, "move_mount": true, "pivot_root": true, "statfs": true,
	"quotactl": true, "ptrace": true, "signal": true, "kill": true, "fork": true, "clone": true, "exit": true,
	"setuid": true, "setgid": true, "setgroups": true, "setnice": true, "setrlimit": true, "setscheduler": true,
	"prctl": true, "capable": true, "capset": true, "userns_create": true, "bpf": true, "bpf_map": true,
	"bpf_prog": true, "perf_event": true, "io_uring": true, "module_load": true, "firmware_load": true, "kexec": true,
	"read_file": true, "load_data": true, "lockdown": true, "syslog": true, "settime": true, "key": true, "ipc": true,
	"shm": true, "msg": true, "sem": true, "binder": true, "netlink": true,
}
