// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"maps"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/arbiter"
)

// AppendEvent appends e as one JSON line, newline included, and returns the
// longer slice. It is NewRecord and Record.Append.
func AppendEvent(dst []byte, e *arbiter.Event) []byte {
	r := NewRecord(e)
	return append(r.Append(dst), '\n')
}

// Append appends r as one JSON object without a newline and returns the longer
// slice. It says what encoding/json would say of r, with more escapes: the
// output is printable UTF-8 whatever the strings hold. Bytes of a string that
// are not UTF-8 become U+FFFD; NewRecord leaves none.
func (r *Record) Append(dst []byte) []byte {
	o := object{dst: dst}
	o.open("")
	o.int("activity_id", int64(r.ActivityID))
	o.optional("activity_name", r.ActivityName)
	o.int("category_uid", int64(r.CategoryUID))
	o.int("class_uid", int64(r.ClassUID))
	o.int("type_uid", int64(r.TypeUID))
	o.int("severity_id", int64(r.SeverityID))
	o.int("time", r.Time)
	o.text("time_dt", r.TimeDT)
	o.int("action_id", int64(r.ActionID))
	o.int("disposition_id", int64(r.DispositionID))
	o.int("status_id", int64(r.StatusID))
	o.optional("status_code", r.StatusCode)
	o.optional("status_detail", r.StatusDetail)
	o.optional("message", r.Message)

	o.open("metadata")
	o.text("version", r.Metadata.Version)
	o.open("product")
	o.text("name", r.Metadata.Product.Name)
	o.text("vendor_name", r.Metadata.Product.VendorName)
	o.close()
	o.uint("sequence", r.Metadata.Sequence)
	o.texts("profiles", r.Metadata.Profiles)
	o.close()

	o.open("policy")
	o.text("name", r.Policy.Name)
	o.text("uid", r.Policy.UID)
	o.text("version", r.Policy.Version)
	o.close()

	o.open("actor")
	o.process("process", &r.Actor.Process)
	o.close()
	if r.File != nil {
		o.file("file", r.File)
	}
	if r.FileResult != nil {
		o.file("file_result", r.FileResult)
	}
	if r.Process != nil {
		o.process("process", r.Process)
	}
	o.object(r)

	u := &r.Unmapped
	o.open("unmapped")
	o.text("event", u.Event)
	if len(u.Access) > 0 {
		o.texts("access", u.Access)
	}
	o.optional("path", u.Path)
	o.optional("path_b64", u.PathB64)
	o.optional("detail", u.Detail)
	o.optional("detail_b64", u.DetailB64)
	o.optional("format", u.Format)
	o.optional("fsverity", u.Verity)
	o.optional("attributes", u.Attributes)
	if u.Size != nil {
		o.uint("size", *u.Size)
	}
	o.optional("credentials", u.Credentials)
	o.optional("scan", u.Scan)
	o.optional("signature", u.Signature)
	o.optional("signature_b64", u.SignatureB64)
	if len(u.Args) > 0 {
		o.open("args")
		for _, name := range slices.Sorted(maps.Keys(u.Args)) {
			o.uint(name, u.Args[name])
		}
		o.close()
	}
	o.text("verdict", u.Verdict)
	if u.RuleLine != 0 {
		o.int("rule_line", int64(u.RuleLine))
	}
	o.bool("cached", u.Cached)
	o.int("latency_ns", u.LatencyNS)
	o.int("worker", int64(u.Worker))
	o.optional("asked", u.Asked)
	o.optional("answered_by", u.AnsweredBy)
	o.uint("euid", uint64(u.EUID))
	o.uint("egid", uint64(u.EGID))
	if len(u.Flags) > 0 {
		o.texts("flags", u.Flags)
	}
	if len(u.Cgroup) > 0 {
		o.uints("cgroups", u.Cgroup)
	}
	if len(u.Trees) > 0 {
		o.trees("process_trees", u.Trees)
	}
	if len(u.Facts) > 0 {
		o.texts("facts", u.Facts)
	}
	if u.Errno != 0 {
		o.uint("errno", uint64(u.Errno))
	}
	o.optional("reason", u.Reason)
	o.close()
	o.close()
	return o.dst
}

// object appends what the classes that are not about a file or a process have.
func (o *object) object(r *Record) {
	if d := r.Driver; d != nil {
		o.open("driver")
		o.file("file", &d.File)
		o.close()
	}
	if k := r.Kernel; k != nil {
		o.open("kernel")
		o.text("name", k.Name)
		o.int("type_id", int64(k.TypeID))
		o.close()
	}
	if m := r.Module; m != nil {
		o.open("module")
		o.file("file", &m.File)
		o.int("load_type_id", int64(m.LoadTypeID))
		o.close()
	}
	if e := r.DstEndpoint; e != nil {
		o.open("dst_endpoint")
		o.optional("ip", e.IP)
		if e.Port != 0 {
			o.int("port", int64(e.Port))
		}
		o.optional("name", e.Name)
		o.optional("name_b64", e.NameB64)
		o.close()
	}
	if c := r.ConnectionInfo; c != nil {
		o.open("connection_info")
		o.int("direction_id", int64(c.DirectionID))
		if c.ProtocolNum != 0 {
			o.int("protocol_num", int64(c.ProtocolNum))
		}
		o.int("protocol_ver_id", int64(c.ProtocolVerID))
		o.close()
	}
}

func (o *object) process(key string, p *Process) {
	o.open(key)
	o.uint("pid", uint64(p.PID))
	if p.TID != 0 {
		o.uint("tid", uint64(p.TID))
	}
	o.optional("uid", p.UID)
	o.optional("name", p.Name)
	o.optional("name_b64", p.NameB64)
	o.file("file", &p.File)
	o.id("user", p.User)
	o.id("group", p.Group)
	o.close()
}

func (o *object) file(key string, f *File) {
	o.open(key)
	o.text("path", f.Path)
	o.optional("path_b64", f.PathB64)
	o.text("name", f.Name)
	o.int("type_id", int64(f.TypeID))
	o.optional("uid", f.UID)
	if len(f.Hashes) > 0 {
		o.key("hashes")
		o.dst, o.more = append(o.dst, '['), false
		for _, h := range f.Hashes {
			o.open("")
			o.text("algorithm", h.Algorithm)
			o.int("algorithm_id", int64(h.AlgorithmID))
			o.text("value", h.Value)
			o.close()
		}
		o.dst = append(o.dst, ']')
	}
	o.close()
}

func (o *object) trees(key string, trees []Tree) {
	o.key(key)
	o.dst, o.more = append(o.dst, '['), false
	for _, t := range trees {
		o.open("")
		o.text("path", t.Path)
		o.optional("path_b64", t.PathB64)
		o.bool("in", t.In)
		o.close()
	}
	o.dst = append(o.dst, ']')
}

func (o *object) id(key string, id *ID) {
	if id == nil {
		return
	}
	o.open(key)
	o.text("uid", id.UID)
	o.close()
}

// object appends one JSON object, nested ones included.
type object struct {
	dst  []byte
	more bool // a comma comes before the next key
}

// key appends a key, which needs no escapes. An empty one is the outermost
// object's, which has none.
func (o *object) key(k string) {
	if o.more {
		o.dst = append(o.dst, ',')
	}
	o.more = true
	if k != "" {
		o.dst = append(append(append(o.dst, '"'), k...), '"', ':')
	}
}

func (o *object) open(k string) {
	o.key(k)
	o.dst, o.more = append(o.dst, '{'), false
}

func (o *object) close() { o.dst, o.more = append(o.dst, '}'), true }

func (o *object) int(k string, v int64) {
	o.key(k)
	o.dst = strconv.AppendInt(o.dst, v, 10)
}

func (o *object) uint(k string, v uint64) {
	o.key(k)
	o.dst = strconv.AppendUint(o.dst, v, 10)
}

func (o *object) bool(k string, v bool) {
	o.key(k)
	o.dst = strconv.AppendBool(o.dst, v)
}

func (o *object) text(k, v string) {
	o.key(k)
	o.dst = appendJSON(o.dst, v)
}

func (o *object) optional(k, v string) {
	if v != "" {
		o.text(k, v)
	}
}

func (o *object) texts(k string, vs []string) {
	o.key(k)
	o.dst = append(o.dst, '[')
	for i, v := range vs {
		if i > 0 {
			o.dst = append(o.dst, ',')
		}
		o.dst = appendJSON(o.dst, v)
	}
	o.dst = append(o.dst, ']')
}

func (o *object) uints(k string, vs []uint64) {
	o.key(k)
	o.dst = append(o.dst, '[')
	for i, v := range vs {
		if i > 0 {
			o.dst = append(o.dst, ',')
		}
		o.dst = strconv.AppendUint(o.dst, v, 10)
	}
	o.dst = append(o.dst, ']')
}

// appendJSON appends s as a JSON string in which everything that does not print
// is an escape.
func appendJSON(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
			dst = append(dst, s[:n]...)
		case r > 0xffff:
			hi, lo := uint32(r-0x10000)>>10|0xd800, uint32(r-0x10000)&0x3ff|0xdc00
			dst = appendHex(append(dst, `\u`...), hi, 4)
			dst = appendHex(append(dst, `\u`...), lo, 4)
		default:
			dst = appendHex(append(dst, `\u`...), uint32(r), 4)
		}
		s = s[n:]
	}
	return append(dst, '"')
}
