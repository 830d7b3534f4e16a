// SPDX-License-Identifier: Apache-2.0

// Package abi holds the words that the kernel side and the Go side share: the
// slot word, the events, the reasons of a failure verdict, and the facts of
// one request. It is the hand-written mirror of bpf/arb_abi.h and a leaf: both
// sides can speak the words without sharing anything else.
package abi

// Version is written into the ring header by the side that creates it and
// checked by the side that maps it. It changes with every layout change.
const Version = 9

const (
	// Slots is the number of requests that can be open at once.
	Slots = 1024
	// PathBytes bounds a path, its terminating NUL included (PATH_MAX).
	PathBytes = 4096
	// CgroupLevels is how many ancestors of the subject's cgroup v2 are carried,
	// the root (level 0) left out.
	CgroupLevels = 8
	// Args is how many numbers an event can carry beside its texts.
	Args = 8
	// NameBytes bounds one component of a path, its NUL included (NAME_MAX).
	NameBytes = 256
	// MaxHeld is how many requests one worker can hold beside the one at hand.
	MaxHeld = 128
	// MaxWorkers is the number of workers that one ring serves.
	MaxWorkers = 64
	// MaxCPUs is how many CPUs the ring knows by number. Where a worker is pinned
	// beyond that the requesters do not know.
	MaxCPUs = 1024
	// MaxErrno is the largest errno that a verdict can carry: the kernel's
	// MAX_ERRNO. Rules are limited further, see package rules.
	MaxErrno = 4095
)

// Access is what an open asks for, a set of bits.
type Access uint32

// The bits of an Access. Read and Write are the kernel's FMODE_READ and
// FMODE_WRITE. An exec carries AccessExec alone.
const (
	AccessRead  Access = 1 << iota // FMODE_READ
	AccessWrite                    // FMODE_WRITE
	AccessExec
	AccessAppend   // O_APPEND
	AccessTruncate // O_TRUNC
	AccessCreated  // the file was created by this open
)

// Role is what a file is to the exec that opens it: Request.Arg[ArgRole] of an exec.
type Role uint64

// ArgRole is where the role is among the numbers of an exec.
const ArgRole = 0

// The roles.
const (
	RoleUnknown     Role = iota // the kernel side cannot tell
	RoleProgram                 // what execve was asked to execute, be it a script
	RoleInterpreter             // what the kernel opens to run that: of a script, of binfmt_misc, of an ELF file
)

// LacksRole reports whether r is an exec of which the role is not known.
//
//go:nosplit
func (r *Request) LacksRole() bool {
	return r.Event == EventExec && Role(r.Arg[ArgRole]) == RoleUnknown
}

// Reason says why a request got its failure verdict instead of a decision. Each
// one has a counter and is a metric label.
type Reason uint32

// The reasons, in the order of bridge.md section 4.
const (
	ReasonNone              Reason = iota
	ReasonNoWorker                 // nobody there, or only on the requester's own CPU
	ReasonRingFull                 // every slot was in use
	ReasonDeadline                 // the wait reached its bound
	ReasonInterrupted              // the held task was killed
	ReasonGateDead                 // the sleep gate went away during the wait
	ReasonUnsupportedCaller        // the caller can neither sleep nor restart
	ReasonFactsTruncated           // a path did not fit, so no rule can be trusted on it
	ReasonWorkerError              // the worker could not decide
	// KernelReasons is how many of them a kernel side can give; the others are workers' alone.
	KernelReasons
)

// Reasons of workers alone.
const (
	ReasonNoDigest = KernelReasons + iota // the content of the object could not be had
	ReasonNoScan                          // the object could not be scanned
	ReasonCount
)

var reasonNames = [ReasonCount]string{"none", "no_worker", "ring_full", "deadline", "interrupted",
	"gate_dead", "unsupported_caller", "facts_truncated", "worker_error", "no_digest", "no_scan"}

// String returns the reason as metrics and events write it.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Fields is a set of facts, a bit each: what a rule set consults, so that the
// kernel side fetches nothing else and the cache is keyed by nothing else.
type Fields uint32

// The facts that can be consulted.
const (
	FieldPath Fields = 1 << iota
	FieldExe
	FieldUID
	FieldGID
	FieldCgroup
	FieldAccess
	FieldDetail
	FieldArgs
	FieldDigest
	// FieldTree are the process trees that the subject is in.
	FieldTree
	FieldFormat
	// FieldVerity is the fs-verity digest of the object.
	FieldVerity
	// FieldAttributes are the owner, the group and the mode of the object's file.
	FieldAttributes
	// FieldCredentials are the login uid, the audit session, the effective capabilities, and which
	// namespaces are the host's.
	FieldCredentials
	// FieldScan is what a scanner says of the object.
	FieldScan
	// FieldSize is the size of the object's file.
	FieldSize
	// FieldKeep says that the kernel side may keep allows of the event.
	FieldKeep Fields = 1 << 31
	// Keepable are those that the kernel side can tell from each other by itself: it may keep
	// allows of events of which no other is consulted. Attributes do not change but with the
	// time of the last change. A size does: who writes sets the time first, and may take long to
	// write.
	Keepable = FieldPath | FieldExe | FieldUID | FieldGID | FieldCgroup | FieldAccess | FieldTree | FieldAttributes
	// ContentFields are those that no kernel side has: workers have the content looked at.
	ContentFields = FieldDigest | FieldFormat | FieldVerity | FieldScan
)

// Flags of a Request.
const (
	// FlagPathTruncated: the object's path is unknown or longer than PathBytes-1.
	FlagPathTruncated uint32 = 1 << iota
	// FlagNoExe: the subject has no executable (a kernel thread), or its path
	// was not fetched or did not fit.
	FlagNoExe
	// FlagNoObject: the event has no object with a path, or this one has none (a
	// memory mapping without a file, an unnamed socket).
	FlagNoObject
	// FlagDetailTruncated: the second text did not fit.
	FlagDetailTruncated
	// FlagDigest: Digest is that of the object. No source sets it.
	FlagDigest uint32 = 1 << 31
	// FlagNoContent: see SetNoContent. No source sets it.
	FlagNoContent uint32 = 1 << 30
)

// Verdict is the answer to a request: zero allows it.
type Verdict struct {
	// Errno is what the system call returns when it is refused, 0 to allow.
	Errno uint16
	// Keep lets the kernel side give this allow again by itself, as long as the rules
	// and all facts that they consult are the same.
	Keep bool
}

// Allowed reports whether the request goes on.
func (v Verdict) Allowed() bool { return v.Errno == 0 }

// Request is one question with its facts, in memory that one worker owns: the
// source overwrites it with the next question. Path and exe are bytes chosen by
// others, never text to print raw.
type Request struct {
	// Ticket identifies the open question to the source that issued it.
	Ticket uint64
	// Word is the slot word at the time the worker took it (sources without
	// slots leave it alone).
	Word Word
	// PostedNS is when the question was asked, CLOCK_MONOTONIC nanoseconds.
	PostedNS int64

	Event  Event
	Access Access
	Flags  uint32
	// Have are the facts that the source has looked for. One that is not among them is
	// not known; one that is, and is empty, is known to be empty.
	Have Fields

	TGID, TID     uint32 // init pid namespace
	StartBoottime uint64 // nanoseconds; with TGID a key that is never reused
	UID, GID      uint32 // real ids
	EUID, EGID    uint32

	Dev, Ino           uint64
	Size               Size // of what is a regular file
	Mode               uint32
	OwnerUID, OwnerGID uint32
	Generation         uint32

	// Cgroup holds the ids of the subject's cgroup v2 and its ancestors, level 1
	// first, 0 behind the last. Filled only when FieldCgroup is consulted.
	Cgroup [CgroupLevels]uint64

	// Trees are the marks of the process trees that the subject is in, a bit each, and Marks
	// counts the changes of what bits mean: those that were given at a count have their
	// meaning in every later one for as long as a rule set is in force that looks at them. 0:
	// nobody has looked, and Trees says nothing. Filled only when FieldTree is consulted.
	Trees uint64
	Marks uint32

	// Credentials of the subject. Filled only when FieldCredentials is consulted.
	Credentials Credentials

	Comm [16]byte // as the task wrote it: never an identity

	// Arg holds the event's numbers: see the catalogue for what they are.
	Arg [Args]uint64

	// File is a descriptor of the object, open for reading until the answer. Only sources
	// that have one set it.
	File int32

	// What was found out about the object's content. A source calls ForgetContent.
	Format    Format
	Verity    Verity
	Scan      Scan
	Signature [SignatureBytes]byte // what the scanner calls what it has found, NUL behind it; of ScanInfected only
	Digest    [32]byte             // SHA-256, with FlagDigest only

	PathLen, DetailLen, ExeLen uint32 // bytes in use below, without NUL
	PathBuf                    [PathBytes]byte
	DetailBuf                  [PathBytes]byte
	ExeBuf                     [PathBytes]byte
}

// Path returns the object's path; it is valid until the next question.
func (r *Request) Path() []byte { return r.PathBuf[:r.PathLen] }

// Detail returns the event's second text: see the catalogue for what it is. It is
// valid until the next question.
func (r *Request) Detail() []byte { return r.DetailBuf[:r.DetailLen] }

// Exe returns the path of the subject's executable; valid until the next question.
func (r *Request) Exe() []byte { return r.ExeBuf[:r.ExeLen] }
