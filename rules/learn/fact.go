// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// Fact is one kind of request: all that rules can tell it from others by. Texts are the
// kernel's bytes.
type Fact struct {
	Event  abi.Event
	Access abi.Access // of an open
	Path   string     // the object; empty when there is none
	Detail string
	Args   [abi.Args]uint64
	Exe    string // the program that acts
	UID    uint32 // real ids
	GID    uint32
}

// MaxFacts bounds the memory of Observed: some 100 MB with usual paths.
const MaxFacts = 250_000

// Observed is what was seen, each kind of request with how often. The zero value is
// empty. It is not for concurrent use.
type Observed struct {
	counts   map[Fact]uint64
	requests uint64
	over     uint64
}

// Add counts a request. False when it is of a new kind and there are MaxFacts already: it
// is forgotten, and Overflowed counts it.
func (o *Observed) Add(f Fact) bool {
	if o.counts == nil {
		o.counts = map[Fact]uint64{}
	}
	f.forget()
	if _, known := o.counts[f]; !known && len(o.counts) == MaxFacts {
		o.over++
		return false
	}
	o.counts[f]++
	o.requests++
	return true
}

// Requests returns how many were counted, Kinds how many different ones.
func (o *Observed) Requests() uint64 { return o.requests }

// Kinds returns how many different requests were counted.
func (o *Observed) Kinds() int { return len(o.counts) }

// Overflowed returns how many requests were not counted for want of room.
func (o *Observed) Overflowed() uint64 { return o.over }

// addrArg stands for addr_high and addr_low together, as in rules.
const addrArg = "addr"

// compared are the numbers of an event that a proposal looks at: what a request is about.
// The others change from run to run (sizes, process ids, addresses in memory), or say how
// something is done and not what.
var compared = map[abi.Event][]string{
	abi.EventMknod:              {"mode", "device"},
	abi.EventChmod:              {"mode"},
	abi.EventChown:              {"uid", "gid"},
	abi.EventMMapExec:           {"prot"},
	abi.EventMProtectExec:       {"prot"},
	abi.EventMount:              {"flags"},
	abi.EventUmount:             {"flags"},
	abi.EventSocket:             {"family", "type", "protocol"},
	abi.EventBind:               {"family", "type", "port", addrArg},
	abi.EventConnect:            {"family", "type", "port", addrArg},
	abi.EventListen:             {"family", "type", "port", addrArg},
	abi.EventAccept:             {"family", "type", "port", addrArg},
	abi.EventSendmsg:            {"family", "type", "port", addrArg},
	abi.EventSignal:             {"signal", "target_uid"},
	abi.EventPtrace:             {"mode", "target_uid"},
	abi.EventSetUID:             {"uid", "euid", "suid"},
	abi.EventSetGID:             {"gid", "egid", "sgid"},
	abi.EventCapable:            {"capability"},
	abi.EventModuleLoad:         {"kind"},
	abi.EventReadFile:           {"kind"},
	abi.EventBPF:                {"command"},
	abi.EventBPFMap:             {"type", "mode"},
	abi.EventBPFProg:            {"type"},
	abi.EventPrctl:              {"option"},
	abi.EventURingOverrideCreds: {"uid", "euid"},
	abi.EventURingCmd:           {"command"},
}

// pathDetail are the events whose second text is a path.
var pathDetail = []abi.Event{abi.EventLink, abi.EventRename, abi.EventMoveMount, abi.EventPivotRoot}

// everyAccess are the parts of an access that rules can name.
const everyAccess = abi.AccessRead | abi.AccessWrite | abi.AccessAppend | abi.AccessTruncate | abi.AccessCreated

// Families whose sockets have an address and a port.
const (
	familyInet  = 2  // AF_INET
	familyInet6 = 10 // AF_INET6
)

// forget clears what no proposal looks at, so that kinds are as few as they can be.
func (f *Fact) forget() {
	ev := catalogue.Of(f.Event)
	if ev == nil {
		return
	}
	if !ev.Access {
		f.Access = 0
	}
	f.Access &= everyAccess
	if ev.Detail == "" {
		f.Detail = ""
	}
	if ev.Object == "" {
		f.Path = ""
	}
	var keep [abi.Args]bool
	for _, name := range compared[f.Event] {
		if name == addrArg {
			high := ev.Arg("addr_high")
			keep[high], keep[high+1] = f.hasAddr(ev), f.hasAddr(ev)
			continue
		}
		keep[ev.Arg(name)] = name != "port" || f.hasAddr(ev)
	}
	for i := range f.Args {
		if !keep[i] {
			f.Args[i] = 0
		}
	}
}

// hasAddr reports whether the request has an address of the network.
func (f *Fact) hasAddr(ev *catalogue.Event) bool {
	at := ev.Arg("family")
	return at >= 0 && ev.Arg("addr_high") >= 0 && (f.Args[at] == familyInet || f.Args[at] == familyInet6)
}

// unfit says why no rule can be written for exactly this request, "" when one can.
func (f *Fact) unfit(anyExe bool) string {
	ev := catalogue.Of(f.Event)
	switch {
	case ev == nil:
		return "the event is not known to this version"
	case !anyExe && !isPath(f.Exe):
		return "the program that acts is not known"
	case f.UID == math.MaxUint32 || f.GID == math.MaxUint32:
		return "the user or the group has no number that rules can name"
	case f.Path == "" && rules.NeedsObject(f.Event):
		return "the path of the object is not known"
	case f.Path != "" && !isPath(f.Path) && !rules.NamesSocket(f.Event, []byte(f.Path)):
		return "the object has no path that rules can name"
	case strings.Contains(f.Path, "\x00") || strings.Contains(f.Detail, "\x00") || len(f.Detail) > rules.MaxPatternBytes:
		return "a text has a NUL byte or is too long"
	case f.Detail != "" && slices.Contains(pathDetail, f.Event) && !isPath(f.Detail):
		return "the second path is not one that rules can name"
	case f.Detail == "" && slices.Contains(pathDetail, f.Event):
		return "the second path is not known"
	case f.Detail == "" && ev.Detail != "" && f.Path == "":
		return "neither object nor detail is known"
	}
	return ""
}

// isPath reports whether s is absolute and clean, as rules want paths.
func isPath(s string) bool {
	if !strings.HasPrefix(s, "/") || len(s) > rules.MaxPatternBytes || strings.Contains(s, "\x00") {
		return false
	}
	if s == "/" {
		return true
	}
	for c := range strings.SplitSeq(s[1:], "/") {
		if c == "" || c == "." || c == ".." {
			return false
		}
	}
	return true
}

// Unexpressed is a kind of request that no rule was proposed for.
type Unexpressed struct {
	Why   string
	Count uint64 // requests
}

// String says it in one line.
func (u Unexpressed) String() string { return fmt.Sprintf("%d requests: %s", u.Count, u.Why) }
