// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// SchemaVersion is the OCSF version whose names are used.
const SchemaVersion = "1.3.0"

// What became of a request; class.go has the numbers of what it was.
const (
	ActionUnknown = 0
	ActionAllowed = 1
	ActionDenied  = 2

	DispositionAllowed  = 1
	DispositionBlocked  = 2
	DispositionNoAction = 16 // the answer came too late to have an effect
	DispositionLogged   = 17 // allowed and recorded: a rule says audit
	DispositionError    = 27 // a failure verdict, see status_detail

	SeverityInformational = 1
	SeverityLow           = 2 // audited
	SeverityMedium        = 3 // denied, failed or late

	StatusUnknown = 0
	StatusSuccess = 1 // the system call went on
	StatusFailure = 2 // the system call returned status_code
)

// Record is one line of the verdict log. Field names are OCSF's; the json tags
// are the schema. A field of zero value with omitempty is left out.
type Record struct {
	ActivityID    int      `json:"activity_id"`
	ActivityName  string   `json:"activity_name,omitempty"` // the event when ActivityID is ActivityOther
	CategoryUID   int      `json:"category_uid"`
	ClassUID      int      `json:"class_uid"`
	TypeUID       int      `json:"type_uid"`
	SeverityID    int      `json:"severity_id"`
	Time          int64    `json:"time"`    // milliseconds since 1970
	TimeDT        string   `json:"time_dt"` // the same in RFC 3339, UTC, nanoseconds
	ActionID      int      `json:"action_id"`
	DispositionID int      `json:"disposition_id"`
	StatusID      int      `json:"status_id"`
	StatusCode    string   `json:"status_code,omitempty"`   // the errno's name when denied
	StatusDetail  string   `json:"status_detail,omitempty"` // the reason of a failure verdict, or "late"
	Message       string   `json:"message,omitempty"`       // the deciding rule's
	Metadata      Metadata `json:"metadata"`
	Policy        Policy   `json:"policy"`
	Actor         Actor    `json:"actor"`
	File          *File    `json:"file,omitempty"`        // ClassFile: what it was to be done to
	FileResult    *File    `json:"file_result,omitempty"` // the new name of a rename or a hard link
	Process       *Process `json:"process,omitempty"`     // ClassProcess: launched, signalled, traced or changed; ClassMemory: whose it is
	Driver        *Driver  `json:"driver,omitempty"`      // ClassKernelExtension
	Kernel        *Kernel  `json:"kernel,omitempty"`      // ClassKernel
	Module        *Module  `json:"module,omitempty"`      // ClassModule
	// ClassNetwork: the address that the event names.
	DstEndpoint    *Endpoint       `json:"dst_endpoint,omitempty"`
	ConnectionInfo *ConnectionInfo `json:"connection_info,omitempty"`
	Unmapped       Unmapped        `json:"unmapped"`
}

// Metadata says who wrote the record.
type Metadata struct {
	Version string  `json:"version"` // of OCSF
	Product Product `json:"product"`
	// Sequence counts the engine's events from 1.
	Sequence uint64   `json:"sequence"`
	Profiles []string `json:"profiles"`
}

// Product names the writer.
type Product struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
}

// Policy names the rule that decided and its rule set.
type Policy struct {
	Name    string `json:"name"`    // id of the rule; "default"; empty when none was asked
	UID     string `json:"uid"`     // fingerprint of the rule set, 16 hexadecimal digits
	Version string `json:"version"` // epoch of the rule set
}

// Actor is the subject: who asked.
type Actor struct {
	Process Process `json:"process"`
}

// Process is a process by what the kernel knows of it. For a process that is to
// be launched only PID, UID and File are known, of the target of a signal or of ptrace
// PID, User and File.
type Process struct {
	PID     uint32 `json:"pid"` // in the initial pid namespace
	TID     uint32 `json:"tid,omitempty"`
	UID     string `json:"uid,omitempty"` // "pid-starttime": never reused until the next boot
	Name    string `json:"name,omitempty"`
	NameB64 string `json:"name_b64,omitempty"` // exact bytes when Name is not UTF-8
	File    File   `json:"file"`
	User    *ID    `json:"user,omitempty"`
	Group   *ID    `json:"group,omitempty"`
}

// ID is a numeric user or group id; OCSF writes them as strings.
type ID struct {
	UID string `json:"uid"`
}

// File is a file by its path.
type File struct {
	Path    string `json:"path"`
	PathB64 string `json:"path_b64,omitempty"` // exact bytes when Path is not UTF-8
	Name    string `json:"name"`               // last element; its Quote when not UTF-8
	TypeID  int    `json:"type_id"`            // always 0, unknown
	UID     string `json:"uid,omitempty"`      // "dev:ino", decimal
	Hashes  []Hash `json:"hashes,omitempty"`   // of its content, when a rule looked at it
}

// Hash is a fingerprint of a file's content.
type Hash struct {
	Algorithm   string `json:"algorithm"`    // always SHA-256
	AlgorithmID int    `json:"algorithm_id"` // always 3
	Value       string `json:"value"`        // hex
}

// Driver is a kernel module.
type Driver struct {
	File File `json:"file"`
}

// Kernel is a resource of the kernel.
type Kernel struct {
	Name   string `json:"name"`
	TypeID int    `json:"type_id"`
}

// Module is a file that becomes code of a process.
type Module struct {
	File       File `json:"file"`
	LoadTypeID int  `json:"load_type_id"`
}

// Endpoint is an address: IP and Port, or the name of a unix socket.
type Endpoint struct {
	IP      string `json:"ip,omitempty"`
	Port    int    `json:"port,omitempty"`
	Name    string `json:"name,omitempty"` // with @ first when it is abstract
	NameB64 string `json:"name_b64,omitempty"`
}

// ConnectionInfo says what kind of connection it is.
type ConnectionInfo struct {
	DirectionID   int `json:"direction_id"`
	ProtocolNum   int `json:"protocol_num,omitempty"` // as in socket(2)
	ProtocolVerID int `json:"protocol_ver_id"`
}

// Unmapped is what OCSF has no name for.
type Unmapped struct {
	Event  string   `json:"event"` // as rules name it
	Access []string `json:"access,omitempty"`
	// The object's path where the class has no place for it.
	Path    string `json:"path,omitempty"`
	PathB64 string `json:"path_b64,omitempty"`
	// The event's second text.
	Detail    string `json:"detail,omitempty"`
	DetailB64 string `json:"detail_b64,omitempty"`
	// What kind of file the object is by its first bytes, when a rule looked at them.
	Format string `json:"format,omitempty"`
	// The fs-verity digest of the object, or none, likewise.
	Verity string `json:"fsverity,omitempty"`
	// The owner, the group and the mode of the object's file.
	Attributes string `json:"attributes,omitempty"`
	// The size of the file in bytes, of a regular one.
	Size *uint64 `json:"size,omitempty"`
	// The login uid, the audit session, the effective capabilities and the namespaces that are the host's,
	// when a rule looked at them; see abi.Credentials.
	Credentials string `json:"credentials,omitempty"`
	// What a scanner has said of the object, and what it calls what it has found, likewise.
	Scan         string `json:"scan,omitempty"`
	Signature    string `json:"signature,omitempty"`
	SignatureB64 string `json:"signature_b64,omitempty"`
	// The event's numbers by the names that rules have for them.
	Args      map[string]uint64 `json:"args,omitempty"`
	Verdict   string            `json:"verdict"` // "allow", "deny", "audit", "kill"
	RuleLine  int               `json:"rule_line,omitempty"`
	Cached    bool              `json:"cached"`
	LatencyNS int64             `json:"latency_ns"`
	Worker    int               `json:"worker"` // -1 when none was involved
	// How it ended where the rule asks somebody, and the uid of who has answered.
	Asked      string `json:"asked,omitempty"`
	AnsweredBy string `json:"answered_by,omitempty"`
	// What rules can look at beside the above. With it a record can be decided again.
	EUID   uint32   `json:"euid"`
	EGID   uint32   `json:"egid"`
	Flags  []string `json:"flags,omitempty"`   // what is missing or cut, see abi.FlagNames
	Cgroup []uint64 `json:"cgroups,omitempty"` // ids of the subject's cgroup and its ancestors, level 1 first
	// The process trees that the rule set names.
	Trees []Tree   `json:"process_trees,omitempty"`
	Facts []string `json:"facts,omitempty"` // those that the record has, see abi.Fields.Names
	// Of a late answer, for which status_code and status_detail are about the lateness.
	Errno  uint16 `json:"errno,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Tree is a process tree by its program.
type Tree struct {
	Path    string `json:"path"`
	PathB64 string `json:"path_b64,omitempty"` // exact bytes when Path is not UTF-8
	In      bool   `json:"in"`                 // the subject is
}

// NewRecord returns the record of e. The result shares no memory with e that
// anyone writes.
func NewRecord(e *arbiter.Event) Record {
	r := Record{
		Time:    e.Time.UnixMilli(),
		TimeDT:  e.Time.UTC().Format(time.RFC3339Nano),
		Message: strings.ToValidUTF8(e.Message, "\ufffd"), // it is UTF-8: rule files are
		Metadata: Metadata{Version: SchemaVersion, Product: Product{Name: "arbiterd", VendorName: "Arbiter"},
			Sequence: e.Seq, Profiles: []string{"datetime", "linux/linux_users", "security_control"}},
		Policy: Policy{Name: e.Rule, UID: fmt.Sprintf("%016x", e.Fingerprint), Version: strconv.FormatUint(e.Epoch, 10)},
		Unmapped: Unmapped{Event: e.Event.String(), Access: accessNames(e.Access), Args: argsOf(e), Verdict: e.Verdict,
			RuleLine: e.Line, Cached: e.Cached, LatencyNS: int64(e.Latency), Worker: e.Worker,
			Credentials: e.Credentials.String(), EUID: e.EUID, EGID: e.EGID, Flags: abi.FlagNames(e.Flags), Cgroup: cgroupsOf(e), Trees: treesOf(e), Facts: e.Facts.Names()},
	}
	r.outcome(e)
	if r.Unmapped.Asked = e.Asked; e.Asked == arbiter.Answered.String() || e.Asked == arbiter.Remembered.String() {
		r.Unmapped.AnsweredBy = strconv.FormatUint(uint64(e.AnsweredBy), 10)
	}
	start := strconv.FormatUint(uint64(e.TGID), 10) + "-" + strconv.FormatUint(e.StartBoottime, 10)
	p := Process{PID: e.TGID, TID: e.TID, UID: start, File: newFile(e.Exe),
		User:  &ID{strconv.FormatUint(uint64(e.UID), 10)},
		Group: &ID{strconv.FormatUint(uint64(e.GID), 10)}}
	p.Name, p.NameB64 = show(e.Comm)
	r.Actor.Process = p

	object := newFile(e.Path)
	if e.Dev != 0 || e.Ino != 0 {
		object.UID = strconv.FormatUint(e.Dev, 10) + ":" + strconv.FormatUint(e.Ino, 10)
	}
	if e.SHA256 != "" {
		object.Hashes = []Hash{{"SHA-256", 3, e.SHA256}}
	}
	r.Unmapped.Format, r.Unmapped.Verity, r.Unmapped.Scan = e.Format.String(), e.Verity.String(), e.Scan.String()
	r.Unmapped.Signature, r.Unmapped.SignatureB64 = show(e.Signature)
	r.Unmapped.Attributes = e.Attributes.String()
	if e.Size.Known {
		r.Unmapped.Size = &e.Size.Bytes
	}
	r.Unmapped.Detail, r.Unmapped.DetailB64 = show(e.Detail)
	r.classify(e, object)
	return r
}

// statusLate is Record.StatusDetail of an answer that came too late.
const statusLate = "late"

// outcome fills in what became of the request.
func (r *Record) outcome(e *arbiter.Event) {
	switch e.Verdict {
	case "deny", "kill":
		r.ActionID, r.DispositionID, r.SeverityID = ActionDenied, DispositionBlocked, SeverityMedium
		r.StatusID, r.StatusCode = StatusFailure, rules.ErrnoName(e.Errno)
	case "audit":
		r.ActionID, r.DispositionID, r.SeverityID = ActionAllowed, DispositionLogged, SeverityLow
		r.StatusID = StatusSuccess
	default:
		r.ActionID, r.DispositionID, r.SeverityID = ActionAllowed, DispositionAllowed, SeverityInformational
		r.StatusID = StatusSuccess
	}
	if e.Reason != abi.ReasonNone {
		r.DispositionID, r.SeverityID, r.StatusDetail = DispositionError, SeverityMedium, e.Reason.String()
	}
	if e.Late {
		// The requester had gone on by the kernel's failure verdict, which is a
		// record of its own: this one says what would have been.
		r.ActionID, r.DispositionID, r.SeverityID = ActionUnknown, DispositionNoAction, SeverityMedium
		r.StatusID, r.StatusCode, r.StatusDetail = StatusUnknown, "", statusLate
		if e.Verdict == "deny" {
			r.Unmapped.Errno = e.Errno
		}
		if e.Reason != abi.ReasonNone {
			r.Unmapped.Reason = e.Reason.String()
		}
	}
}

// cgroupsOf returns the ids up to the last, nil when there is none.
func cgroupsOf(e *arbiter.Event) []uint64 {
	n := 0
	for n < len(e.Cgroup) && e.Cgroup[n] != 0 {
		n++
	}
	if n == 0 {
		return nil
	}
	return slices.Clone(e.Cgroup[:n])
}

// treesOf returns the process trees, those first that the subject is in.
func treesOf(e *arbiter.Event) (out []Tree) {
	for i, path := range slices.Concat(e.InTrees, e.NotInTrees) {
		t := Tree{In: i < len(e.InTrees)}
		t.Path, t.PathB64 = show(path)
		out = append(out, t)
	}
	return out
}

// newFile returns the file at that path, which may be empty when unknown.
func newFile(raw string) File {
	f := File{}
	f.Path, f.PathB64 = show(raw)
	if raw != "" {
		f.Name, _ = show(path.Base(raw))
	}
	return f
}

// show returns the text of raw bytes, and their base64 when the text is not
// exactly what they are.
func show(raw string) (text, b64 string) {
	if utf8.ValidString(raw) {
		return raw, ""
	}
	return Quote(raw), base64.StdEncoding.EncodeToString([]byte(raw))
}

// accessBits is the order in which the parts of an access are written.
var accessBits = []struct {
	bit  abi.Access
	name string
}{
	{abi.AccessRead, "read"}, {abi.AccessWrite, "write"}, {abi.AccessExec, "exec"},
	{abi.AccessAppend, "append"}, {abi.AccessTruncate, "truncate"}, {abi.AccessCreated, "create"},
}

func accessNames(a abi.Access) []string {
	var names []string
	for _, b := range accessBits {
		if a&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	return names
}
