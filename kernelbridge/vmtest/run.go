// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxBoots bounds the boots of one run. Under emulation a 6.12 kernel with two CPUs dies before userspace in about 1 of 5
// boots, so five in a row do in 1 of 3,000 runs.
const maxBoots = 5

// tailLines of the kernel log are shown when a guest dies.
const tailLines = 60

// Config is one test on one kernel. Binary and Args are what `go test -exec` gives; all else has a usable zero value where
// that is said.
type Config struct {
	Store  *Store
	Series string // "6.12", or SeriesNewest
	Image  string // a kernel image to take instead of one from the store; Series may then be empty
	Init   string // path of the static program that calls Init when it is process 1: vmrun itself

	Binary string
	Args   []string
	Dir    string   // the package's folder; testdata below it comes along
	Files  []string // HOST or HOST:GUEST; a relative GUEST is below the test's folder, without one HOST keeps its place
	Env    []string // K=V
	Module []string // kernel modules to load, by name

	CPUs        int           // 2 when 0
	MemoryMiB   int           // 768 when 0
	CPUModel    string        // "max" when empty
	Append      string        // to the kernel's command line
	QEMU        string        // extra arguments
	Count       bool          // the guest's time is the instructions that it executes: see Machine.Count
	BootTimeout time.Duration // 2 minutes when 0
	Timeout     time.Duration // of the test in the guest; 5 minutes when 0
	KernelLog   string        // keep the kernel log of the last boot here; "" keeps none

	Stdout io.Writer // the test's output
	Stderr io.Writer // what Run has to say
}

func (c *Config) check() error {
	c.CPUs = defaultTo(c.CPUs, 2)
	c.MemoryMiB = defaultTo(c.MemoryMiB, 768)
	c.BootTimeout = defaultTo(c.BootTimeout, 2*time.Minute)
	c.Timeout = defaultTo(c.Timeout, 5*time.Minute)
	if c.CPUModel == "" {
		c.CPUModel = "max"
	}
	var errs []error
	if c.CPUs < 1 || c.CPUs > 64 {
		errs = append(errs, fmt.Errorf("-smp %d: want 1 to 64", c.CPUs))
	}
	if c.MemoryMiB < 256 {
		errs = append(errs, fmt.Errorf("-mem %d: want 256 MiB or more", c.MemoryMiB))
	}
	for _, e := range c.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			errs = append(errs, fmt.Errorf("-env %s: want K=V", e))
		}
	}
	for _, name := range c.Module {
		if strings.ContainsAny(name, "/.") || name == "" {
			errs = append(errs, fmt.Errorf("-module %s: want the name of a kernel module, without path and .ko", name))
		}
	}
	for what, file := range map[string]string{"the test": c.Binary, "vmrun": c.Init} {
		if err := checkStatic(file); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}

func defaultTo[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// checkStatic refuses a program that needs a dynamic loader, for the guest has none.
func checkStatic(file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is for %v, the guest is x86-64", file, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically and the guest has no libraries; build it with CGO_ENABLED=0", file)
		}
	}
	return nil
}

// Run runs a test on one kernel and returns its exit status. It says on c.Stderr which kernel it was, each boot that had
// to be repeated, and what the kernel complained about. An error means that there is no status; when the guest died it is
// one of this package's Err values, and the end of the kernel log was written to c.Stderr.
func Run(ctx context.Context, c Config) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	say := func(format string, args ...any) { fmt.Fprintf(c.Stderr, "vmrun: "+format+"\n", args...) }

	image, series := c.Image, c.Series
	var modules []string
	if image == "" {
		k, err := c.Store.Resolve(ctx, c.Series)
		if err != nil {
			return 0, err
		}
		image, series = k.Image(), k.Series()
		if modules, err = c.Store.Modules(ctx, k, c.Module); err != nil {
			return 0, err
		}
	} else if len(c.Module) > 0 {
		return 0, errors.New("-module needs a kernel from the archive; with -image load modules by -file and your test")
	}

	tmp, err := os.MkdirTemp("", "vmrun-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	m := &Machine{
		Kernel: image, Initrd: filepath.Join(tmp, "initrd"), Nonce: rand.Text(),
		CPUs: c.CPUs, MemoryMiB: c.MemoryMiB, CPUModel: c.CPUModel, Append: c.Append, QEMU: c.QEMU, Count: c.Count,
		BootTimeout: c.BootTimeout, Timeout: c.Timeout,
		Out: c.Stdout, KernelLog: filepath.Join(tmp, "kernel.log"),
	}
	if err := c.writeInitrd(m, series, modules); err != nil {
		return 0, err
	}
	var res Result
	for boot := 1; ; boot++ {
		res, err = Boot(ctx, m)
		if c.KernelLog != "" {
			if b, rerr := os.ReadFile(m.KernelLog); rerr == nil {
				if werr := writeFile(c.KernelLog, b); werr != nil {
					say("keeping the kernel log: %v", werr)
				}
			}
		}
		if errors.Is(err, ErrDied) && staleBreakpoint(m.KernelLog) {
			err = fmt.Errorf("%w, of a breakpoint that was gone already", err)
			fmt.Fprintln(c.Stdout) // what the test has printed may end within a line
		} else if !errors.Is(err, ErrNotStarted) {
			break
		}
		if boot == maxBoots {
			break
		}
		say("boot %d of %d of %s: %v; booting again. The kernel's last words:", boot, maxBoots, series, err)
		for _, line := range kernelComplaints(m.KernelLog) {
			fmt.Fprintln(c.Stderr, line)
		}
		fmt.Fprintln(c.Stderr, kernelLogTail(m.KernelLog, 8))
	}
	if err != nil {
		if res.Facts.Release != "" {
			say("%s", res.Facts)
		}
		if ctx.Err() == nil && !errors.Is(err, ErrNoQEMU) {
			say("the kernel's last words:")
			fmt.Fprintln(c.Stderr, kernelLogTail(m.KernelLog, tailLines))
		}
		return 0, fmt.Errorf("testing on kernel %s: %w", series, err)
	}
	say("%s; booted in %.1f s, test took %.1f s", res.Facts, res.Boot.Seconds(), res.Test.Seconds())
	if lines := kernelComplaints(m.KernelLog); len(lines) > 0 {
		say("the kernel complained:\n\t%s", strings.Join(lines, "\n\t"))
	}
	return res.Status, nil
}

// writeInitrd makes the initramfs. Everything in it lives in the guest's memory.
func (c *Config) writeInitrd(m *Machine, series string, modules []string) (err error) {
	f, err := os.Create(m.Initrd)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	guestDir := path.Join(sourceRoot, "pkg")
	root := moduleRoot(dir)
	if root != "" {
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		guestDir = path.Join(sourceRoot, filepath.ToSlash(rel))
	}
	job := Job{
		Series: series, Nonce: m.Nonce, Dir: guestDir, Binary: "/vm/" + filepath.Base(c.Binary),
		Args: c.Args, Env: c.Env,
		Timeout: max(c.Timeout-10*time.Second, c.Timeout/2), // leaves time to print goroutines
	}
	if c.Count {
		job.Env = append(slices.Clone(job.Env), EnvCounts+"=1")
	}
	a := NewArchive(f)
	add := func(e error) {
		if err == nil {
			err = e
		}
	}
	add(a.Copy("/init", c.Init))
	add(a.Copy(job.Binary, c.Binary))
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", guestDir} {
		add(a.Dir(d))
	}
	if info, serr := os.Stat(filepath.Join(dir, "testdata")); serr == nil && info.IsDir() {
		add(a.Copy(path.Join(guestDir, "testdata"), filepath.Join(dir, "testdata")))
	}
	for _, spec := range c.Files {
		from, to, named := strings.Cut(spec, ":")
		if !named {
			to = filepath.ToSlash(from)
		}
		if !path.IsAbs(to) {
			to = path.Join(guestDir, to)
		}
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		add(a.Copy(to, from))
	}
	for i, file := range modules {
		to := fmt.Sprintf("%s/%02d-%s", modulesDir, i, filepath.Base(file))
		add(a.Copy(to, file))
		job.Modules = append(job.Modules, to)
	}
	b, jerr := json.Marshal(job)
	add(jerr)
	add(a.File(jobPath, 0o644, strings.NewReader(string(b)), int64(len(b))))
	add(a.Close())
	return err
}

// SplitSeries takes the series out of a list such as "6.1, 6.12 newest", each once and in order.
func SplitSeries(list string) []string {
	var all []string
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
