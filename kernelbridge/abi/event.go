// SPDX-License-Identifier: Apache-2.0

package abi

// Event says which question is asked. The zero value is no event.
type Event uint32

// The events that can be asked, with the LSM hooks that ask. The numbers are part of
// the ABI and never reused.
const (
	EventNone               Event = iota
	EventOpen                     // file_open: a file is about to be opened
	EventExec                     // file_open, bprm_creds_for_exec, bprm_check_security: a file is about to be executed
	EventCreate                   // path_mknod: a regular file is about to be created
	EventMkdir                    // path_mkdir
	EventMknod                    // path_mknod: a device, a fifo or a socket is about to be made
	EventSymlink                  // path_symlink
	EventLink                     // path_link
	EventUnlink                   // path_unlink
	EventRmdir                    // path_rmdir
	EventRename                   // path_rename
	EventChmod                    // path_chmod
	EventChown                    // path_chown
	EventTruncate                 // path_truncate, file_truncate
	EventSetAttr                  // inode_setattr: times are about to be set
	EventSetXattr                 // inode_setxattr, inode_set_acl
	EventRemoveXattr              // inode_removexattr, inode_remove_acl
	EventMMapExec                 // mmap_file: a file is about to be mapped executable
	EventMProtectExec             // file_mprotect: mapped memory is about to become executable
	EventMount                    // sb_mount
	EventUmount                   // sb_umount
	EventRemount                  // sb_remount
	EventMoveMount                // move_mount
	EventPivotRoot                // sb_pivotroot
	EventChroot                   // path_chroot
	EventSocket                   // socket_create
	EventBind                     // socket_bind
	EventConnect                  // socket_connect
	EventListen                   // socket_listen
	EventAccept                   // socket_accept
	EventSendmsg                  // socket_sendmsg
	EventUnixConnect              // unix_stream_connect, unix_may_send
	EventSignal                   // task_kill
	EventPtrace                   // ptrace_access_check, ptrace_traceme
	EventSetUID                   // task_fix_setuid
	EventSetGID                   // task_fix_setgid
	EventCapable                  // capable
	EventModuleLoad               // kernel_read_file, kernel_load_data
	EventReadFile                 // kernel_read_file, kernel_load_data: firmware, kexec, policy
	EventBPF                      // bpf
	EventBPFMap                   // bpf_map
	EventBPFProg                  // bpf_prog
	EventUserNSCreate             // userns_create
	EventSetTime                  // settime
	EventPrctl                    // task_prctl
	EventReceive                  // file_receive: a file is about to arrive over a unix socket
	EventURingOverrideCreds       // uring_override_creds
	EventURingSQPoll              // uring_sqpoll
	EventURingCmd                 // uring_cmd
	EventURingAllowed             // uring_allowed
	EventCount
)

var eventNames = [EventCount]string{
	"none",
	"open", "exec", "create", "mkdir", "mknod", "symlink",
	"link", "unlink", "rmdir", "rename", "chmod", "chown",
	"truncate", "setattr", "setxattr", "removexattr", "mmap_exec", "mprotect_exec",
	"mount", "umount", "remount", "move_mount", "pivot_root", "chroot",
	"socket", "bind", "connect", "listen", "accept", "sendmsg",
	"unix_connect", "signal", "ptrace", "setuid", "setgid", "capable",
	"module_load", "read_file", "bpf", "bpf_map", "bpf_prog", "userns_create",
	"settime", "prctl", "receive", "uring_override_creds", "uring_sqpoll", "uring_cmd",
	"uring_allowed",
}

// String returns the event's name as rules and events write it.
func (e Event) String() string {
	if e < EventCount {
		return eventNames[e]
	}
	return "unknown"
}

// ParseEvent returns the event with that name, false when there is none.
func ParseEvent(name string) (Event, bool) {
	for e := EventOpen; e < EventCount; e++ {
		if eventNames[e] == name {
			return e, true
		}
	}
	return EventNone, false
}
