// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// The default mutes: pid 1, our own cgroup and the services are left alone, whatever is
// inverted; what a service executes is asked about.
func TestLSMDefaultMutes(t *testing.T) {
	s := scopeMachine(t)
	scope := Scope{Trees: []string{s.tree}}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s.tree+"/prog", self, 0o755)
	mustCgroup(t, "/system.slice")
	var dirs []string
	for _, m := range catalogue.Mutes() {
		for _, path := range m.Cgroups {
			dir, _ := mustCgroup(t, path)
			dirs = append(dirs, dir)
		}
	}
	below, _ := mustCgroup(t, "/system.slice/systemd-udevd.service/udev")
	other, _ := mustCgroup(t, "/system.slice/other.service")
	t.Cleanup(func() { moveTo(t, CgroupRoot(), s.c.cmd.Process.Pid) })
	for _, mute := range []Mute{{}, {Scope: Scope{UIDs: []IDRange{{0, 0}}}, Invert: DimUIDs}} {
		s.configure(scope, mute)
		for _, dir := range append(slices.Clone(dirs), below) {
			moveTo(t, dir, s.c.cmd.Process.Pid)
			if s.asked("read", s.tree+"/f") {
				t.Errorf("in %s: asked about an open", dir)
			}
			if !s.asked("exec", s.tree+"/prog") {
				t.Errorf("in %s: not asked about an exec", dir)
			}
		}
		moveTo(t, other, s.c.cmd.Process.Pid)
		if !s.asked("read", s.tree+"/f") {
			t.Error("in another service: not asked")
		}
	}
	// Taken away by name.
	for _, m := range catalogue.Mutes() {
		if len(m.Cgroups) == 0 {
			continue
		}
		s.configure(scope, Mute{Unmute: []string{m.Name}})
		for _, path := range m.Cgroups {
			moveTo(t, CgroupRoot()+path, s.c.cmd.Process.Pid)
			if !s.asked("read", s.tree+"/f") {
				t.Errorf("unmuted %s: not asked", m.Name)
			}
		}
		if m.Name != "dbus" {
			moveTo(t, CgroupRoot()+"/system.slice/dbus.service", s.c.cmd.Process.Pid)
			if s.asked("read", s.tree+"/f") {
				t.Errorf("unmuted %s alone: dbus is asked about", m.Name)
			}
		}
		for _, state := range s.b.Mutes() {
			if want := state.Name != m.Name && state.Name != catalogue.MuteDaemon; state.InForce != want {
				t.Errorf("unmuted %s: %s in force %v (%s), want %v", m.Name, state.Name, state.InForce, state.Why, want)
			}
		}
	}
	// A service that is restarted has another cgroup.
	s.configure(scope, Mute{})
	journald := CgroupRoot() + "/system.slice/systemd-journald.service"
	moveTo(t, other, s.c.cmd.Process.Pid)
	if err := os.Remove(journald); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(journald, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.b.refresh(); err != nil {
		t.Fatal(err)
	}
	moveTo(t, journald, s.c.cmd.Process.Pid)
	if s.asked("read", s.tree+"/f") {
		t.Error("a service that was restarted is asked about")
	}
	// The daemon's own cgroup, when it has one to itself.
	own, _ := mustCgroup(t, "/arb-daemon")
	moveTo(t, own, os.Getpid())
	t.Cleanup(func() { moveTo(t, CgroupRoot(), os.Getpid()) })
	moveTo(t, own, s.c.cmd.Process.Pid)
	s.configure(scope, Mute{})
	if s.asked("read", s.tree+"/f") || s.asked("exec", s.tree+"/prog") {
		t.Error("a child in the daemon's own cgroup is asked about")
	}
	if i := slices.IndexFunc(s.b.Mutes(), func(m MuteState) bool { return m.Name == catalogue.MuteDaemon }); !s.b.Mutes()[i].InForce {
		t.Errorf("the daemon's own cgroup: %+v", s.b.Mutes()[i])
	}
	s.configure(scope, Mute{Unmute: []string{catalogue.MuteDaemon}})
	if !s.asked("read", s.tree+"/f") {
		t.Error("the daemon's own cgroup unmuted: not asked")
	}
	moveTo(t, own, 1) // somebody else's process
	t.Cleanup(func() { moveTo(t, CgroupRoot(), 1) })
	s.configure(scope, Mute{})
	if !s.asked("read", s.tree+"/f") {
		t.Error("a cgroup that the daemon shares is muted")
	}
}

// Process 1 is left alone unless that is taken away. What it does is decided in the kernel
// here: nobody may hold it.
func TestLSMInitIsMuted(t *testing.T) {
	s := scopeMachine(t)
	p := asking(abi.EventSignal)
	p.Rules[abi.EventSignal] = []abi.KernelRule{{Rule: -1}}
	for _, muted := range []bool{true, false} {
		if !muted {
			p.Mute.Unmute = []string{catalogue.MuteInit}
		}
		if err := s.b.Configure(Scope{UIDs: []IDRange{{0, 0}}}, p); err != nil {
			t.Fatal(err)
		}
		before, err := s.b.Counts(abi.EventSignal)
		if err == nil {
			err = killByInit(s.c.cmd.Process.Pid, unix.SIGCONT)
		}
		after, again := s.b.Counts(abi.EventSignal)
		if err != nil || again != nil {
			t.Fatal(err, again)
		}
		if asked := after.Asked != before.Asked; asked == muted || after.Asked != after.Decided {
			t.Errorf("a signal of process 1, muted %t: asked about %d times before, %d after, %d decided in the kernel", muted, before.Asked, after.Asked, after.Decided)
		}
	}
}
