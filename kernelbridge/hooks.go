// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// lacksNothing reports whether a hook without a program is no gap: the kernel does not have
// it, and asks elsewhere.
func lacksNothing(hook string, err error) bool {
	return optional[hook] != "" && errors.Is(err, errNoHook)
}

// optional are hooks that a kernel may lack without a gap, and why.
var optional = map[string]string{
	"file_truncate":    "before 6.2 ftruncate(2) asks path_truncate",
	"inode_set_acl":    "before 6.2 ACLs are set by inode_setxattr",
	"inode_remove_acl": "before 6.2 ACLs are removed by inode_removexattr",
}

// hook is one LSM hook and the program on it.
type hook struct {
	name   string
	events []abi.Event
	prog   *ebpf.Program // nil: not loaded
	err    error         // why it cannot be
	link   link.Link     // nil: not attached
}

// hookSet is the programs on the LSM hooks and the maps that they share. A program is
// loaded when its event is asked about for the first time, and attached as long as
// it is: a hook that nobody asks about costs nothing.
type hookSet struct {
	object *object
	maps   hooksMaps
	hooks  []*hook     // by name
	loaded func(*hook) // is told of each program from now on; may be nil
	log    *slog.Logger
	pins   *pins // nil: nothing outlives the daemon
	hidden bool  // see addressesHidden
}

// loadHookSet loads the maps.
func loadHookSet(log *slog.Logger) (*hookSet, error) {
	spec, err := loadHooks()
	if err != nil {
		return nil, fmt.Errorf("reading the LSM programs: %w", err)
	}
	if err := forgetOldKfunc(spec); err != nil {
		return nil, err
	}
	s := &hookSet{log: log, hidden: addressesHidden()}
	if s.hidden {
		forgetAddresses(spec.Programs)
		log.Warn("the kernel hides its addresses: it keeps no verdicts by itself, and owners of files are not known",
			slog.String("hint", hiddenHint))
	}
	if s.object, err = openObject(spec, &s.maps); err != nil {
		return nil, loadError("maps of the LSM programs", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.object.hooks)) {
		known, _ := catalogue.HookOf(name)
		s.hooks = append(s.hooks, &hook{name: name, events: known.Events})
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
	var missing []*hook
	var names []string
	for _, h := range s.hooks {
		if h.prog == nil && h.err == nil && h.asks(asked) {
			missing = append(missing, h)
			names = append(names, h.name)
		}
	}
	s.object.load(names, func(i int, p *ebpf.Program, err error) {
		h := missing[i]
		h.prog, h.err = p, err
		if err != nil {
			s.log.Debug("an LSM hook is not to be had", slog.String("hook", h.name), slog.Any("error", err))
		} else if s.loaded != nil {
			s.loaded(h)
		}
	})
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
			if h.err != nil && !lacksNothing(h.name, h.err) && asked>>e&1 != 0 {
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
	s.object.close()
	return errors.Join(append(errs, s.maps.Close())...)
}
