// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// What a hook does before it asks, without one: who is asked about, and how long it takes
// to know.
func TestNativeHook(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: MaxWait})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const open, exec = 1 << abi.EventOpen, 1 << abi.EventExec
	uid := uint32(unix.Getuid())
	took := make([]uint64, 2000)
	f := func(name string, on bool, asked uint64, s Scope, want bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if err := n.Arm(on, asked, s); err != nil {
				t.Fatal(err)
			}
			got, err := n.RunHook(-1, took)
			if err != nil || got != want {
				t.Errorf("got %t, %v, want a question: %t", got, err, want)
			}
			slices.Sort(took)
			t.Attr("seen", "p50 "+time.Duration(took[len(took)/2]).String()+", p99 "+time.Duration(took[len(took)*99/100]).String())
		})
	}
	here, elsewhere := Scope{Trees: []string{filepath.Dir(exe)}}, Scope{Trees: []string{t.TempDir()}}
	f("nobody there", false, open, here, false)
	f("no rule about opens", true, exec, here, false)
	f("no scope", true, open, Scope{}, false)
	f("another user", true, open, Scope{UIDs: []IDRange{{uid + 1, uid + 1}}}, false)
	f("another tree", true, open, elsewhere, false)
	f("in the tree", true, open, here, true)
	f("both scopes in the maps", true, open|exec, elsewhere, false)
	f("the user", true, open, Scope{UIDs: []IDRange{{uid, uid}}}, true)

	if err := n.Arm(true, open, Scope{Trees: []string{"/nowhere"}, ProcessTrees: []string{exe}}); err == nil ||
		!strings.Contains(err.Error(), "/nowhere") || !strings.Contains(err.Error(), "process trees") {
		t.Errorf("got %v, want both mistakes named", err)
	}
}
