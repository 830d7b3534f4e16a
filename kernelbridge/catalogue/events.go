// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// Class says what a hook's caller holds, and with that how one may wait in it.
type Class uint8

// The classes. A hook's class is that of its worst caller.
const (
	// Free: no lock is held that others wait for. The task may sleep up to the
	// rule's deadline.
	Free Class = iota + 1
	// Locked: the caller holds a lock on a directory, an inode or a superblock. The
	// task must not sleep there; it unwinds where the kernel can.
	Locked
	// Atomic: the kernel does not let the program sleep.
	Atomic
	// Void: the hook returns nothing, so it can be told of and not refused.
	Void
)

// Event is what the catalogue says of one event.
type Event struct {
	Event abi.Event
	Doc   string // what is about to happen, for a person
	Class Class
	// Object says what the path is of, empty when the event has none.
	Object string
	// Detail says what the second text is, empty when there is none.
	Detail string
	Access bool // abi.Access is filled in
	Args   []Arg
}

// Arg is one number of an event; Event.Args has them in the order of Request.Arg.
type Arg struct {
	Name string // as rules write it
	Doc  string
}

// Name returns the event's name.
func (e *Event) Name() string { return e.Event.String() }

// Arg returns the index of the argument with that name, -1 when there is none.
func (e *Event) Arg(name string) int {
	for i, a := range e.Args {
		if a.Name == name {
			return i
		}
	}
	return -1
}

var (
	mode   = Arg{"mode", "permission bits and file type, as stat(2) has them"}
	family = Arg{"family", "address family: 1 unix, 2 inet, 10 inet6, 16 netlink"}
	kind   = Arg{"type", "socket type: 1 stream, 2 datagram, 3 raw"}
	proto  = Arg{"protocol", "as in socket(2): 6 TCP, 17 UDP"}
	port   = Arg{"port", "of the address, host byte order; 0 when the family has none"}
	// An IPv4 address is the mapped IPv6 one, ::ffff:a.b.c.d.
	addrHigh = Arg{"addr_high", "first 64 bits of the IPv6 address, an IPv4 one being ::ffff:a.b.c.d"}
	addrLow  = Arg{"addr_low", "last 64 bits"}
	fileKind = Arg{"kind", "what it is for: 0 unknown, 1 firmware, 2 module, 3 kexec image, 4 kexec initramfs, 5 policy, 6 certificate"}
)

// events is the table, in the order of the numbers.
var events = [abi.EventCount]Event{
	abi.EventOpen: {Event: abi.EventOpen, Doc: "a file is opened", Class: Free, Object: "file", Access: true},
	abi.EventExec: {Event: abi.EventExec, Doc: "a file is executed, as a program, a script or an interpreter", Class: Free, Object: "file",
		Args: []Arg{{"role", "1 program, what execve was asked to execute, be it a script; 2 interpreter, what the kernel opens to run that: of a script, of binfmt_misc, or the loader of an ELF file"}}},
	abi.EventCreate: {Event: abi.EventCreate, Doc: "a regular file is created", Class: Locked, Object: "new file", Args: []Arg{mode}},
	abi.EventMkdir:  {Event: abi.EventMkdir, Doc: "a directory is created", Class: Locked, Object: "new directory", Args: []Arg{mode}},
	abi.EventMknod: {Event: abi.EventMknod, Doc: "a device, a fifo or a socket is created", Class: Locked, Object: "new file",
		Args: []Arg{mode, {"device", "number of the device, 0 for a fifo or a socket: major << 20 | minor"}}},
	abi.EventSymlink: {Event: abi.EventSymlink, Doc: "a symbolic link is created", Class: Locked, Object: "new link", Detail: "what the link says"},
	abi.EventLink:    {Event: abi.EventLink, Doc: "a hard link is created", Class: Locked, Object: "existing file", Detail: "path of the new link"},
	abi.EventUnlink:  {Event: abi.EventUnlink, Doc: "a name of a file is removed", Class: Locked, Object: "file"},
	abi.EventRmdir:   {Event: abi.EventRmdir, Doc: "a directory is removed", Class: Locked, Object: "directory"},
	abi.EventRename: {Event: abi.EventRename, Doc: "a file or a directory is renamed", Class: Locked, Object: "file", Detail: "new path",
		Args: []Arg{{"flags", "of renameat2(2): 1 noreplace, 2 exchange, 4 whiteout"}}},
	abi.EventChmod: {Event: abi.EventChmod, Doc: "the mode of a file is changed", Class: Locked, Object: "file", Args: []Arg{mode}},
	abi.EventChown: {Event: abi.EventChown, Doc: "the owner or group of a file is changed", Class: Locked, Object: "file",
		Args: []Arg{{"uid", "new owner, 4294967295 to keep it"}, {"gid", "new group, 4294967295 to keep it"}}},
	abi.EventTruncate: {Event: abi.EventTruncate, Doc: "a file is cut or extended; by O_TRUNC too, behind its open", Class: Locked, Object: "file"},
	abi.EventSetAttr:  {Event: abi.EventSetAttr, Doc: "the times of a file are set", Class: Locked, Object: "file", Args: []Arg{{"valid", "ATTR_ bits of the kernel's struct iattr"}}},
	abi.EventSetXattr: {Event: abi.EventSetXattr, Doc: "an extended attribute is set", Class: Locked, Object: "file", Detail: "name of the attribute",
		Args: []Arg{{"size", "of the value, bytes"}, {"flags", "of setxattr(2): 1 create, 2 replace; of an ACL 0, since 6.2"}}},
	abi.EventRemoveXattr: {Event: abi.EventRemoveXattr, Doc: "an extended attribute is removed", Class: Locked, Object: "file", Detail: "name of the attribute"},
	abi.EventMMapExec: {Event: abi.EventMMapExec, Doc: "memory is mapped executable", Class: Free, Object: "mapped file, if there is one",
		Args: []Arg{{"prot", "of mmap(2)"}, {"flags", "of mmap(2)"}}},
	abi.EventMProtectExec: {Event: abi.EventMProtectExec, Doc: "mapped memory becomes executable", Class: Atomic, Object: "mapped file, if there is one", Args: []Arg{{"prot", "of mprotect(2)"}, {"address", "where the mapping begins"}}},
	abi.EventMount:        {Event: abi.EventMount, Doc: "a file system is mounted, bound or moved by mount(2)", Class: Free, Object: "mount point", Detail: "type of the file system", Args: []Arg{{"flags", "MS_ flags of mount(2)"}}},
	abi.EventUmount:       {Event: abi.EventUmount, Doc: "a file system is unmounted", Class: Free, Object: "mount point", Args: []Arg{{"flags", "of umount2(2)"}}},
	abi.EventRemount:      {Event: abi.EventRemount, Doc: "the options of a file system are changed", Class: Locked, Object: "root of the file system", Detail: "type of the file system"},
	abi.EventMoveMount:    {Event: abi.EventMoveMount, Doc: "a mount is moved, or a new one attached, by move_mount(2)", Class: Atomic, Object: "where to", Detail: "where from"},
	abi.EventPivotRoot:    {Event: abi.EventPivotRoot, Doc: "the root mount is exchanged", Class: Atomic, Object: "new root", Detail: "where the old root goes"},
	abi.EventChroot:       {Event: abi.EventChroot, Doc: "the root directory of the task is changed", Class: Atomic, Object: "new root"},
	abi.EventSocket:       {Event: abi.EventSocket, Doc: "a socket is created", Class: Free, Args: []Arg{family, kind, proto}},
	abi.EventBind:         {Event: abi.EventBind, Doc: "a socket gets a local address", Class: Free, Object: "name of a unix socket, @ first when abstract", Args: []Arg{family, kind, proto, port, addrHigh, addrLow}},
	abi.EventConnect:      {Event: abi.EventConnect, Doc: "a socket is connected", Class: Free, Object: "name of a unix socket, @ first when abstract", Args: []Arg{family, kind, proto, port, addrHigh, addrLow}},
	abi.EventListen: {Event: abi.EventListen, Doc: "a program wants to listen on the address and port of a socket", Class: Free, Object: "name of a unix socket, @ first when abstract",
		Args: []Arg{family, kind, proto, port, addrHigh, addrLow, {"backlog", "of listen(2)"}}},
	abi.EventAccept: {Event: abi.EventAccept, Doc: "a connection is accepted; the address is the local one", Class: Free, Args: []Arg{family, kind, proto, port, addrHigh, addrLow}},
	abi.EventSendmsg: {Event: abi.EventSendmsg, Doc: "a message is sent to an address that it names", Class: Free, Object: "name of a unix socket, @ first when abstract",
		Args: []Arg{family, kind, proto, port, addrHigh, addrLow, {"size", "of the message, bytes"}}},
	abi.EventUnixConnect: {Event: abi.EventUnixConnect, Doc: "a unix socket is connected to another one, or sends it a datagram", Class: Atomic, Object: "file of the other socket, if it has one"},
	abi.EventSignal: {Event: abi.EventSignal, Doc: "a signal is sent to a process", Class: Atomic, Object: "executable of the target",
		Args: []Arg{{"signal", "its number, 0 for a test"}, {"target_pid", "process id in the initial namespace"}, {"target_uid", "its real user id"}}},
	abi.EventPtrace: {Event: abi.EventPtrace, Doc: "a process is attached to, or its memory read or written", Class: Atomic, Object: "executable of the target",
		Args: []Arg{{"mode", "PTRACE_MODE_ bits: 1 read, 2 attach; 0 for PTRACE_TRACEME"}, {"target_pid", "process id in the initial namespace"}, {"target_uid", "its real user id"}}},
	abi.EventSetUID:             {Event: abi.EventSetUID, Doc: "a process changes its user ids", Class: Atomic, Args: []Arg{{"uid", "new real id"}, {"euid", "new effective id"}, {"suid", "new saved id"}}},
	abi.EventSetGID:             {Event: abi.EventSetGID, Doc: "a process changes its group ids", Class: Atomic, Args: []Arg{{"gid", "new real id"}, {"egid", "new effective id"}, {"sgid", "new saved id"}}},
	abi.EventCapable:            {Event: abi.EventCapable, Doc: "a capability is used", Class: Atomic, Args: []Arg{{"capability", "its number, see capabilities(7)"}}},
	abi.EventModuleLoad:         {Event: abi.EventModuleLoad, Doc: "a kernel module is loaded", Class: Free, Object: "file of the module, if there is one", Args: []Arg{fileKind}},
	abi.EventReadFile:           {Event: abi.EventReadFile, Doc: "the kernel reads a file for itself: firmware, kexec image, policy", Class: Free, Object: "file, if there is one", Args: []Arg{fileKind}},
	abi.EventBPF:                {Event: abi.EventBPF, Doc: "bpf(2) is called", Class: Free, Args: []Arg{{"command", "BPF_ command of bpf(2)"}}},
	abi.EventBPFMap:             {Event: abi.EventBPFMap, Doc: "a descriptor of a BPF map is made", Class: Free, Args: []Arg{{"id", "of the map"}, {"type", "BPF_MAP_TYPE_"}, {"mode", "1 read, 2 write"}}},
	abi.EventBPFProg:            {Event: abi.EventBPFProg, Doc: "a descriptor of a BPF program is made", Class: Free, Args: []Arg{{"id", "of the program"}, {"type", "BPF_PROG_TYPE_"}}},
	abi.EventUserNSCreate:       {Event: abi.EventUserNSCreate, Doc: "a user namespace is created", Class: Free},
	abi.EventSetTime:            {Event: abi.EventSetTime, Doc: "the clock or the time zone is set", Class: Free, Args: []Arg{{"seconds", "new time, since 1970; 0 when only the zone is set"}}},
	abi.EventPrctl:              {Event: abi.EventPrctl, Doc: "prctl(2) is called", Class: Free, Args: []Arg{{"option", "PR_ option"}, {"arg2", "as in prctl(2)"}, {"arg3", "as in prctl(2)"}, {"arg4", "as in prctl(2)"}, {"arg5", "as in prctl(2)"}}},
	abi.EventReceive:            {Event: abi.EventReceive, Doc: "an open file arrives from another process", Class: Free, Object: "file"},
	abi.EventURingOverrideCreds: {Event: abi.EventURingOverrideCreds, Doc: "an io_uring request runs with other credentials", Class: Atomic, Args: []Arg{{"uid", "of the credentials"}, {"euid", "of the credentials"}}},
	abi.EventURingSQPoll:        {Event: abi.EventURingSQPoll, Doc: "an io_uring with a polling kernel thread is set up", Class: Atomic},
	abi.EventURingCmd:           {Event: abi.EventURingCmd, Doc: "an io_uring command is issued to a file's driver", Class: Atomic, Object: "file", Args: []Arg{{"command", "of the driver"}}},
	abi.EventURingAllowed:       {Event: abi.EventURingAllowed, Doc: "an io_uring is set up", Class: Atomic},
}

// Of returns what the catalogue says of an event. The result is shared: do not change
// it. It is nil for EventNone and for numbers that are no event.
func Of(e abi.Event) *Event {
	if e == abi.EventNone || e >= abi.EventCount {
		return nil
	}
	ev := &events[e]
	return ev
}
