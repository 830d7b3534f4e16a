// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Event is the record of one decision. Comm, Exe, Path and Detail are the kernel's
// bytes: chosen by others, perhaps not UTF-8, perhaps with newlines or terminal
// escapes in them. Whoever prints them quotes them.
type Event struct {
	// Seq numbers all events of this engine from 1, those among them that were lost
	// because a worker's journal was full: their numbers are missing before the next
	// event of that worker. A subscriber also misses the numbers of events that its
	// buffer had no room for, and, without SubscribeOptions.Allowed, of plain
	// allowed ones, which are events only while another wants them.
	Seq  uint64
	Time time.Time

	Event   abi.Event
	Access  abi.Access
	Verdict string // "allow", "deny", "audit", or "kill" if that was done
	Errno   uint16 // of the verdict, 0 unless it refuses; fanotify makes EPERM of each

	// Rule is the id of the rule that decided, "default" when none matched,
	// empty when no rule was asked (a failure verdict of the kernel side).
	Rule    string
	Line    int // of the rule in the rule file, 0 for the default
	Message string
	// Epoch and Fingerprint name the rule set.
	Epoch, Fingerprint uint64
	// Reason is why this is a failure verdict, ReasonNone for a decision.
	Reason abi.Reason
	Cached bool
	// Late: the answer came when the requester had given up, so it had no
	// effect; the kernel side gave its failure verdict and records that itself.
	Late bool
	// Latency is the time from the question to the answer.
	Latency time.Duration
	Worker  int // -1 when no worker was involved
	// Asked says how it ended where the rule asks somebody (see Asked), empty otherwise;
	// AnsweredBy is the uid of who has answered.
	Asked      string
	AnsweredBy uint32

	TGID, TID, UID, GID uint32
	StartBoottime       uint64 // nanoseconds
	Comm, Exe, Path     string
	Dev, Ino            uint64
	SHA256              string           // of the object's content, in hex; empty when nobody looked
	Format              abi.Format       // likewise
	Verity              abi.Verity       // likewise
	Scan                abi.Scan         // likewise
	Signature           string           // what the scanner calls what it has found, chosen by who writes signatures
	Attributes          abi.Attributes   // of the object's file
	Size                abi.Size         // likewise
	Detail              string           // the event's second text
	Args                [abi.Args]uint64 // its numbers; kernelbridge/catalogue names them

	// What the decision was made of beside the above: with it the record is the request,
	// as far as a rule can look at it. Question puts it together again.
	EUID, EGID  uint32
	Credentials abi.Credentials          // not known when no rule looks at them
	Flags       uint32                   // abi.Flag*
	Cgroup      [abi.CgroupLevels]uint64 // as in abi.Request
	// InTrees and NotInTrees are the process trees that the subject is in, and those that it is
	// not in, by their programs: of those that the rule set names, and a candidate beside it.
	InTrees, NotInTrees []string
	// Facts are those that this record has; of the others nothing is known. The object has no
	// content where one of abi.ContentFields is among them and what it is about is empty.
	Facts abi.Fields

	postedNS int64 // CLOCK_MONOTONIC
}

// LacksRole reports whether e is an exec of which the role is not known, so that it has no numbers.
func (e *Event) LacksRole() bool {
	return e.Event == abi.EventExec && abi.Role(e.Args[abi.ArgRole]) == abi.RoleUnknown
}
