// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// numberNames are the names that the numbers of an argument have, so that rules need
// not spell them. Case does not matter, and the prefix can be left out.
type numberNames struct {
	prefix string
	// The names without the prefix; "" where a number has none.
	names map[uint64]string
	// The numbers are bits, so that a sum of them has no name.
	bits bool
	// Numbers without a name are written in octal.
	octal bool
}

// counted gives the names the numbers from first on.
func counted(first uint64, names string) map[uint64]string {
	m := map[uint64]string{}
	for i, n := range strings.Fields(names) {
		m[first+uint64(i)] = n
	}
	return m
}

// asBits gives each name the bit of its number.
func asBits(names map[uint64]string) map[uint64]string {
	m := map[uint64]string{}
	for n, name := range names {
		m[1<<n] = name
	}
	return m
}

var capabilityNames = counted(0, `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
		LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
		SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
		WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// numbering is an index into numberings: which names the numbers of an argument have.
type numbering uint8

const (
	plainNumbers numbering = iota
	fileModes
	fileBits
	signals
	capabilities
	capabilityBits
	namespaceBits
	families
	socketTypes
	protocols
	readKinds
	renameFlags
	xattrFlags
	protections
	mappingFlags
	unmountFlags
	traceModes
	mapModes
	bpfCommands
	mountFlags
	prctlOptions
	execRoles
)

var numberings = [...]numberNames{
	fileModes: {octal: true, bits: true},
	fileBits: {octal: true, bits: true, names: map[uint64]string{0o4000: "setuid", 0o2000: "setgid", 0o1000: "sticky",
		0o400: "user_read", 0o200: "user_write", 0o100: "user_exec", 0o40: "group_read", 0o20: "group_write", 0o10: "group_exec",
		0o4: "other_read", 0o2: "other_write", 0o1: "other_exec"}},
	signals: {prefix: "SIG", names: counted(1, `HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT
		CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS`)},
	capabilities:   {prefix: "CAP_", names: capabilityNames},
	capabilityBits: {prefix: "CAP_", bits: true, names: asBits(capabilityNames)},
	namespaceBits:  {bits: true, names: asBits(counted(0, strings.Join(abi.NamespaceNames[:], " ")))},
	families: {prefix: "AF_", names: map[uint64]string{0: "unspec", 1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet",
		31: "bluetooth", 38: "alg", 40: "vsock", 44: "xdp"}},
	socketTypes:  {prefix: "SOCK_", names: map[uint64]string{1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}},
	protocols:    {prefix: "IPPROTO_", names: map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}},
	readKinds:    {names: counted(0, "unknown firmware module kexec_image kexec_initramfs policy certificate")},
	renameFlags:  {prefix: "RENAME_", bits: true, names: map[uint64]string{1: "NOREPLACE", 2: "EXCHANGE", 4: "WHITEOUT"}},
	xattrFlags:   {prefix: "XATTR_", bits: true, names: map[uint64]string{1: "CREATE", 2: "REPLACE"}},
	protections:  {prefix: "PROT_", bits: true, names: map[uint64]string{1: "READ", 2: "WRITE", 4: "EXEC"}},
	mappingFlags: {prefix: "MAP_", bits: true, names: map[uint64]string{1: "SHARED", 2: "PRIVATE", 0x10: "FIXED", 0x20: "ANONYMOUS"}},
	unmountFlags: {prefix: "MNT_", bits: true, names: map[uint64]string{1: "FORCE", 2: "DETACH", 4: "EXPIRE"}},
	traceModes:   {prefix: "PTRACE_MODE_", bits: true, names: map[uint64]string{1: "READ", 2: "ATTACH"}},
	mapModes:     {bits: true, names: map[uint64]string{1: "read", 2: "write"}},
	bpfCommands:  {prefix: "BPF_", names: counted(0, "MAP_CREATE MAP_LOOKUP_ELEM MAP_UPDATE_ELEM MAP_DELETE_ELEM MAP_GET_NEXT_KEY PROG_LOAD OBJ_PIN OBJ_GET PROG_ATTACH PROG_DETACH")},
	mountFlags: {prefix: "MS_", bits: true, names: map[uint64]string{1: "RDONLY", 2: "NOSUID", 4: "NODEV", 8: "NOEXEC", 32: "REMOUNT",
		1 << 12: "BIND", 1 << 13: "MOVE", 1 << 14: "REC", 1 << 17: "UNBINDABLE", 1 << 18: "PRIVATE", 1 << 19: "SLAVE", 1 << 20: "SHARED"}},
	prctlOptions: {prefix: "PR_", names: map[uint64]string{1: "SET_PDEATHSIG", 4: "SET_DUMPABLE", 8: "SET_KEEPCAPS", 15: "SET_NAME",
		22: "SET_SECCOMP", 24: "CAPBSET_DROP", 28: "SET_SECUREBITS", 35: "SET_MM", 38: "SET_NO_NEW_PRIVS", 47: "CAP_AMBIENT"}},
	execRoles:    {names: map[uint64]string{uint64(abi.RoleProgram): "program", uint64(abi.RoleInterpreter): "interpreter"}},
	plainNumbers: {},
}

// namesOf returns the names of an argument's numbers.
func namesOf(e abi.Event, arg string) numbering {
	switch arg {
	case "signal":
		return signals
	case "capability":
		return capabilities
	case "family":
		return families
	case "protocol":
		return protocols
	case "kind":
		return readKinds
	case "prot":
		return protections
	case "option":
		return prctlOptions
	case "role":
		return execRoles
	case "type":
		if e != abi.EventBPFMap && e != abi.EventBPFProg {
			return socketTypes
		}
	case "command":
		if e == abi.EventBPF {
			return bpfCommands
		}
	case "mode":
		switch e {
		case abi.EventPtrace:
			return traceModes
		case abi.EventBPFMap:
			return mapModes
		}
		return fileModes
	case "flags":
		switch e {
		case abi.EventRename:
			return renameFlags
		case abi.EventSetXattr:
			return xattrFlags
		case abi.EventMMapExec:
			return mappingFlags
		case abi.EventMount:
			return mountFlags
		case abi.EventUmount:
			return unmountFlags
		}
	}
	return plainNumbers
}

// find returns the number of a name.
func (of numbering) find(name string) (uint64, bool) {
	n := &numberings[of]
	upper := strings.ToUpper(name)
	short := strings.TrimPrefix(upper, n.prefix)
	for v, s := range n.names {
		if s = strings.ToUpper(s); s == upper || s == short {
			return v, true
		}
	}
	return 0, false
}

// text writes a number by its name, if it has one.
func (of numbering) text(v uint64) string {
	n := &numberings[of]
	switch name := n.names[v]; {
	case name != "" && strings.ToUpper(name) == name:
		return n.prefix + name
	case name != "":
		return name
	case n.octal:
		return "0o" + strconv.FormatUint(v, 8)
	case n.bits || v > 1<<32:
		return "0x" + strconv.FormatUint(v, 16)
	}
	return strconv.FormatUint(v, 10)
}

// named reports whether there are names.
func (of numbering) named() bool { return len(numberings[of].names) > 0 }

// words lists the names for messages, as they would be written.
func (of numbering) words() []string {
	var out []string
	for v := range numberings[of].names {
		out = append(out, of.text(v))
	}
	slices.Sort(out)
	return out
}

// notSpelled is the hint about what is no number.
const notSpelled = "write a number such as 443, 0x1f or 0o755"

// parseNumber reads a number: decimal, 0x hexadecimal, or 0o octal. A hint that is not
// empty says what is wrong.
func parseNumber(s string) (uint64, string) {
	digits, base := s, 10
	if len(s) > 2 && s[0] == '0' {
		switch s[1] {
		case 'x', 'X':
			digits, base = s[2:], 16
		case 'o', 'O':
			digits, base = s[2:], 8
		}
	}
	if base == 10 {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n < 0 {
			return 0, fmt.Sprintf("numbers have no sign here: write 0x%x, or 0x%x if it has 32 bits", uint64(n), uint32(n))
		}
		if strings.Trim(s, "0123456789") != "" {
			return 0, notSpelled
		}
		if len(s) > 1 && s[0] == '0' {
			return 0, "write 0o" + strings.TrimLeft(s, "0") + " for octal, or leave the leading zeros out for decimal"
		}
	}
	v, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		if strings.Trim(digits, "0123456789abcdefABCDEF") == "" && digits != "" && err.(*strconv.NumError).Err == strconv.ErrRange {
			return 0, "the largest number is 0xffffffffffffffff"
		}
		return 0, notSpelled
	}
	return v, ""
}

// ParseArg returns the value of an event's argument that text spells, as rules write
// it. The error says what to write instead.
func ParseArg(e abi.Event, name, text string) (uint64, error) {
	ev := catalogue.Of(e)
	if ev == nil || ev.Arg(name) < 0 {
		return 0, fmt.Errorf("the event %s has no argument %s: %s", e, bare(name), argsOf(setOf(e)))
	}
	v, hint := number(namesOf(e, name), text)
	if hint != "" {
		return 0, fmt.Errorf("the argument %s cannot be %s: %s", name, quote(text), hint)
	}
	return v, nil
}

// SetArg sets an argument of r by its name. The error says which the event has, and that there is
// no such role.
func SetArg(r *abi.Request, name string, value uint64) error {
	ev := catalogue.Of(r.Event)
	if ev == nil || ev.Arg(name) < 0 {
		return fmt.Errorf("the event %s has no argument %s: %s", r.Event, bare(name), argsOf(setOf(r.Event)))
	}
	r.Arg[ev.Arg(name)] = value
	if r.Event == abi.EventExec && value != uint64(abi.RoleProgram) && value != uint64(abi.RoleInterpreter) {
		return fmt.Errorf("the role %d is none: give program or interpreter", value)
	}
	return nil
}

// number reads a name or a number.
func number(names numbering, s string) (uint64, string) {
	if v, ok := names.find(s); ok {
		return v, ""
	}
	v, hint := parseNumber(s)
	if hint != "" && names.named() && s != "" && (s[0] < '0' || s[0] > '9') && s[0] != '-' {
		near := suggest(s, names.words())
		if near == "" && numberings[names].prefix != "" {
			near = suggest(numberings[names].prefix+s, names.words())
		}
		if near != "" {
			return 0, "did you mean " + near + "? a number can be written too"
		}
		return 0, "write a number, or a name such as " + names.example()
	}
	return v, hint
}

// example is a name for messages, always the same one.
func (of numbering) example() string {
	least := ^uint64(0)
	for v := range numberings[of].names {
		if v > 0 {
			least = min(least, v)
		}
	}
	return of.text(least)
}

// ArgText writes the value of an event's argument as rules can: by its name, if it has
// one.
func ArgText(e abi.Event, name string, value uint64) string { return namesOf(e, name).text(value) }

// argsOf says for each event which arguments it has.
func argsOf(s eventSet) string {
	var parts []string
	for _, e := range s.list() {
		names := argNames(setOf(e))
		if len(names) == 0 {
			parts = append(parts, e.String()+" has none")
		} else {
			parts = append(parts, e.String()+" has "+strings.Join(names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}
