// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/fanotify"
)

// Outcome of a probe.
type Outcome uint8

// The outcomes. CannotTell is never read as No: its detail says what stood in the
// way.
const (
	CannotTell Outcome = iota
	Yes
	No
)

// String returns "yes", "no" or "cannot tell".
func (o Outcome) String() string { return [...]string{"cannot tell", "yes", "no"}[o] }

// Feature is one thing that the running kernel can or cannot do for this process.
type Feature struct {
	Name    string
	Outcome Outcome
	Detail  string // what was found
	Hint    string // the step that would change a No or CannotTell; may be empty
	// Optional marks what makes a backend better: without it everything is asked about
	// all the same.
	Optional bool
}

// Names of the features that Choose looks at.
const (
	FeatureCPUs     = "a CPU for a worker beside the waiting task"
	FeatureLSM      = "BPF LSM programs"
	FeatureFanotify = "fanotify permission events"
	featureLSMList  = "bpf among the active LSMs"
)

// Probe asks the running kernel what it can do, in the order in which a reader
// wants to know. It loads small programs and throws them away, attaches nothing and
// holds nobody. Most of it needs root; without, the outcome says so.
func Probe() []Feature {
	return []Feature{
		probeKernel(),
		probeCPUs(),
		probePrivilege(),
		probeBTF(),
		probeLSMList(),
		probeLSM(),
		probeHelper("bounded wait in BPF (bpf_loop)", asm.FnLoop, "boot a kernel of 6.1 or later"),
		probeQueue(),
		probeProtection(),
		probeFanotify(),
		probeCgroup(),
		probeRung("a task that waits sleeps", "it polls, for a few milliseconds", "boot a kernel of 6.12 or later", func(l ladder) string { return l.sleep }),
		probeFile("FUSE device, for the gate where it sleeps", fuseDevice, "load the module: modprobe fuse"),
		probeRung("a task that holds locks waits without them", "it waits 10 ms at most", "boot a kernel of 6.18 or later", func(l ladder) string { return l.unwind }),
	}
}

func probeKernel() Feature {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Feature{Name: "kernel", Detail: err.Error()}
	}
	return Feature{Name: "kernel", Outcome: Yes, Detail: fmt.Sprintf("Linux %s, %s", unix.ByteSliceToString(u.Release[:]), runtime.GOARCH)}
}

// probeCPUs asks for a second CPU: a task that waits in a BPF program keeps its own
// to itself, so that no worker could answer it there.
func probeCPUs() Feature {
	f := Feature{Name: FeatureCPUs, Outcome: Yes, Detail: fmt.Sprintf("%d CPUs for this process", runtime.NumCPU())}
	if runtime.NumCPU() < 2 {
		f.Outcome, f.Hint = No, "give the machine, or the daemon's cpuset, a second CPU"
	}
	return f
}

func probePrivilege() Feature {
	f := Feature{Name: "privilege", Hint: "run as root, or give the process CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN and CAP_SYS_NICE"}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		f.Detail = "capget: " + err.Error()
		return f
	}
	effective := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	var missing []string
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}} {
		if effective&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		f.Outcome, f.Detail = No, "missing "+strings.Join(missing, ", ")
		return f
	}
	f.Outcome, f.Detail, f.Hint = Yes, "CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN", ""
	return f
}

func probeBTF() Feature {
	f := Feature{Name: "BTF of the kernel", Outcome: Yes, Detail: "/sys/kernel/btf/vmlinux"}
	if _, err := btf.LoadKernelSpec(); err != nil {
		f.Outcome, f.Detail = No, err.Error()
		f.Hint = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y: every Debian kernel since 11 has it"
	}
	return f
}

func probeLSMList() Feature {
	f := Feature{Name: featureLSMList}
	list, err := os.ReadFile("/sys/kernel/security/lsm")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Detail, f.Hint = "/sys/kernel/security/lsm is not there", "mount -t securityfs securityfs /sys/kernel/security"
	case err != nil:
		f.Detail = err.Error()
	case containsWord(string(list), "bpf"):
		f.Outcome, f.Detail = Yes, strings.TrimSpace(string(list))
	default:
		f.Outcome, f.Detail = No, strings.TrimSpace(string(list))
		f.Hint = fmt.Sprintf("add lsm=%s,bpf to the kernel command line and reboot", f.Detail)
	}
	return f
}

// probeLSM loads a sleepable LSM program that does nothing, which is the very kind
// that the backend loads. Attaching it would be the last proof, and would put it in
// the way of every open of the machine.
func probeLSM() Feature {
	f := Feature{Name: FeatureLSM}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open", Flags: unix.BPF_F_SLEEPABLE, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	switch {
	case err == nil:
		p.Close()
		f.Outcome, f.Detail = Yes, "a sleepable program for file_open loads"
		var u *UnsupportedError
		if errors.As(hostPIDs(), &u) {
			f.Outcome, f.Detail, f.Hint = No, "this process is in a pid namespace of its own", u.Hint
		}
	case errors.Is(err, unix.EPERM) && unix.Geteuid() == 0:
		f.Outcome, f.Detail = No, "the kernel refuses them to root too (EPERM)"
		f.Hint = "this kernel was built or configured to refuse tracing and LSM programs: boot a distribution kernel (Debian 12 or later)"
	case errors.Is(err, unix.EPERM):
		f.Detail, f.Hint = unix.EPERM.Error(), "probe as root"
	default:
		f.Outcome, f.Detail = No, err.Error()
		f.Hint = "boot a kernel of 6.1 or later with CONFIG_BPF_LSM=y"
	}
	return f
}

func probeHelper(name string, fn asm.BuiltinFunc, hint string) Feature {
	return fromError(name, features.HaveProgramHelper(ebpf.Syscall, fn), hint)
}

func probeQueue() Feature {
	return fromError("shared-memory queue (mmapable arrays)", features.HaveMapFlag(features.BPF_F_MMAPABLE), "boot a kernel of 5.5 or later")
}

// fromError turns the outcome of one of cilium/ebpf's probes into a Feature: only nil
// and ErrNotSupported are conclusive.
func fromError(name string, err error, hint string) Feature {
	switch {
	case err == nil:
		return Feature{Name: name, Outcome: Yes}
	case errors.Is(err, ebpf.ErrNotSupported):
		return Feature{Name: name, Outcome: No, Detail: err.Error(), Hint: hint}
	case errors.Is(err, unix.EPERM):
		return Feature{Name: name, Detail: unix.EPERM.Error(), Hint: "probe as root"}
	}
	return Feature{Name: name, Detail: err.Error()}
}

func probeFanotify() Feature {
	ok, why, hint := fanotify.Probe()
	f := Feature{Name: FeatureFanotify, Outcome: No, Detail: why, Hint: hint}
	if ok {
		f.Outcome = Yes
	}
	return f
}

// cgroupMounts are where the cgroup v2 hierarchy is looked for.
var cgroupMounts = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// CgroupRoot returns the mount point of the cgroup v2 hierarchy, empty if there is
// none where it is usually found.
func CgroupRoot() string {
	for _, dir := range cgroupMounts {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// CgroupID returns the id of the cgroup v2 with that path below the mount point.
func CgroupID(path string) (uint64, error) {
	root := CgroupRoot()
	if root == "" {
		return 0, &UnsupportedError{"matching by cgroup", "mount the v2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup/unified", nil}
	}
	var st unix.Stat_t
	if err := unix.Stat(root+"/"+strings.TrimPrefix(path, "/"), &st); err != nil {
		return 0, fmt.Errorf("cgroup %q below %s: %w; create it first", path, root, err)
	}
	return st.Ino, nil // the id of a cgroup is its directory's inode number (kernfs, 64-bit)
}

func probeCgroup() Feature {
	f := Feature{Name: "cgroup v2 (matching by cgroup)", Outcome: Yes, Detail: CgroupRoot()}
	if f.Detail == "" {
		f.Outcome, f.Hint = No, "mount -t cgroup2 none /sys/fs/cgroup/unified"
	}
	return f
}

func probeFile(name, path, hint string) Feature {
	f := Feature{Name: name, Outcome: Yes, Detail: path, Optional: true}
	if _, err := os.Stat(path); err != nil {
		f.Outcome, f.Detail, f.Hint = No, err.Error(), hint
	}
	return f
}

// probeRung looks for what a rung of the wait ladder needs of the kernel.
func probeRung(name, without, hint string, missing func(ladder) string) Feature {
	f := Feature{Name: name, Hint: hint, Optional: true}
	spec, err := LoadBTF("")
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	if what := missing(capabilities(spec)); what != "" {
		f.Outcome, f.Detail = No, what+": "+without
		return f
	}
	f.Outcome, f.Hint = Yes, ""
	return f
}

// Backend names, as the configuration writes them.
const (
	BackendAuto     = "auto"
	BackendLSM      = "bpf-lsm"
	BackendFanotify = "fanotify"
)

// Choose picks a backend and says why: the wanted one, or for BackendAuto the best
// one that works, BPF LSM before fanotify. The error, if there is none, names what
// is missing and the steps that would change it.
func Choose(want string, found []Feature) (backend, why string, err error) {
	byName := map[string]Feature{}
	for _, f := range found {
		byName[f.Name] = f
	}
	lsm, fan := byName[FeatureLSM], byName[FeatureFanotify]
	if list := byName[featureLSMList]; list.Outcome == No && lsm.Outcome == Yes {
		lsm = Feature{FeatureLSM, No, "bpf is not among the active LSMs (" + list.Detail + ")", list.Hint, false}
	}
	if cpus := byName[FeatureCPUs]; cpus.Outcome == No && lsm.Outcome == Yes {
		lsm = Feature{FeatureLSM, No, "there is only one CPU, and the waiting task keeps it", cpus.Hint, false}
	}
	switch want {
	case BackendAuto:
		if lsm.Outcome == Yes {
			return BackendLSM, "BPF LSM works here: " + lsm.Detail, nil
		}
		if fan.Outcome == Yes {
			return BackendFanotify, fmt.Sprintf("no BPF LSM here: %s; %s", lsm.Detail, fan.Detail), nil
		}
		return "", "", fmt.Errorf("choosing a backend: none works here: BPF LSM: %s (%s); fanotify: %s (%s)", lsm.Detail, lsm.Hint, fan.Detail, fan.Hint)
	case BackendLSM:
		if lsm.Outcome == No {
			return "", "", &UnsupportedError{"backend " + BackendLSM, lsm.Hint + "; or set backend: auto", errors.New(lsm.Detail)}
		}
		return BackendLSM, "the configuration asks for it", nil
	case BackendFanotify:
		if fan.Outcome == No {
			return "", "", &UnsupportedError{"backend " + BackendFanotify, fan.Hint + "; or set backend: auto", errors.New(fan.Detail)}
		}
		return BackendFanotify, "the configuration asks for it", nil
	}
	return "", "", fmt.Errorf("choosing a backend: %q is none: write %s, %s or %s", want, BackendAuto, BackendLSM, BackendFanotify)
}
