// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// tryVerb executes a file that is refused, so that the same thread can do it again.
func tryVerb(verb, path string) error {
	args, env := []string{path}, os.Environ()
	switch verb {
	case "try":
		return unix.Exec(path, args, env)
	case "trythread": // that is not the first of its process
		result := make(chan error)
		go func() {
			runtime.LockOSThread()
			var cpu unix.CPUSet
			cpu.Set(0) // not next to the worker, where it would not be asked about
			if err := unix.SchedSetaffinity(0, &cpu); err != nil {
				result <- err
				return
			}
			result <- unix.Exec(path, args, env)
		}()
		return <-result
	}
	// As fexecve(3) does: a descriptor and no name.
	fd, err := unix.Open(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags := 0
	if verb == "check" {
		flags = execveCheck
	}
	return execveat(fd, args, env, flags)
}

// execveCheck is AT_EXECVE_CHECK of Linux 6.14.
const execveCheck = 0x10000

// What execve is asked to execute is told apart from what the kernel runs it with, whatever the
// task has tried before.
func TestLSMRoles(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"good": self, "bad": self, "data": []byte("neither a program nor a script"),
		"script": []byte("#!" + tree + "/good\n"), "twice": []byte("#!" + tree + "/script\n"),
		"badscript": []byte("#!" + tree + "/bad\n"), "elf": elfWithInterpreter(t, tree+"/bad"),
	} {
		mustWrite(t, tree+"/"+name, content, 0o755)
	}
	w := startWorker(t, b, nil)
	var asked []string
	w.judge = func(q *abi.Request) unix.Errno {
		if q.Event == abi.EventExec {
			asked = append(asked, fmt.Sprintf("%s %d", bytes.TrimPrefix(q.Path(), []byte(tree+"/")), q.Arg[abi.ArgRole]))
			if bytes.HasSuffix(q.Path(), []byte("/bad")) {
				return unix.EPERM
			}
		}
		return 0
	}
	roles := func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		out := asked
		asked = nil
		return out
	}
	c := startChild(t)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	checks := c.do("check", "/proc/self/exe") != "EINVAL"
	for _, tc := range []struct {
		verb, name, want string
		asked            []string
	}{
		{"exec", "good", "ok", []string{"good 1"}},
		{"exec", "script", "ok", []string{"script 1", "good 2"}},
		{"exec", "twice", "ok", []string{"twice 1", "script 2", "good 2"}},
		{"exec", "elf", "EPERM", []string{"elf 1", "bad 2"}},
		{"try", "badscript", "EPERM", []string{"badscript 1", "bad 2"}},
		{"try", "bad", "EPERM", []string{"bad 1"}},
		{"try", "data", "ENOEXEC", []string{"data 1"}},
		{"try", "elf", "EPERM", []string{"elf 1", "bad 2"}},
		{"tryfd", "bad", "EPERM", []string{"bad 1"}},
		{"tryfd", "elf", "EPERM", []string{"elf 1", "bad 2"}},
		{"tryfd", "badscript", "EPERM", []string{"badscript 1", "bad 2"}},
		{"try", "bad", "EPERM", []string{"bad 1"}},
		{"trythread", "elf", "EPERM", []string{"elf 1", "bad 2"}},
		{"trythread", "bad", "EPERM", []string{"bad 1"}},
		{"check", "bad", "EPERM", []string{"bad 1"}},
		{"check", "badscript", "ok", []string{"badscript 1"}},
		{"try", "badscript", "EPERM", []string{"badscript 1", "bad 2"}},
	} {
		if tc.verb == "check" && !checks {
			tc.want, tc.asked = "EINVAL", nil
		}
		if got := c.do(tc.verb, tree+"/"+tc.name); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.verb, tc.name, got, tc.want)
		}
		if got := roles(); !slices.Equal(got, tc.asked) {
			t.Errorf("%s %s: asked about %q, want %q", tc.verb, tc.name, got, tc.asked)
		}
	}

	// Of what the kernel starts by itself an interpreter may count as the program, and no program as one.
	set := func(file, value string) {
		t.Helper()
		before, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(value), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(file, before, 0); err != nil {
				t.Error(err)
			}
		})
	}
	set("/proc/sys/kernel/modprobe", tree+"/badscript")
	set("/sys/devices/virtual/workqueue/cpumask", "1") // not next to the worker
	may := map[string]string{"badscript": "1", "bad": "2"}
	if namesTell(t) {
		may["bad"] = "1"
	}
	seen := map[string]bool{}
	for range 20 {
		if err := unix.Mount("none", tree, "nosuchfs", 0, ""); !errors.Is(err, unix.ENODEV) {
			t.Fatalf("mounting what the kernel does not know: %v", err)
		}
		for _, got := range roles() {
			name, role, _ := strings.Cut(got, " ")
			seen[name] = true
			if role != may[name] {
				t.Errorf("a helper of the kernel: asked about %q, want role %s", got, may[name])
			}
		}
		if len(seen) == len(may) {
			return
		}
	}
	t.Errorf("a helper of the kernel: of %v asked about %v alone", may, seen)
}

// namesTell reports whether this kernel says of a name where it comes from.
func namesTell(t *testing.T) bool {
	t.Helper()
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	var name *btf.Struct
	if err := spec.TypeByName("filename", &name); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(name.Members, func(m btf.Member) bool { return m.Name == "uptr" })
}

// What is registered with binfmt_misc is an interpreter, opened by then or when it is needed.
func TestLSMRolesOfBinfmtMisc(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	const control = "/proc/sys/fs/binfmt_misc"
	if err := unix.Mount("binfmt_misc", control, "binfmt_misc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(control, unix.MNT_DETACH) })
	tree := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, tree+"/good", self, 0o755)
	mustWrite(t, tree+"/data", []byte("ARBITER and more"), 0o755)
	w := startWorker(t, b, nil)
	var asked []string
	w.judge = func(q *abi.Request) unix.Errno {
		if q.Event == abi.EventExec {
			asked = append(asked, fmt.Sprintf("%s %d", bytes.TrimPrefix(q.Path(), []byte(tree+"/")), q.Arg[abi.ArgRole]))
		}
		return 0
	}
	c := startChild(t)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"", "F"} {
		b.Arm(false)
		if err := os.WriteFile(control+"/register", []byte(":arbiter:M::ARBITER::"+tree+"/good:"+flags), 0); err != nil {
			t.Fatal(err)
		}
		b.Arm(true)
		if got := c.do("exec", tree+"/data"); got != "ok" {
			t.Errorf("flags %q: %s, want ok", flags, got)
		}
		w.mu.Lock()
		got := asked
		asked = nil
		w.mu.Unlock()
		if want := []string{"data 1", "good 2"}; !slices.Equal(got, want) {
			t.Errorf("flags %q: asked about %q, want %q", flags, got, want)
		}
		if err := os.WriteFile(control+"/arbiter", []byte("-1"), 0); err != nil {
			t.Fatal(err)
		}
	}
}
