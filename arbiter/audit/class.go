// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"strconv"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// The classes of OCSF and their activities.
const (
	ClassBase            = 0    // Base Event: OCSF has no class for it
	ClassFile            = 1001 // File System Activity
	ClassKernelExtension = 1002 // Kernel Extension Activity
	ClassKernel          = 1003 // Kernel Activity
	ClassMemory          = 1004 // Memory Activity
	ClassModule          = 1005 // Module Activity
	ClassProcess         = 1007 // Process Activity
	ClassNetwork         = 4001 // Network Activity

	ActivityOther = 99 // of each class; activity_name has the event then

	ActivityCreate        = 1 // of ClassFile
	ActivityRead          = 2
	ActivityUpdate        = 3
	ActivityDelete        = 4
	ActivityRename        = 5
	ActivitySetAttributes = 6
	ActivitySetSecurity   = 7
	ActivityMount         = 12
	ActivityUnmount       = 13
	ActivityOpen          = 14

	ActivityLoad = 1 // of ClassKernelExtension and ClassModule

	ActivityKernelCreate = 1 // of ClassKernel
	ActivityKernelRead   = 2
	ActivityKernelInvoke = 4

	ActivityAllocatePage = 1 // of ClassMemory
	ActivityModifyPage   = 2

	ActivityLaunch      = 1 // of ClassProcess
	ActivityTerminate   = 2
	ActivityOpenProcess = 3
	ActivitySetUserID   = 5

	ActivityOpenConnection = 1 // of ClassNetwork
	ActivityTraffic        = 6
	ActivityListen         = 7
)

// classes says for each event which class and activity its records have.
var classes = [abi.EventCount]struct{ class, activity int }{
	abi.EventOpen: {ClassFile, ActivityOpen}, abi.EventExec: {ClassProcess, ActivityLaunch},
	abi.EventCreate: {ClassFile, ActivityCreate}, abi.EventMkdir: {ClassFile, ActivityCreate}, abi.EventMknod: {ClassFile, ActivityCreate},
	abi.EventSymlink: {ClassFile, ActivityCreate}, abi.EventLink: {ClassFile, ActivityCreate},
	abi.EventUnlink: {ClassFile, ActivityDelete}, abi.EventRmdir: {ClassFile, ActivityDelete}, abi.EventRename: {ClassFile, ActivityRename},
	abi.EventChmod: {ClassFile, ActivitySetSecurity}, abi.EventChown: {ClassFile, ActivitySetSecurity}, abi.EventTruncate: {ClassFile, ActivityUpdate},
	abi.EventSetAttr: {ClassFile, ActivitySetAttributes}, abi.EventSetXattr: {ClassFile, ActivitySetAttributes}, abi.EventRemoveXattr: {ClassFile, ActivitySetAttributes},
	abi.EventMMapExec: {ClassModule, ActivityLoad}, abi.EventMProtectExec: {ClassMemory, ActivityModifyPage},
	abi.EventMount: {ClassFile, ActivityMount}, abi.EventUmount: {ClassFile, ActivityUnmount}, abi.EventRemount: {ClassFile, ActivitySetAttributes},
	abi.EventMoveMount: {ClassFile, ActivityMount}, abi.EventPivotRoot: {ClassFile, ActivityOther}, abi.EventChroot: {ClassFile, ActivityOther},
	abi.EventSocket: {ClassBase, ActivityOther}, // ClassNetwork is about an address
	abi.EventBind:   {ClassNetwork, ActivityOther}, abi.EventConnect: {ClassNetwork, ActivityOpenConnection}, abi.EventListen: {ClassNetwork, ActivityListen},
	abi.EventAccept: {ClassNetwork, ActivityOpenConnection}, abi.EventSendmsg: {ClassNetwork, ActivityTraffic}, abi.EventUnixConnect: {ClassNetwork, ActivityOpenConnection},
	abi.EventSignal: {ClassProcess, ActivityOther}, abi.EventPtrace: {ClassProcess, ActivityOpenProcess},
	abi.EventSetUID: {ClassProcess, ActivitySetUserID}, abi.EventSetGID: {ClassProcess, ActivityOther}, abi.EventCapable: {ClassBase, ActivityOther},
	abi.EventModuleLoad: {ClassKernelExtension, ActivityLoad}, abi.EventReadFile: {ClassFile, ActivityRead},
	abi.EventBPF: {ClassKernel, ActivityKernelInvoke}, abi.EventBPFMap: {ClassKernel, ActivityKernelRead}, abi.EventBPFProg: {ClassKernel, ActivityKernelRead},
	abi.EventUserNSCreate: {ClassKernel, ActivityKernelCreate}, abi.EventSetTime: {ClassKernel, ActivityKernelInvoke}, abi.EventPrctl: {ClassKernel, ActivityKernelInvoke},
	abi.EventReceive: {ClassFile, ActivityOpen}, abi.EventURingOverrideCreds: {ClassBase, ActivityOther}, abi.EventURingSQPoll: {ClassKernel, ActivityKernelCreate},
	abi.EventURingCmd: {ClassFile, ActivityOther}, abi.EventURingAllowed: {ClassKernel, ActivityKernelCreate},
}

// kernelNames are the resources of ClassKernel; the others are system calls of the
// event's name.
var kernelNames = map[abi.Event]string{abi.EventBPFMap: "BPF map", abi.EventBPFProg: "BPF program", abi.EventUserNSCreate: "user namespace",
	abi.EventURingSQPoll: "io_uring", abi.EventURingAllowed: "io_uring"}

// The numbers of Kernel.TypeID.
const (
	KernelSystemCall = 2
	KernelOther      = 99
)

// LoadTypeMapped is Module.LoadTypeID of a file that is mapped.
const LoadTypeMapped = 4

// The numbers of ConnectionInfo.
const (
	DirectionUnknown  = 0
	DirectionInbound  = 1
	DirectionOutbound = 2

	VersionUnknown = 0
	VersionIPv4    = 4
	VersionIPv6    = 6
)

// classify fills in the class of e, its activity, and what it was done to. object is the
// file at the object's path.
func (r *Record) classify(e *arbiter.Event, object File) {
	r.ClassUID, r.ActivityID = ClassBase, ActivityOther
	if e.Event < abi.EventCount && e.Event != abi.EventNone {
		r.ClassUID, r.ActivityID = classes[e.Event].class, classes[e.Event].activity
	}
	placed := true
	switch r.ClassUID {
	case ClassFile:
		r.File = &object
		if e.Event == abi.EventRename || e.Event == abi.EventLink {
			f := newFile(e.Detail)
			r.FileResult = &f
		}
	case ClassProcess:
		r.process(e, object)
	case ClassModule:
		if e.Path == "" { // memory without a file
			r.ClassUID, r.ActivityID = ClassMemory, ActivityAllocatePage
			r.Process = &r.Actor.Process
			break
		}
		r.Module = &Module{File: object, LoadTypeID: LoadTypeMapped}
	case ClassMemory:
		r.Process = &r.Actor.Process
		placed = false
	case ClassKernelExtension:
		r.Driver = &Driver{object}
	case ClassKernel:
		r.Kernel = &Kernel{Name: e.Event.String(), TypeID: KernelSystemCall}
		if name := kernelNames[e.Event]; name != "" {
			*r.Kernel = Kernel{Name: name, TypeID: KernelOther}
		}
		placed = false
	case ClassNetwork:
		r.network(e)
	default:
		placed = false
	}
	if !placed && e.Path != "" {
		r.Unmapped.Path, r.Unmapped.PathB64 = object.Path, object.PathB64
	}
	if r.ActivityID == ActivityOther {
		r.ActivityName = e.Event.String()
	}
	r.CategoryUID = r.ClassUID / 1000
	r.TypeUID = r.ClassUID*100 + r.ActivityID
}

// process fills in the process that something is done to.
func (r *Record) process(e *arbiter.Event, object File) {
	switch e.Event {
	case abi.EventExec:
		r.Process = &Process{PID: e.TGID, UID: r.Actor.Process.UID, File: object}
	case abi.EventSignal, abi.EventPtrace:
		r.Process = &Process{PID: uint32(arg(e, "target_pid")), File: object, User: newID(arg(e, "target_uid"))}
		if s := arg(e, "signal"); e.Event == abi.EventSignal && (s == 9 || s == 15) { // SIGKILL, SIGTERM
			r.ActivityID = ActivityTerminate
		}
	default: // it changes its own ids
		p := r.Actor.Process
		if e.Event == abi.EventSetUID {
			p.User = newID(arg(e, "euid"))
		} else {
			p.Group = newID(arg(e, "egid"))
		}
		r.Process = &p
	}
}

func newID(id uint64) *ID { return &ID{strconv.FormatUint(id, 10)} }

// network fills in the address: where a connection goes, which is here for one that
// comes in.
func (r *Record) network(e *arbiter.Event) {
	r.DstEndpoint = &Endpoint{}
	r.DstEndpoint.Name, r.DstEndpoint.NameB64 = show(e.Path)
	r.ConnectionInfo = &ConnectionInfo{DirectionID: DirectionOutbound, ProtocolNum: int(uint32(arg(e, "protocol")))}
	switch e.Event {
	case abi.EventListen, abi.EventAccept:
		r.ConnectionInfo.DirectionID = DirectionInbound
	case abi.EventBind:
		r.ConnectionInfo.DirectionID = DirectionUnknown
	}
	const inet, inet6 = 2, 10 // AF_INET, AF_INET6
	switch arg(e, "family") {
	case inet:
		r.ConnectionInfo.ProtocolVerID = VersionIPv4
	case inet6:
		r.ConnectionInfo.ProtocolVerID = VersionIPv6
	default:
		return
	}
	r.DstEndpoint.IP = rules.Addr(arg(e, "addr_high"), arg(e, "addr_low")).String()
	r.DstEndpoint.Port = int(uint16(arg(e, "port")))
}

// arg returns an argument of e by its name, 0 when the event has none of that name.
func arg(e *arbiter.Event, name string) uint64 {
	if ev := catalogue.Of(e.Event); ev != nil {
		if i := ev.Arg(name); i >= 0 {
			return e.Args[i]
		}
	}
	return 0
}

// argsOf returns the event's numbers by their names, nil when it has none.
func argsOf(e *arbiter.Event) map[string]uint64 {
	ev := catalogue.Of(e.Event)
	if ev == nil || len(ev.Args) == 0 || e.LacksRole() {
		return nil
	}
	m := make(map[string]uint64, len(ev.Args))
	for i, a := range ev.Args {
		m[a.Name] = e.Args[i]
	}
	return m
}
