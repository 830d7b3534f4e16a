// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

func TestKept(t *testing.T) {
	open := func(access abi.Access) func(*abi.Request) { return func(r *abi.Request) { r.Access = access } }
	for _, tc := range []struct {
		name, rules string
		event       abi.Event
		more        func(*abi.Request)
		inKernel    bool
		worker      string // why not
		kernel      string
	}{
		{"an allow", "{id: a, events: [open], object: {path: /x}, subject: {exe: /exe}, verdict: allow}", abi.EventOpen, open(abi.AccessRead), false, "", ""},
		{"the default", "{id: a, events: [open], object: {path: /y}, subject: {exe: /exe}, verdict: deny}", abi.EventOpen, open(abi.AccessRead), false, "", ""},
		{"an open for writing", "{id: a, events: [open], object: {path: /x}, subject: {exe: /exe}, verdict: allow}", abi.EventOpen, open(abi.AccessWrite), false, "", "of opens it keeps those for reading alone"},
		{"a refusal", "{id: a, events: [open], object: {path: /x}, verdict: deny}", abi.EventOpen, open(abi.AccessRead), false, "", "it keeps plain allows alone"},
		{"a record", "{id: a, events: [open], object: {path: /x}, verdict: audit}", abi.EventOpen, open(abi.AccessRead), false, "", "it keeps plain allows alone"},
		{"a size elsewhere", "{id: a, events: [exec], object: {path: /x}, subject: {exe: /exe}, verdict: allow}|{id: b, events: [exec], object: {size: 5-}, verdict: deny}", abi.EventExec, nil, false, "", "rules about exec look at size, which it cannot compare"},
		{"a content elsewhere", "{id: a, events: [exec], object: {path: /x}, subject: {exe: /exe}, verdict: allow}|{id: b, events: [exec], object: {sha256: " + sumA + "}, verdict: deny}", abi.EventExec, nil, false, "", "rules about exec look at sha256, which it cannot compare"},
		{"once", "{id: a, events: [open], object: {path: /x}, lifespan: once, verdict: allow}", abi.EventOpen, open(abi.AccessRead), false, "the rule decides once", "the rule decides once"},
		{"a question", "{id: a, events: [open], object: {path: /x}, verdict: ask}", abi.EventOpen, open(abi.AccessRead), false, "somebody is asked, who says for how long an answer counts", "somebody is asked, who says for how long an answer counts"},
		{"another event", "{id: a, events: [unlink], object: {path: /x}, subject: {exe: /exe}, verdict: allow}", abi.EventUnlink, nil, false, "", "it keeps exec and open alone"},
		{"ids alone", "{id: a, events: [unlink], subject: {uid: 0}, verdict: deny}", abi.EventUnlink, nil, true, "", ""},
		{"ids alone, the default", "{id: a, events: [unlink], subject: {uid: 1}, verdict: deny}", abi.EventUnlink, nil, true, "", ""},
		{"a path", "{id: a, events: [exec], object: {path: [/y, /x]}, verdict: allow}", abi.EventExec, nil, true, "", ""},
		{"below a path", "{id: a, events: [exec], object: {path: {prefix: /}}, verdict: allow}", abi.EventExec, nil, true, "", ""},
		{"a glob that is one", "{id: a, events: [exec], object: {path: {glob: /**}}, verdict: allow}", abi.EventExec, nil, true, "", ""},
		{"within a folder", "{id: a, events: [exec], object: {path: {glob: /*}}, verdict: allow}", abi.EventExec, nil, true, "", ""},
		{"another glob", "{id: a, events: [exec], object: {path: {glob: /*x}}, verdict: allow}", abi.EventExec, nil, false, "", ""},
		{"a long path", "{id: a, events: [exec], object: {path: [/x, /" + strings.Repeat("y", abi.KernelPatternBytes) + "]}, verdict: allow}", abi.EventExec, nil, false, "", ""},
		{"many paths", "{id: a, events: [exec], object: {path: [/x" + strings.Repeat(", /y", abi.MaxKernelPatterns) + "]}, verdict: allow}", abi.EventExec, nil, false, "", ""},
		{"refused by a path", "{id: a, events: [unlink], object: {path: /x}, verdict: deny}", abi.EventUnlink, nil, false, "", "it keeps exec and open alone"},
		{"behind what is refused by a path", "{id: a, events: [unlink], object: {path: /y}, verdict: deny}", abi.EventUnlink, nil, true, "", ""},
		{"ids before a path", "{id: a, events: [unlink], subject: {uid: 1}, verdict: deny}|{id: b, events: [unlink], object: {path: /x}, verdict: deny}", abi.EventUnlink, nil, false, "", "it keeps exec and open alone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rs := mustLoad(t, head+"rules:\n- "+strings.ReplaceAll(tc.rules, "|", "\n- ")+"\n")
			r := request(tc.event, "/x", "/exe", tc.more)
			k := rs.Kept(r, rs.Decide(r))
			if k.InKernel != tc.inKernel {
				t.Fatalf("decided in the kernel: got %v, want %v", k.InKernel, tc.inKernel)
			}
			if !k.InKernel && (k.NotByWorker != tc.worker || k.NotByKernel != tc.kernel) {
				t.Errorf("got %q, %q; want %q, %q", k.NotByWorker, k.NotByKernel, tc.worker, tc.kernel)
			}
		})
	}
}
