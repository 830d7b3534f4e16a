// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// What a backend cannot ask for is named with rule, place and reason.
func TestUnkept(t *testing.T) {
	rs := mustLoad(t, `version: 1
default: deny
scope: {paths: [/srv]}
events: [mount, socket]
rules:
  - {id: files, events: [open, unlink], verdict: deny}
  - id: net
    events: [connect, open]
    verdict: audit
  - {id: net-2, events: [connect], verdict: audit}
`)
	cannot := map[abi.Event]string{abi.EventConnect: "no hook", abi.EventMount: "no hook either", abi.EventSignal: "nobody asks"}
	want := `test.yaml:4:9: the event mount cannot be asked about here: no hook either; take mount out of events, or push with --best-effort: it goes on unasked then
test.yaml:8:13: rule net: the event connect cannot be asked about here: no hook; take connect out of events, or push with --best-effort: it goes on unasked then
test.yaml:10:25: rule net-2: the event connect cannot be asked about here: no hook; take connect out of events, or push with --best-effort: it goes on unasked then`
	if got := rs.Unkept(cannot).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = `the event mount is not asked about: no hook either; the default is not applied to it
the event connect is not asked about: no hook; rules without effect on it: net, net-2`
	if got := strings.Join(rs.UnkeptWarnings(cannot), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	delete(cannot, abi.EventConnect)
	delete(cannot, abi.EventMount)
	if got := rs.Unkept(cannot); len(got) != 0 || len(rs.UnkeptWarnings(cannot)) != 0 {
		t.Errorf("got %v for events that nothing is about, want nothing", got)
	}
}
