// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Limits of a rule file. They bound what one push can cost, and the last two
// what the kernel can ever present or a person read.
const (
	// MaxFileBytes is the largest rule file.
	MaxFileBytes = 256 << 20
	// MaxRules is the largest number of rules in a file.
	MaxRules = 1_000_000
	// MaxPatternBytes is the longest path or pattern: PATH_MAX without its NUL.
	MaxPatternBytes = abi.PathBytes - 1
	// MaxMessageBytes is the longest message of a rule, and MaxNoteBytes the longest of its
	// other notes.
	MaxMessageBytes = 1 << 10
	MaxNoteBytes    = 256
)

// The deadline that a file may ask for, and the one it has when it does not ask.
const (
	DefaultDeadline = time.Second
	MinDeadline     = time.Millisecond
	MaxDeadline     = 60 * time.Second
)

// File is a rule file that has been read and checked. Only Parse makes one; it
// is immutable and safe for concurrent use.
type File struct {
	settings
	source string
	rules  []rule
}

// settings is what a file says outside of its rules.
type settings struct {
	name     string
	def      Verdict
	deadline time.Duration
	// The file has the key deadline.
	deadlineWritten bool
	onFail          Verdict
	scope           Scope
	mute            Mute
	listed          eventSet // that the default is applied to, rules or not
	listedAt        pos      // of the key events
	setInfos        []SetInfo
}

// Name returns the name given to Parse.
func (f *File) Name() string { return f.name }

// Len returns the number of rules.
func (f *File) Len() int { return len(f.rules) }

// pos is a place in the file, both parts from 1.
type pos struct{ line, column int }

// rule is one rule with everything inherited filled in.
type rule struct {
	pos
	id       string
	events   eventSet
	eventsAt pos
	match    block
	not      *block // nil when the rule has none
	when     *when  // likewise
	verdict  Verdict
	only     abi.Access // what an open may ask for that is allowed; 0 for anything
	note     Note
	life     lifespan
	deadline time.Duration
	// The rule has a deadline of its own.
	deadlineWritten bool
	onFail          Verdict
}

// block is a set of conditions: all that are given must hold. A list holds when
// one of its entries does; an empty list is a condition that is not given.
type block struct {
	access            abi.Access // any of; 0 when not given
	uid, gid          []numberRange
	cgroup            []cgroupPath
	path, detail, exe []pattern
	args              []argTest
	addr              []netip.Prefix // any of, IPv4 as IPv6
	digest            []digest       // of the object's content
	*rare                            // never nil in a rule that has been read
}

// rare is the conditions of a block that few rules have: there are up to a million blocks.
type rare struct {
	euid, egid  []numberRange
	tree        []programPath
	attributes  attributes
	size        []numberRange
	credentials credentials
	formats     kinds[abi.Format] // of the object's content; 0 when not given
	verity      []abi.Verity      // likewise; verityAny stands for every digest
	scans       kinds[abi.Scan]   // likewise; 0 when not given
}

// anyGiven reports whether a block has one of them.
func (r *rare) anyGiven() bool {
	return len(r.euid)+len(r.egid)+len(r.tree)+len(r.size)+len(r.verity) > 0 || r.attributes.given() || r.credentials.given() || r.formats != 0 || r.scans != 0
}

// argTest is a condition on one number of an event: it is in one of the ranges, or,
// when there are none, it has all of the bits of all and at least one of any.
type argTest struct {
	name   string
	ranges []numberRange
	all    uint64 // 0 when not given
	any    uint64 // 0 when not given
}

// numberRange is lo..hi, both included.
type numberRange struct{ lo, hi uint64 }

// cgroupPath is a cgroup v2 path below the mount point.
type cgroupPath struct {
	pos
	path string
}

// programPath is the program that a process tree is named by.
type programPath struct {
	pos
	path string
}

// patternKind says how a pattern compares.
type patternKind uint8

const (
	literal patternKind = iota // the same bytes
	prefix                     // everything below a directory; text ends in '/'
	globbed                    // see glob.go
)

var patternNames = [...]string{literal: "literal", prefix: "prefix", globbed: "glob"}

// pattern is one path pattern; glob is set when kind is globbed.
type pattern struct {
	kind patternKind
	text string
	glob *glob
}

// String returns the pattern for messages.
func (p pattern) String() string { return patternNames[p.kind] + " " + bare(p.text) }
