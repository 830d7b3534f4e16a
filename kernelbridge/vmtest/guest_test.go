// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inGuest skips a test outside the virtual machine and returns the series of its kernel.
func inGuest(t *testing.T) string {
	t.Helper()
	series := os.Getenv(EnvVM)
	if series == "" {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	return series
}

func TestGuestKernelIsOfTheSeries(t *testing.T) {
	series := inGuest(t)
	got := facts()
	if !inSeries(got.Release, series) {
		t.Errorf("uname -r: got %q, want one of series %q", got.Release, series)
	}
	t.Log(got)
	t.Log(got.Version)
}

func TestGuestHasBPFLSM(t *testing.T) {
	inGuest(t)
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSpace(string(b)), ","); !slices.Contains(got, "bpf") {
		t.Errorf("/sys/kernel/security/lsm: got %q, want bpf among them", got)
	}
}

func TestGuestHasBTF(t *testing.T) {
	inGuest(t)
	b, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 1<<20 || b[0] != 0x9f || b[1] != 0xeb {
		t.Errorf("/sys/kernel/btf/vmlinux: got %d bytes that begin with %x, want over 1 MiB that begin with 9feb", len(b), b[:2])
	}
}

func TestGuestHasTwoCPUs(t *testing.T) {
	inGuest(t)
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(b)); got != "0-1" {
		t.Errorf("CPUs online: got %q, want 0-1 (the guest of make vm has two)", got)
	}
}

func TestGuestMounts(t *testing.T) {
	inGuest(t)
	for dir, magic := range map[string]int64{
		"/proc":                unix.PROC_SUPER_MAGIC,
		"/sys":                 unix.SYSFS_MAGIC,
		"/sys/fs/bpf":          unix.BPF_FS_MAGIC,
		"/sys/fs/cgroup":       unix.CGROUP2_SUPER_MAGIC,
		"/sys/kernel/security": unix.SECURITYFS_MAGIC,
		"/tmp":                 unix.TMPFS_MAGIC,
		"/run":                 unix.TMPFS_MAGIC,
		"/dev":                 unix.TMPFS_MAGIC,
	} {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			t.Errorf("%s: %v", dir, err)
		} else if s.Type != magic {
			t.Errorf("%s: got filesystem %#x, want %#x", dir, s.Type, magic)
		}
	}
}

// FUSE is built in or loaded: `make vm` asks for the module where it is one.
func TestGuestHasFUSE(t *testing.T) {
	inGuest(t)
	if !facts().FUSE {
		t.Error("/proc/filesystems: got no fuse; want it, with -module fuse on kernels where it is a module")
	}
}

func TestGuestHasTestdata(t *testing.T) {
	const want = "the folder of the package's test data comes along\n"
	got, err := os.ReadFile("testdata/marker.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("testdata/marker.txt: got %q, want %q", got, want)
	}
}
