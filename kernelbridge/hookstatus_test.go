// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/arbiterd/arbiter/docs/kernels"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

var printPage = flag.Bool("page", false, "print the page of this kernel's hooks, for scripts/hooks")

const pageNote = "From the BTF of Debian's cloud-amd64 kernel of this series; `TestHooksOfThisKernel` compares it there."

// The kernel of the guest has no hook that the catalogue does not know, and its page
// in docs/kernels says what is.
func TestHooksOfThisKernel(t *testing.T) {
	series := os.Getenv("ARBITER_VM")
	if series == "" {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	hooks := Hooks(spec)
	page := HooksPage(series, pageNote, hooks)
	if *printPage {
		for line := range strings.Lines(page) {
			fmt.Print("page: ", line)
		}
		return
	}
	if unknown := Unknown(hooks); len(unknown) > 0 {
		t.Errorf("hooks of Linux %s that the catalogue does not have: %v; give each an entry in kernelbridge/catalogue", series, unknown)
	}
	for _, h := range hooks {
		if void := returnsNothing(t, spec, h.Name); h.Present && h.Known && void != (h.Class == catalogue.Void) {
			t.Errorf("hook %s: class %v, but that it returns nothing is %v in the BTF", h.Name, h.Class, void)
		}
	}
	want, err := fs.ReadFile(kernels.Pages, series+".md")
	if errors.Is(err, fs.ErrNotExist) {
		// The newest kernel changes by itself: its hooks were checked above.
		t.Logf("no page for Linux %s yet: scripts/hooks %s writes it", series, series)
		return
	}
	if diff := cmp.Diff(string(want), page); diff != "" {
		t.Errorf("docs/kernels/%s.md differs from this kernel (-page +kernel); write it again with scripts/hooks %s:\n%s", series, series, diff)
	}
}

func returnsNothing(t *testing.T, spec *btf.Spec, hook string) bool {
	t.Helper()
	var fn *btf.Func
	if err := spec.TypeByName("bpf_lsm_"+hook, &fn); err != nil {
		return false
	}
	_, void := fn.Type.(*btf.FuncProto).Return.(*btf.Void)
	return void
}

// The pages say of each hook what the catalogue says, the one of a kernel that no test
// boots too, and each hook is on one of them.
func TestHookPagesFollowTheCatalogue(t *testing.T) {
	onPage := map[string]bool{}
	for _, series := range []string{"6.1", "6.12", "6.18", "7.3"} {
		text, err := fs.ReadFile(kernels.Pages, series+".md")
		if err != nil {
			t.Fatal(err)
		}
		page := string(text)
		if !strings.HasPrefix(page, "# LSM hooks of Linux "+series+"\n") || !strings.Contains(page, pageIntro) || !strings.HasSuffix(page, "\nNone.\n") {
			t.Errorf("%s.md is not as HooksPage writes it, or has unknown hooks", series)
		}
		asks := map[string]bool{}
		for line := range strings.Lines(page) {
			cells := strings.Split(strings.Trim(line, "|\n"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if len(cells) < 3 || cells[0] == "event" || cells[0] == "hook" || strings.HasPrefix(cells[0], "---") {
				continue
			}
			if len(cells) == 3 { // asks for nothing: hook, class, why
				h, ok := catalogue.HookOf(cells[0])
				if !ok || len(h.Events) > 0 || h.Class.String() != cells[1] || h.Note != cells[2] {
					t.Errorf("%s.md: %q, the catalogue has %+v", series, cells, h)
				}
				onPage[h.Name] = true
				continue
			}
			e, isEvent := abi.ParseEvent(cells[0])
			h, ok := catalogue.HookOf(cells[1])
			if !isEvent || !ok || !h.Asks(e) || h.Class.String() != cells[2] {
				t.Errorf("%s.md: %q, the catalogue has %+v", series, cells, h)
			}
			onPage[h.Name], asks[cells[0]+" "+cells[1]] = true, true
		}
		for e := abi.EventOpen; e < abi.EventCount; e++ {
			for _, h := range catalogue.HooksOf(e) {
				if !asks[e.String()+" "+h.Name] {
					t.Errorf("%s.md does not say how %s is asked about at %s", series, e, h.Name)
				}
			}
		}
	}
	for _, h := range catalogue.Hooks() {
		if !onPage[h.Name] {
			t.Errorf("no page has the hook %s: it is of no kernel that the project claims", h.Name)
		}
	}
}

// kernelWith is the BTF of a kernel with these hooks and functions.
func kernelWith(t *testing.T, hooks []string, functions ...string) *btf.Spec {
	t.Helper()
	proto := &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}}
	union := &btf.Union{Name: "security_list_options", Size: 8}
	var types []btf.Type
	for _, h := range hooks {
		union.Members = append(union.Members, btf.Member{Name: h, Type: &btf.Pointer{Target: proto}})
		types = append(types, &btf.Func{Name: "bpf_lsm_" + h, Type: proto, Linkage: btf.GlobalFunc})
	}
	for _, f := range functions {
		types = append(types, &btf.Func{Name: f, Type: proto, Linkage: btf.GlobalFunc})
	}
	b, err := btf.NewBuilder(append(types, union), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, btf.KernelMarshalOptions())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "btf")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := LoadBTF(file)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestHookRungs(t *testing.T) {
	hooks := []string{"file_open", "path_unlink", "task_kill", "capable", "inode_permission", "of_tomorrow"}
	sleep := []string{kfuncSleep, kfuncFile, kfuncTask}
	for _, c := range []struct {
		name      string
		functions []string
		want      map[string]Rung
		why       map[string]string
	}{
		{"no kfunc", nil,
			map[string]Rung{"file_open": RungHot, "path_unlink": RungNeither, "task_kill": RungNeither, "capable": RungNeither},
			map[string]string{"file_open": "no kfunc bpf_get_file_xattr, bpf_get_task_exe_file, bpf_task_from_pid", "path_unlink": "no kfunc bpf_task_work_schedule_signal"}},
		{"one kfunc of the sleep is missing", sleep[:2],
			map[string]Rung{"file_open": RungHot}, map[string]string{"file_open": "no kfunc bpf_task_from_pid"}},
		{"sleep", sleep,
			map[string]Rung{"file_open": RungSleep, "path_unlink": RungNeither}, map[string]string{"file_open": ""}},
		{"sleep and unwind", slices.Concat(sleep, []string{kfuncUnwind}),
			map[string]Rung{"file_open": RungSleep, "path_unlink": RungUnwind, "task_kill": RungUnwind, "capable": RungNeither, "inode_permission": RungNone},
			map[string]string{"capable": "the callers turn the errno into yes or no", "of_tomorrow": unknownHook, "move_mount": absentHook}},
		{"the older name of the unwinding", slices.Concat(sleep, []string{kfuncUnwind + "_impl"}),
			map[string]Rung{"path_unlink": RungUnwind}, map[string]string{"path_unlink": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := map[string]HookStatus{}
			all := Hooks(kernelWith(t, hooks, slices.Concat(c.functions, []string{"bpf_lsm_func_proto"})...))
			for _, h := range all {
				got[h.Name] = h
			}
			for name, rung := range c.want {
				if h := got[name]; h.Rung != rung || !h.Present || !h.Known {
					t.Errorf("%s: got rung %v, want %v (%+v)", name, h.Rung, rung, h)
				}
			}
			for name, why := range c.why {
				if got[name].Why != why {
					t.Errorf("%s: got %q, want %q", name, got[name].Why, why)
				}
			}
			if unknown := Unknown(all); !slices.Equal(unknown, []string{"of_tomorrow"}) {
				t.Errorf("unknown hooks: got %v, want of_tomorrow alone", unknown)
			}
			if h, ok := got["move_mount"]; !ok || h.Present || h.Rung != RungNone {
				t.Errorf("a hook that asks and is not in the kernel: got %+v", h)
			}
			if h, ok := got["inode_mkdir"]; ok {
				t.Errorf("a hook that neither asks nor is in the kernel is listed: %+v", h)
			}
		})
	}
}

// Without the FUSE device a task cannot sleep, and nothing else changes.
func TestHooksWithoutFUSE(t *testing.T) {
	spec := kernelWith(t, []string{"file_open", "path_unlink"}, kfuncSleep, kfuncFile, kfuncTask, kfuncUnwind)
	hooks := Hooks(spec)
	withoutFUSE(hooks, fs.ErrNotExist)
	for _, h := range hooks {
		switch {
		case h.Name == "file_open" && (h.Rung != RungHot || !strings.Contains(h.Why, "modprobe fuse")):
			t.Errorf("file_open: got %v, %q", h.Rung, h.Why)
		case h.Name == "path_unlink" && h.Rung != RungUnwind:
			t.Errorf("path_unlink: got %v, %q", h.Rung, h.Why)
		}
	}
}

func TestLoadBTFRefusesWhatHasNoHooks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "btf")
	if _, err := LoadBTF(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, want %v", err, fs.ErrNotExist)
	}
	if err := os.WriteFile(file, []byte("no BTF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadBTF(file); err == nil {
		t.Error("a file that is no BTF is read")
	}
	b, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, btf.KernelMarshalOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadBTF(file); !errors.Is(err, errNoHooks) {
		t.Errorf("BTF without hooks: got %v, want %v", err, errNoHooks)
	}
}
