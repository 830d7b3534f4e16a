// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// optional are hooks that a kernel may lack without a gap, and why.
var optional = map[string]string{
	"file_truncate": "before 6.2 ftruncate(2) asks path_truncate",
}

// hook is one LSM hook and the program on it.
type hook struct {
	name     string
	events   []abi.Event
	programs []string      // in the object, the one for the newest kernels first
	prog     *ebpf.Program // nil: not loaded
	err      error         // why it cannot be
	link     link.Link     // nil: not attached
}

// hookSet is the programs on the LSM hooks and the maps that they share. A program is
// loaded when its event is asked about for the first time, and attached as long as
// it is: a hook that nobody asks about costs nothing. A hook that the running kernel
// does not have, or whose program it does not take, is missing; the others work.
type hookSet struct {
	maps     hooksMaps
	shared   map[string]*ebpf.Map // the same and those of constants, by name
	base     *ebpf.Collection     // holds the latter
	spec     *ebpf.CollectionSpec // of the maps alone
	programs map[string]*ebpf.ProgramSpec
	hooks    []*hook     // by name
	loaded   func(*hook) // is told of each program from now on; may be nil
	log      *slog.Logger
	pins     *pins // nil: nothing outlives the daemon
}

// loadHookSet loads the maps.
func loadHookSet(log *slog.Logger) (_ *hookSet, err error) {
	spec, err := loadHooks()
	if err != nil {
		return nil, fmt.Errorf("reading the LSM programs: %w", err)
	}
	if err := forgetOldKfunc(spec); err != nil {
		return nil, err
	}
	s := &hookSet{spec: spec, programs: spec.Programs, log: log}
	spec.Programs = nil
	if s.base, err = ebpf.NewCollection(spec); err != nil {
		return nil, loadError("maps of the LSM programs", err)
	}
	s.shared = maps.Clone(s.base.Maps)
	if err := s.base.Assign(&s.maps); err != nil {
		s.base.Close()
		return nil, fmt.Errorf("finding the maps of the LSM programs: %w", err)
	}
	byName := map[string]*hook{}
	for _, name := range slices.Sorted(maps.Keys(s.programs)) {
		on := s.programs[name].AttachTo
		h := byName[on]
		if h == nil {
			known, _ := catalogue.HookOf(on)
			h = &hook{name: on, events: known.Events}
			byName[on] = h
			s.hooks = append(s.hooks, h)
		}
		h.programs = append(h.programs, name)
	}
	return s, nil
}

// The kfunc that schedules task work has two names: 6.18 has only the old one, and later
// kernels have that with another type, which the loader takes for a mistake.
const (
	taskWork    = "bpf_task_work_schedule_signal"
	taskWorkOld = "bpf_task_work_schedule_signal_impl"
)

// forgetOldKfunc makes the programs' call of the old name one of a kfunc that no kernel
// has, where the kernel has the new one.
func forgetOldKfunc(spec *ebpf.CollectionSpec) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return &UnsupportedError{"BPF type information", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y", err}
	}
	var fn *btf.Func
	if err := kernel.TypeByName(taskWork, &fn); err != nil {
		return nil // the kernel has at most the old one
	}
	if err := spec.Types.TypeByName(taskWorkOld, &fn); err != nil {
		return fmt.Errorf("reading the LSM programs: %w", err)
	}
	fn.Name = "arb_no_kfunc"
	return nil
}

// load loads the programs of the given events. What cannot be loaded says why in
// unavailable.
func (s *hookSet) load(asked uint64) {
	for _, h := range s.hooks {
		if h.prog != nil || h.err != nil || !h.asks(asked) {
			continue
		}
		for _, name := range h.programs {
			if !fits(name, h.name) {
				continue
			}
			if h.prog, h.err = s.loadProgram(name); h.err == nil {
				break
			}
		}
		if h.err == nil && s.loaded != nil {
			s.loaded(h)
		}
		if h.err != nil {
			h.err = hookError(h.name, h.err)
			s.log.Debug("an LSM hook is not to be had", slog.String("hook", h.name), slog.Any("error", h.err))
		}
	}
}

// fits reports whether a program is the one for the running kernel's hook. inode_setattr
// has got an argument before the others in 6.2, and the verifier lets a program for
// the one read the arguments of the other.
func fits(program, hook string) bool {
	if hook != "inode_setattr" {
		return true
	}
	old := false
	var fn *btf.Func
	if spec, err := LoadBTF(""); err == nil && spec.TypeByName("bpf_lsm_inode_setattr", &fn) == nil {
		proto, ok := fn.Type.(*btf.FuncProto)
		old = ok && len(proto.Params) == 2
	}
	return strings.HasSuffix(program, "_old") == old
}

func (s *hookSet) loadProgram(name string) (*ebpf.Program, error) {
	one := s.spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{name: s.programs[name].Copy()}
	c, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: s.shared})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.DetachProgram(name), nil
}

// hookError says why the program on a hook cannot be used.
func hookError(name string, err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("this kernel has no LSM hook %s", name)
	}
	return loadError("program on the LSM hook "+name, err)
}

// unavailable returns those of the given events that cannot be asked about, and why.
func (s *hookSet) unavailable(asked uint64) map[abi.Event]error {
	s.load(asked)
	out := map[abi.Event]error{}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		if asked>>e&1 != 0 {
			out[e] = errors.New("no program asks about it")
		}
	}
	for _, h := range s.hooks {
		for _, e := range h.events {
			if h.prog != nil {
				delete(out, e)
			}
		}
	}
	for _, h := range s.hooks {
		for _, e := range h.events {
			if h.err != nil && optional[h.name] == "" && asked>>e&1 != 0 {
				out[e] = h.err
			}
		}
	}
	return out
}

// attach attaches the programs of the given events. What is attached on an error stays.
func (s *hookSet) attach(asked uint64) error {
	s.load(asked)
	for _, h := range s.hooks {
		if h.prog == nil || h.link != nil || !h.asks(asked) {
			continue
		}
		l, err := link.AttachLSM(link.LSMOptions{Program: h.prog})
		if err != nil {
			return fmt.Errorf("attaching to the LSM hook %s: %w", h.name, err)
		}
		h.link = l
		if err := s.pins.pin(h.name, l); err != nil {
			return err
		}
	}
	return nil
}

// detachOthers detaches the programs of all other events.
func (s *hookSet) detachOthers(asked uint64) error {
	var errs []error
	for _, h := range s.hooks {
		if h.link != nil && !h.asks(asked) {
			errs = append(errs, s.pins.unpin(h.link), h.link.Close())
			h.link = nil
		}
	}
	return errors.Join(errs...)
}

func (h *hook) asks(asked uint64) bool {
	return slices.ContainsFunc(h.events, func(e abi.Event) bool { return asked>>e&1 != 0 })
}

// close detaches everything and releases the programs and maps.
func (s *hookSet) close() error {
	errs := []error{s.detachOthers(0)}
	for _, h := range s.hooks {
		if h.prog != nil {
			errs = append(errs, h.prog.Close())
			h.prog = nil
		}
	}
	s.base.Close()
	return errors.Join(append(errs, s.maps.Close())...)
}
