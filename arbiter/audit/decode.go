// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// MaxLineBytes bounds a line, its newline left out. The longest that is written has seven
// times a text of abi.PathBytes and rules.MaxTrees more of them, each byte of which takes six or
// seven: 1.1 MiB.
const MaxLineBytes = 3 << 20

// LineError is the error of a line that is no record.
type LineError struct {
	Column  int // in bytes, from 1
	Message string
	Hint    string // what to do
}

// Error returns "column 7: what is wrong; what to do".
func (e *LineError) Error() string {
	return fmt.Sprintf("column %d: %s; %s", e.Column, e.Message, e.Hint)
}

// hintLine is what to do about a line that nobody has written so.
const hintLine = "give the lines as the daemon or arbiterctl events -o json has written them, unchanged and by the same version"

func lineError(offset int, format string, args ...any) *LineError {
	return &LineError{Column: offset + 1, Message: fmt.Sprintf(format, args...), Hint: hintLine}
}

// Decode reads one line of the verdict log, with or without its newline, back into its event.
// It takes what AppendEvent writes and nothing else: the event gives the very same line again.
// So whatever a record could contradict itself in is found, and nothing of it is lost. The
// error is a *LineError.
func Decode(line []byte) (*arbiter.Event, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) > MaxLineBytes {
		return nil, lineError(MaxLineBytes, "the line has more than %d bytes", MaxLineBytes)
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, jsonError(line, d.InputOffset(), err)
	}
	e, err := r.event()
	if err != nil {
		return nil, err
	}
	again := NewRecord(e)
	if got := again.Append(make([]byte, 0, len(line))); !bytes.Equal(got, line) {
		at := 0
		for at < len(got) && at < len(line) && got[at] == line[at] {
			at++
		}
		return nil, lineError(at, "from here on it is not what such a record is written as")
	}
	return e, nil
}

// jsonError says where a line stops to be a record, as far as the parser knows.
func jsonError(line []byte, at int64, err error) *LineError {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return lineError(int(syntax.Offset)-1, "it is no JSON: %v", syntax)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return lineError(len(line), "the line is cut off")
	case errors.As(err, &kind):
		what := kind.Field
		if what == "" {
			what = "a record"
		}
		return lineError(max(int(kind.Offset)-1, 0), "%s cannot be a JSON %s", what, kind.Value)
	}
	return lineError(int(at), "%s", strings.TrimPrefix(err.Error(), "json: "))
}

// event undoes NewRecord. What it does not look at follows from the rest; Decode compares.
func (r *Record) event() (*arbiter.Event, error) {
	u, p := &r.Unmapped, &r.Actor.Process
	e := &arbiter.Event{Seq: r.Metadata.Sequence, Verdict: u.Verdict, Rule: r.Policy.Name, Line: u.RuleLine, Message: r.Message,
		Cached: u.Cached, Latency: time.Duration(u.LatencyNS), Worker: u.Worker, TGID: p.PID, TID: p.TID, EUID: u.EUID, EGID: u.EGID}
	f := fields{}
	f.event(e, r)
	f.outcome(e, r)
	e.Time = f.time(r.TimeDT)
	e.Fingerprint, e.Epoch = f.number("policy.uid", r.Policy.UID, 16, 64), f.number("policy.version", r.Policy.Version, 10, 64)
	_, start, _ := strings.Cut(p.UID, "-")
	e.StartBoottime = f.number("actor.process.uid", start, 10, 64)
	e.UID, e.GID = f.id("user", p.User), f.id("group", p.Group)
	if e.Asked = u.Asked; u.AnsweredBy != "" {
		e.AnsweredBy = uint32(f.number("unmapped.answered_by", u.AnsweredBy, 10, 32))
	}
	e.Comm, e.Exe = f.text(p.Name, p.NameB64), f.text(p.File.Path, p.File.PathB64)
	e.Detail = f.text(u.Detail, u.DetailB64)
	f.object(e, r)
	if u.Format != "" {
		var ok bool
		e.Format, ok = abi.ParseFormat(u.Format)
		f.check(ok, "unmapped.format", u.Format)
	}
	if u.Verity != "" {
		var ok bool
		e.Verity, ok = abi.ParseVerity(u.Verity)
		f.check(ok, "unmapped.fsverity", u.Verity)
	}
	if u.Attributes != "" {
		var ok bool
		e.Attributes, ok = abi.ParseAttributes(u.Attributes)
		f.check(ok, "unmapped.attributes", u.Attributes)
	}
	if u.Size != nil {
		e.Size = abi.Size{Known: true, Bytes: *u.Size}
		f.check(*u.Size <= math.MaxInt64, "unmapped.size", strconv.FormatUint(*u.Size, 10))
	}
	if u.Credentials != "" {
		var ok bool
		e.Credentials, ok = abi.ParseCredentials(u.Credentials)
		f.check(ok, "unmapped.credentials", u.Credentials)
	}
	if u.Scan != "" {
		var ok bool
		e.Scan, ok = abi.ParseScan(u.Scan)
		f.check(ok, "unmapped.scan", u.Scan)
	}
	e.Signature = f.text(u.Signature, u.SignatureB64)
	for _, name := range u.Flags {
		flag, ok := abi.ParseFlag(name)
		f.check(ok, "unmapped.flags", name)
		e.Flags |= flag
	}
	for _, name := range u.Facts {
		fact, ok := abi.ParseField(name)
		f.check(ok, "unmapped.facts", name)
		e.Facts |= fact
	}
	f.check(copy(e.Cgroup[:], u.Cgroup) == len(u.Cgroup), "unmapped.cgroups", fmt.Sprint(len(u.Cgroup)))
	for _, t := range u.Trees {
		if path := f.text(t.Path, t.PathB64); t.In {
			e.InTrees = append(e.InTrees, path)
		} else {
			e.NotInTrees = append(e.NotInTrees, path)
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	return e, nil
}

// fields reads values and keeps the first error.
type fields struct{ err *LineError }

func (f *fields) check(ok bool, field, value string) {
	if !ok && f.err == nil {
		f.err = lineError(0, "%s cannot be %q", field, Quote(value))
	}
}

func (f *fields) number(field, text string, base, bits int) uint64 {
	n, err := strconv.ParseUint(text, base, bits)
	f.check(err == nil, field, text)
	return n
}

func (f *fields) id(field string, id *ID) uint32 {
	if id == nil {
		f.check(false, "actor.process."+field, "")
		return 0
	}
	return uint32(f.number("actor.process."+field+".uid", id.UID, 10, 32))
}

func (f *fields) time(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	f.check(err == nil, "time_dt", text)
	return t.UTC()
}

// text undoes show.
func (f *fields) text(text, b64 string) string {
	if b64 == "" {
		return text
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	f.check(err == nil, "a text in base64", b64)
	return string(raw)
}

// event reads what was asked.
func (f *fields) event(e *arbiter.Event, r *Record) {
	u := &r.Unmapped
	var ok bool
	if e.Event, ok = abi.ParseEvent(u.Event); !ok && u.Event != abi.EventNone.String() {
		e.Event = abi.EventCount // a newer daemon's
	}
	f.check(ok || u.Event == e.Event.String(), "unmapped.event", u.Event)
	for _, name := range u.Access {
		bit := abi.Access(0)
		for _, b := range accessBits {
			if b.name == name {
				bit = b.bit
			}
		}
		f.check(bit != 0, "unmapped.access", name)
		e.Access |= bit
	}
	ev := catalogue.Of(e.Event)
	for name, v := range u.Args {
		i := -1
		if ev != nil {
			i = ev.Arg(name)
		}
		f.check(i >= 0, "a name in unmapped.args", name)
		if i >= 0 {
			e.Args[i] = v
		}
	}
}

// outcome undoes Record.outcome.
func (f *fields) outcome(e *arbiter.Event, r *Record) {
	u := &r.Unmapped
	f.check(e.Verdict == "allow" || e.Verdict == "deny" || e.Verdict == "audit" || e.Verdict == "kill", "unmapped.verdict", e.Verdict)
	reason := r.StatusDetail
	if e.Late = r.StatusDetail == statusLate; e.Late {
		e.Errno, reason = u.Errno, u.Reason
	}
	if r.StatusCode != "" {
		errno, ok := rules.ParseErrno(r.StatusCode)
		f.check(ok, "status_code", r.StatusCode)
		e.Errno = errno
	}
	if reason != "" {
		for e.Reason = abi.ReasonNone + 1; e.Reason < abi.ReasonCount && e.Reason.String() != reason; e.Reason++ {
		}
		f.check(e.Reason.String() == reason, "the reason", reason)
	}
}

// object finds the object where its class has it.
func (f *fields) object(e *arbiter.Event, r *Record) {
	var file *File
	switch {
	case r.File != nil:
		file = r.File
	case r.Driver != nil:
		file = &r.Driver.File
	case r.Module != nil:
		file = &r.Module.File
	case r.DstEndpoint != nil:
		file = &File{Path: r.DstEndpoint.Name, PathB64: r.DstEndpoint.NameB64}
	case r.ClassUID == ClassProcess && r.Process != nil && e.Event != abi.EventSetUID && e.Event != abi.EventSetGID:
		file = &r.Process.File
	default:
		file = &File{Path: r.Unmapped.Path, PathB64: r.Unmapped.PathB64}
	}
	e.Path = f.text(file.Path, file.PathB64)
	for _, h := range file.Hashes {
		e.SHA256 = h.Value
		raw, err := hex.DecodeString(h.Value)
		f.check(err == nil && len(raw) == sha256.Size, "a hash of the file", h.Value)
	}
	if file.UID == "" {
		return
	}
	dev, ino, _ := strings.Cut(file.UID, ":")
	e.Dev, e.Ino = f.number("the file's uid", dev, 10, 64), f.number("the file's uid", ino, 10, 64)
}
