// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// object is a BPF object whose programs are loaded on their own, each for an LSM hook:
// one that the running kernel does not have, or whose program it does not take, leaves
// the others.
type object struct {
	maps     map[string]*ebpf.Map // those of constants, too
	base     *ebpf.Collection     // holds the latter
	spec     *ebpf.CollectionSpec // without programs
	programs map[string]*ebpf.ProgramSpec
	hooks    map[string][]string // programs by hook, the one for the newest kernels first
}

// openObject makes the maps, and sets those of to, a pointer to a struct.
func openObject(spec *ebpf.CollectionSpec, to any) (*object, error) {
	o := &object{spec: spec, programs: spec.Programs, hooks: map[string][]string{}}
	spec.Programs = nil
	for _, name := range slices.Sorted(maps.Keys(o.programs)) {
		on := o.programs[name].AttachTo
		o.hooks[on] = append(o.hooks[on], name)
	}
	var err error
	if o.base, err = ebpf.NewCollection(spec); err != nil {
		return nil, err
	}
	o.maps = maps.Clone(o.base.Maps)
	if err := o.base.Assign(to); err != nil {
		o.base.Close()
		return nil, fmt.Errorf("finding the maps: %w", err)
	}
	return o, nil
}

// load loads a program for each of the given hooks, on all CPUs: the verifier takes its
// time for each, and does not mind the others. Workers that answer meanwhile go first.
// done is told of each in turn: the index of the hook, its program or why there is none.
func (o *object) load(hooks []string, done func(i int, p *ebpf.Program, err error)) {
	types := btf.NewCache() // of the kernel: reading them takes longer than most programs
	free := make(chan struct{}, runtime.NumCPU())
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, hook := range hooks {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			runtime.LockOSThread() // never unlocked: the thread ends with its priority
			_ = unix.Setpriority(unix.PRIO_PROCESS, 0, loaderNice)
			p, err := o.loadFirst(hook, types)
			mu.Lock()
			defer mu.Unlock()
			done(i, p, err)
		})
	}
	wg.Wait()
}

// loaderNice is the lowest of the ordinary priorities.
const loaderNice = 19

// loadFirst loads the first program for a hook that this kernel takes.
func (o *object) loadFirst(hook string, types *btf.Cache) (p *ebpf.Program, err error) {
	for _, name := range o.hooks[hook] {
		if !fits(name, hook, types) {
			continue
		}
		if p, err = o.loadProgram(name, types); err == nil {
			return p, nil
		}
	}
	return nil, hookError(hook, err)
}

// fits reports whether a program is the one for the running kernel's hook. inode_setattr
// has got an argument before the others in 6.2, and the verifier lets a program for
// the one read the arguments of the other.
func fits(program, hook string, types *btf.Cache) bool {
	if hook != "inode_setattr" {
		return true
	}
	old := false
	var fn *btf.Func
	if spec, err := types.Kernel(); err == nil && spec.TypeByName("bpf_lsm_inode_setattr", &fn) == nil {
		proto, ok := fn.Type.(*btf.FuncProto)
		old = ok && len(proto.Params) == 2
	}
	return strings.HasSuffix(program, "_old") == old
}

func (o *object) loadProgram(name string, types *btf.Cache) (*ebpf.Program, error) {
	// Nothing that we look at is a module's type. To look among those as well would not only
	// take time: decoding the types of a module writes to those of the kernel without their
	// lock (cilium/ebpf v0.22, btf.decoder.inflateType), while another program is loaded.
	kernel, err := types.Kernel()
	if err != nil {
		return nil, err
	}
	one := o.spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{name: o.programs[name].Copy()}
	c, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{
		MapReplacements: o.maps, Cache: types, Programs: ebpf.ProgramOptions{KernelTypes: kernel}})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.DetachProgram(name), nil
}

// errNoHook is that the running kernel lacks a hook.
var errNoHook = errors.New("this kernel has no LSM hook")

// hookError says why the program on a hook cannot be used.
func hookError(name string, err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("%w %s", errNoHook, name)
	}
	return loadError("program on the LSM hook "+name, err)
}

// close releases the maps of constants. Those of openObject are the caller's.
func (o *object) close() { o.base.Close() }
