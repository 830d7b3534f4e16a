// SPDX-License-Identifier: Apache-2.0

package catalogue

// Mute is one of the processes that are left alone unless a rule set says otherwise: were
// they held, the daemon, or the whole machine, could wait for itself.
type Mute struct {
	Name string // as mute.unmute of a rule file has it
	What string // for people
	// Cgroups are where it runs, below the mount point. A program that it starts is asked
	// about when it is executed: the mute is no way around a rule about exec.
	Cgroups []string
}

// MuteInit and MuteDaemon are the names of the default mutes that are no service.
const (
	MuteInit   = "init"
	MuteDaemon = "daemon"
)

// Mutes returns the default mutes. Services are identified by cgroup, which only root can
// enter, and not by program: anybody can run a program with a library of their own.
func Mutes() []Mute {
	service := func(name, what string, units ...string) Mute {
		m := Mute{Name: name, What: what}
		for _, unit := range units {
			m.Cgroups = append(m.Cgroups, "/system.slice/"+unit)
		}
		return m
	}
	return []Mute{
		{Name: MuteInit, What: "pid 1"},
		{Name: MuteDaemon, What: "the daemon's own cgroup, when nobody else is in it"},
		service("udevd", "the device manager", "systemd-udevd.service"),
		service("journald", "the journal, which the daemon logs to", "systemd-journald.service"),
		service("auditd", "the audit daemon, which the kernel waits for", "auditd.service"),
		service("dbus", "the system message bus, which pid 1 waits for", "dbus.service", "dbus-broker.service"),
	}
}
