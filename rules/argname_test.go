// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// What ArgText writes, ParseArg reads, whatever the argument and the number.
func TestArgTextIsRead(t *testing.T) {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		for _, a := range catalogue.Of(e).Args {
			for _, v := range []uint64{0, 1, 2, 3, 6, 9, 10, 16, 21, 31, 58, 0o644, 4096, 65535, 1 << 32, 1<<64 - 1} {
				text := ArgText(e, a.Name, v)
				got, err := ParseArg(e, a.Name, text)
				if err != nil || got != v {
					t.Errorf("%s of %s: %d is written %s and read as %d, %v", a.Name, e, v, text, got, err)
				}
			}
		}
	}
}

func TestParseArg(t *testing.T) {
	f := func(e abi.Event, name, text string, want uint64, wrong string) {
		t.Helper()
		got, err := ParseArg(e, name, text)
		if err != nil && wrong == "" || err == nil && wrong != "" || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s %s=%s: error %v, want %q", e, name, text, err, wrong)
		}
		if got != want {
			t.Errorf("%s %s=%s: got %d, want %d", e, name, text, got, want)
		}
	}
	f(abi.EventSignal, "signal", "KILL", 9, "")
	f(abi.EventSignal, "signal", "SIGTERM", 15, "")
	f(abi.EventSignal, "signal", "sigkill", 9, "")
	f(abi.EventSignal, "signal", "KIL", 0, "did you mean")
	f(abi.EventCapable, "capability", "CAP_SYS_ADMIN", 21, "")
	f(abi.EventCapable, "capability", "CAP_CHECKPOINT_RESTORE", 40, "")
	f(abi.EventCapable, "capability", "CAP_KILL", 5, "")
	f(abi.EventConnect, "family", "inet", 2, "")
	f(abi.EventConnect, "family", "AF_INET6", 10, "")
	f(abi.EventConnect, "family", "unix", 1, "")
	f(abi.EventConnect, "port", "443", 443, "")
	f(abi.EventConnect, "port", "https", 0, "write a number such as 443")
	f(abi.EventConnect, "prot", "1", 0, "connect has family, type")
	f(abi.EventUserNSCreate, "uid", "1", 0, "userns_create has none")
	f(abi.EventNone, "uid", "1", 0, "no argument")
	f(abi.EventChmod, "mode", "0o755", 0o755, "")
	f(abi.EventChmod, "mode", "0755", 0, "0o755")
	f(abi.EventSetUID, "uid", "-1", 0, "0xffffffff if it has 32 bits")
	f(abi.EventSetUID, "uid", "", 0, "write a number")
	f(abi.EventPtrace, "mode", "attach", 2, "")
	f(abi.EventBPFMap, "mode", "write", 2, "")
	f(abi.EventPrctl, "arg2", "0xffffffffffffffff", 1<<64-1, "")
	f(abi.EventPrctl, "arg2", "0x10000000000000000", 0, "the largest number")
}

func TestSetArg(t *testing.T) {
	for role, wrong := range map[uint64]string{0: "give program or interpreter", 1: "", 2: "", 3: "the role 3 is none"} {
		r := &abi.Request{Event: abi.EventExec}
		if err := SetArg(r, "role", role); (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("role %d: %v, want %q", role, err, wrong)
		}
	}
	if err := SetArg(&abi.Request{Event: abi.EventOpen}, "role", 1); err == nil || !strings.Contains(err.Error(), "no argument role") {
		t.Errorf("role of an open: %v", err)
	}
}
