// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// PlainRule is a rule that refuses, of one of the kinds that people write, in the
// words that every engine of the comparison has. A field that is empty matches all.
type PlainRule struct {
	Events []string `json:"events"`
	Path   string   `json:"path,omitempty"`   // exactly this
	Prefix string   `json:"prefix,omitempty"` // of the path
	// Begins is what the last name of the path begins with, below Prefix; it ends in .so.
	Begins string `json:"begins,omitempty"`
	Exe    string `json:"exe,omitempty"`
	Write  bool   `json:"write,omitempty"` // the access is to write
	Users  bool   `json:"users,omitempty"` // the uid is 0 or 1000 to 1999
	Addr   string `json:"addr,omitempty"`  // an IPv6 address, as it is written
	Port   uint16 `json:"port,omitempty"`
}

// plainKinds is after how many rules the kinds come again.
const plainKinds = 6

// NewPlainRule returns rule i of a mixed file. No two rules match the same request.
func NewPlainRule(i int) PlainRule {
	switch i % plainKinds {
	case 0:
		return PlainRule{Events: []string{"exec"}, Path: fmt.Sprintf("/usr/lib/app/bin/tool-%07d", i)}
	case 1:
		return PlainRule{Events: []string{"open"}, Prefix: fmt.Sprintf("/srv/app/data/d%07d/", i)}
	case 2:
		return PlainRule{Events: []string{"open"}, Prefix: "/srv/app/", Begins: fmt.Sprintf("x%07d", i)}
	case 3:
		return PlainRule{Events: []string{"connect"}, Addr: plainAddr(i), Port: 443}
	case 4:
		return PlainRule{Events: []string{"open", "exec"}, Path: fmt.Sprintf("/home/user/.config/f%07d", i), Users: true}
	}
	return PlainRule{Events: []string{"open"}, Exe: fmt.Sprintf("/usr/bin/program-%07d", i), Write: true}
}

func plainAddr(i int) string { return fmt.Sprintf("2001:db8::%x:%x", i>>16, i&0xffff) }

// plainNet is the first half of the addresses of plainAddr.
const plainNet = 0x20010db8 << 32

// yaml appends the rule as arbiterctl pushes it; id is its name.
func (r *PlainRule) yaml(b *strings.Builder, id string) {
	fmt.Fprintf(b, "- {id: %s, events: [%s]", id, strings.Join(r.Events, ", "))
	switch {
	case r.Path != "":
		fmt.Fprintf(b, ", object: {path: %s}", r.Path)
	case r.Begins != "":
		fmt.Fprintf(b, ", object: {path: '%s**/%s*.so'}", r.Prefix, r.Begins)
	case r.Prefix != "":
		fmt.Fprintf(b, ", object: {path: {prefix: %s}}", r.Prefix)
	case r.Addr != "":
		fmt.Fprintf(b, ", args: {port: %d, addr: '%s/128'}", r.Port, r.Addr)
	}
	switch {
	case r.Users:
		b.WriteString(", subject: {uid: [0, 1000-1999]}")
	case r.Exe != "":
		fmt.Fprintf(b, ", subject: {exe: %s}", r.Exe)
	}
	if r.Write {
		b.WriteString(", access: [write]")
	}
	b.WriteString(", verdict: deny}\n")
}

// plainHead begins the rule files of the measurements. The deadline is longer than the
// workers' sources wait, as it is in a daemon.
const plainHead = "version: 1\ndefault: allow\ndeadline: 1s\nscope: {paths: [/srv]}\nrules:\n"

// MixedRules returns the text of a rule file with rules 0 to n-1.
func MixedRules(n int) []byte {
	var b strings.Builder
	b.Grow(len(plainHead) + 110*n)
	b.WriteString(plainHead)
	for i := range n {
		r := NewPlainRule(i)
		r.yaml(&b, fmt.Sprintf("r%d", i))
	}
	return []byte(b.String())
}

// PlainAsk is a request to decide by plain rules.
type PlainAsk struct {
	Event     abi.Event
	Path, Exe string
	Write     bool
	UID       uint32
	Addr      string // of a connect, the same as AddrLow
	AddrLow   uint64
	Port      uint16
	Want      int32 // the rule that refuses it, -1 for none
}

// MixedAsks returns count requests for rules 0 to n-1, spread over all of them. Each is
// refused by one rule.
func MixedAsks(n, count int) []PlainAsk {
	asks := make([]PlainAsk, count)
	// A stride that has no factor in common with n visits all rules, far from each other.
	const stride = 7_368_787
	for k := range asks {
		asks[k] = newPlainAsk(k * stride % n)
	}
	return asks
}

// UsualAsks returns count requests to open files that no rule is about, beside those
// that rules are about.
func UsualAsks(count int) []PlainAsk {
	asks := make([]PlainAsk, count)
	for k := range asks {
		asks[k] = PlainAsk{Event: abi.EventOpen, Path: fmt.Sprintf("/srv/app/lib/f%04d/and/some/more/of/it.conf", k), Exe: "/usr/bin/cat", UID: 1000, Want: -1}
	}
	return asks
}

// newPlainAsk returns a request that rule i refuses.
func newPlainAsk(i int) PlainAsk {
	a := PlainAsk{Event: abi.EventOpen, Exe: "/usr/bin/cat", UID: 1000, Want: int32(i)}
	r := NewPlainRule(i)
	switch i % plainKinds {
	case 0:
		a.Event, a.Path = abi.EventExec, r.Path
	case 1:
		a.Path = r.Prefix + "file"
	case 2:
		a.Path = r.Prefix + "lib/" + r.Begins + ".1.so"
	case 3:
		a.Event, a.Addr, a.AddrLow, a.Port = abi.EventConnect, r.Addr, uint64(i), r.Port
	case 4:
		a.Path = r.Path
	default:
		a.Path, a.Exe, a.Write = "/srv/app/lib/file", r.Exe, true
	}
	return a
}

// Fill makes r the request, as a worker finds it.
func (a *PlainAsk) Fill(r *abi.Request) {
	r.Event, r.Access, r.Have = a.Event, abi.AccessRead, abi.AllFields
	switch {
	case a.Event == abi.EventExec:
		r.Access = abi.AccessExec
	case a.Write:
		r.Access = abi.AccessWrite
	}
	r.UID, r.EUID = a.UID, a.UID
	r.PathLen = uint32(copy(r.PathBuf[:], a.Path))
	r.ExeLen = uint32(copy(r.ExeBuf[:], a.Exe))
	r.Arg = [abi.Args]uint64{}
	if a.Event == abi.EventConnect {
		const inet6, stream, tcp = 10, 1, 6
		r.Arg = [abi.Args]uint64{inet6, stream, tcp, uint64(a.Port), plainNet, a.AddrLow}
	}
}
