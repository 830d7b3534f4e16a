// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// walk is the opponent that keeps its rules in a list and compares one after another
// until the first that matches, as fapolicyd does. It knows plain rules alone, each
// comparison is the cheapest one for its kind, and it does no more than find the rule:
// all that favours it.
type walk []walkRule

type walkRule struct {
	events                    uint64 // a bit each
	path, prefix, begins, exe []byte
	addrLow                   uint64
	port                      uint16
	net, write, users         bool
}

var walkEnding = []byte(".so")

// newWalk returns rules 0 to n-1.
func newWalk(n int) walk {
	w := make(walk, n)
	for i := range w {
		r := NewPlainRule(i)
		w[i] = walkRule{path: []byte(r.Path), prefix: []byte(r.Prefix), begins: []byte(r.Begins), exe: []byte(r.Exe), write: r.Write, users: r.Users,
			net: r.Addr != "", addrLow: uint64(i), port: r.Port}
		for e := abi.EventOpen; e < abi.EventCount; e++ {
			for _, name := range r.Events {
				if e.String() == name {
					w[i].events |= 1 << e
				}
			}
		}
	}
	return w
}

// decide returns the first rule that matches, -1 for none.
func (w walk) decide(r *abi.Request) int32 {
	path, exe := r.PathBuf[:r.PathLen], r.ExeBuf[:r.ExeLen]
	for i := range w {
		if w[i].matches(r, path, exe) {
			return int32(i)
		}
	}
	return -1
}

func (m *walkRule) matches(r *abi.Request, path, exe []byte) bool {
	if m.events>>r.Event&1 == 0 {
		return false
	}
	if len(m.path) > 0 && !bytes.Equal(m.path, path) || !bytes.HasPrefix(path, m.prefix) {
		return false
	}
	if len(m.begins) > 0 {
		last := path[bytes.LastIndexByte(path, '/')+1:]
		if !bytes.HasPrefix(last, m.begins) || !bytes.HasSuffix(last, walkEnding) {
			return false
		}
	}
	switch {
	case len(m.exe) > 0 && !bytes.Equal(m.exe, exe):
		return false
	case m.write && r.Access&abi.AccessWrite == 0:
		return false
	case m.users && r.UID != 0 && (r.UID < 1000 || r.UID > 1999):
		return false
	case m.net && (r.Arg[3] != uint64(m.port) || r.Arg[4] != plainNet || r.Arg[5] != m.addrLow):
		return false
	}
	return true
}
