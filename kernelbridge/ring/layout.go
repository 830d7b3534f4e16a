// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"structs"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Header mirrors struct arb_header: who writes what stands there. Words that
// change while the ring is in use are read and written with sync/atomic only.
type Header struct {
	_ structs.HostLayout

	Version          uint32
	Slots            uint32
	Workers          uint32 // in use
	DaemonTGID       uint32 // never asked about
	Armed            uint64 // 0: every hook allows at once
	WaitNS           uint64 // bound of the kernel's wait for a verdict
	HeartbeatLimitNS uint64
	Asked            uint64 // bit e: event e is asked about
	RealtimeOffset   int64  // CLOCK_REALTIME - CLOCK_MONOTONIC, ns
	Epoch            uint64 // of the rules; answers to an older one are not used
	SpinNS           uint64 // how long one polls who can wait otherwise afterwards
	SleepNS          uint64 // bound of the wait of who does
	GateStart        uint64 // start of the gate's helper, as in /proc/PID/stat
	GateIno          uint64
	GateDev          uint32
	GatePID          uint32                 // of the gate's helper, 0: there is no gate
	Want             [abi.EventCount]uint32 // abi.Fields to fetch
	Keep             [abi.EventCount]uint32 // those that a kept allow depends on; abi.FieldKeep: may be kept
	Decide           [abi.EventCount]uint16 // the kernel's rules, see DecideCount
	_                [2]uint16
	Scope            uint32
	Watched          uint32                 // somebody wants to be told of plain allows
	GuardTGID        uint32                 // of the daemon's guard, 0: there is none; never asked about
	PeerTGID         uint32                 // of the daemon at the other side of an exchange, 0: there is none; never asked about
	FailErrno        [abi.EventCount]uint16 // failure verdict, 0 allows
	DeadErrno        uint16                 // the failure verdict once the daemon is dead
	_                uint16
	Dead             uint32 // the daemon is; set by the kernel side
	Marks            uint32 // counts what marks of process trees were given to, 0: nothing was
	// The numbers of the host's namespaces; 0: there is but one; NoHostNS: they are not known.
	HostNS [abi.NamespacePID]uint32
	_      [2]uint32

	HeartbeatNS uint64 // CLOCK_MONOTONIC
	_           [7]uint64

	Hot uint64 // bit w: worker w polls
	_   [7]uint64

	Sleeps      uint64 // how often somebody went to sleep at the gate
	GateRefused uint64 // how often somebody was not let in there by another LSM
	_           [6]uint64

	Posted [abi.Slots / 64]uint64 // bit s: slot s was posted

	Pinned [abi.MaxCPUs]uint64 // bit w of entry c: worker w is pinned to CPU c
}

// NoHostNS in Header.HostNS says that the host's namespaces are not known.
const NoHostNS = ^uint32(0)

// In Header.Decide: how many of the kernel's rules there are, shifted by DecideBefore how many of
// them come before the first that looks at the path, and DecideOdd for those of the second half.
const (
	DecideCount  = 1<<6 - 1
	DecideBefore = 6
	DecideOdd    = 1 << 15
)

// Bits of Header.Scope: the dimensions that the scope names; shifted by ScopeMuted those
// that the mute names, by ScopeInverted those of them that are inverted.
const (
	ScopeTrees   = 1 << iota // a target must be in one of the trees
	ScopeCgroups             // the subject must be in one of the cgroups
	ScopeParity              // which bits of an entry's value count
	ScopeUIDs                // the subject's real user id must be in one of the ranges
	ScopeMounted             // a target must be on one of the file systems
	ScopeExes                // the subject's program must be in one of the trees
	ScopeLineage             // the subject must be in one of the process trees

	ScopeMuted    = 8
	ScopeInverted = 16

	ScopeInit     = 1 << 24 // pid 1 is left alone
	ScopeServices = 1 << 25 // so are cgroups of the default mutes
	ScopeCgroup1  = 1 << 26 // cgroups may be of v1
	ScopeCount    = 1 << 27 // from here on: counts changes, so that each is seen
)

// Facts mirrors struct arb_facts.
type Facts struct {
	_ structs.HostLayout

	PostedNS             uint64
	Event, Access, Flags uint32
	TGID, TID            uint32
	UID, GID, EUID, EGID uint32
	Mode                 uint32
	StartBoottime        uint64
	Dev                  uint64
	Ino                  uint64
	Size                 int64
	OwnerUID, OwnerGID   uint32
	Generation           uint32
	PathLen, ExeLen      uint32
	DetailLen            uint32
	Comm                 [16]byte
	Epoch                uint64 // of the rules when it was asked
	Cgroup               [abi.CgroupLevels]uint64
	Arg                  [abi.Args]uint64

	Trees uint64 // marks of the subject's process trees
	Marks uint32 // Header.Marks before they were read, 0: they are not known

	LoginUID       uint32 // of the audit session, ^0: it is not set
	Capabilities   uint64 // the effective ones
	HostNamespaces uint32 // a bit for each kind of namespace that is the host's
	Credentials    uint32 // 1: the last three and the next one are known
	Session        uint32 // of audit, ^0: there is none
	_              uint32
	_              [3]uint64
}

// Slot mirrors struct arb_slot. Word is changed by compare-and-swap from both
// sides; the rest is the requester's, and what a worker reads of it counts only if
// Word is then still POSTED, under the same generation.
type Slot struct {
	_ structs.HostLayout

	Word uint64
	_    [7]uint64

	Facts  Facts
	Path   [abi.PathBytes]byte
	Detail [abi.PathBytes]byte
	Exe    [abi.PathBytes]byte
	_      [abi.NameBytes]byte // room for the kernel's walk from the end of a text to its begin
}
