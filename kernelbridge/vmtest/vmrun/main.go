// SPDX-License-Identifier: Apache-2.0

// Vmrun runs a test binary in a virtual machine; it is made for `go test -exec`.
//
//	vmrun [flags] TEST [ARGS]
//	vmrun [flags] fetch SERIES...
//
// See package vmtest for how it works. It ends with the test's exit status, with 125 when the guest or vmrun itself is at
// fault, and with 2 when it is used wrongly.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/vmtest"
)

// statusBroken is the exit status when there is none of a test.
const statusBroken = 125

// list is a flag that can be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	if os.Getpid() == 1 {
		vmtest.Init() // in the guest, as /init
	}
	runtime.LockOSThread() // vmtest.Boot ties qemu to this thread
	os.Exit(run())
}

func run() int {
	var (
		kernels  = flag.String("kernel", "newest", "`series` to run on, such as 6.12, or newest; a list such as 6.1,6.12 runs on each in turn")
		cache    = flag.String("cache", "", "`folder` of kernels (default: ARBITER_CACHE/kernels, the user's cache folder, or .cache/kernels)")
		offline  = flag.Bool("offline", false, "use only kernels of the cache")
		refresh  = flag.Bool("refresh", false, "ask the archive for kernels even if it was asked within a day")
		c        vmtest.Config
		env      list
		files    list
		modules  list
		stopping = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP}
	)
	flag.StringVar(&c.Image, "image", "", "boot this kernel image `file` instead; -kernel then names its series")
	flag.IntVar(&c.CPUs, "smp", 2, "CPUs of the guest")
	flag.IntVar(&c.MemoryMiB, "mem", 768, "memory of the guest in MiB; the initramfs lives in it")
	flag.StringVar(&c.CPUModel, "cpu", "", "qemu's CPU model")
	flag.StringVar(&c.Append, "append", "", "add to the kernel's command line")
	flag.StringVar(&c.QEMU, "qemu", "", "add to qemu's arguments, split at spaces")
	flag.BoolVar(&c.Count, "count", false, "count the guest's time in instructions, a nanosecond each, whatever else the host does; one CPU runs at a time")
	flag.DurationVar(&c.Timeout, "timeout", 5*time.Minute, "bound of the test in the guest, the boot not counted")
	flag.DurationVar(&c.BootTimeout, "boot-timeout", 2*time.Minute, "bound of one boot")
	flag.StringVar(&c.KernelLog, "log", "", "keep the guest's kernel log in this `file`")
	flag.Var(&env, "env", "set `K=V` in the guest; K alone takes the host's value; may be repeated")
	flag.Var(&files, "file", "take `HOST[:GUEST]` along, a file or a folder; may be repeated")
	flag.Var(&modules, "module", "load a kernel module by `name`, with those it needs; may be repeated")
	flag.Parse()

	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "vmrun: "+format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), stopping...)
	defer stop()
	dir, err := os.Getwd()
	if err != nil {
		say("%v", err)
		return statusBroken
	}
	if *cache == "" {
		*cache = vmtest.DefaultDir(dir)
	}
	store := &vmtest.Store{Dir: *cache, Offline: *offline, Refresh: *refresh, Logf: say}
	if flag.NArg() == 0 {
		say("no test binary is given; use: go test -exec 'vmrun -kernel 6.12' ./..., or vmrun fetch 6.12")
		return 2
	}
	if flag.Arg(0) == "fetch" {
		return fetch(ctx, store, flag.Args()[1:])
	}

	if c.Init, err = os.Executable(); err != nil {
		say("%v", err)
		return statusBroken
	}
	c.Store, c.Dir, c.Binary, c.Args = store, dir, flag.Arg(0), flag.Args()[1:]
	c.Files, c.Module = files, modules
	for _, e := range env {
		if !strings.Contains(e, "=") {
			e += "=" + os.Getenv(e)
		}
		c.Env = append(c.Env, e)
	}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	status := 0
	for _, series := range vmtest.SplitSeries(*kernels) {
		c.Series = series
		got, err := vmtest.Run(ctx, c)
		if err != nil {
			say("%v", err)
			got = statusBroken
		}
		if status == 0 {
			status = got
		}
		if ctx.Err() != nil {
			break
		}
	}
	return status
}

// fetch brings kernels into the cache and prints what each name means today.
func fetch(ctx context.Context, store *vmtest.Store, series []string) int {
	status := 0
	for _, s := range series {
		k, err := store.Resolve(ctx, s)
		if err != nil {
			store.Logf("%v", err)
			status = statusBroken
			continue
		}
		fmt.Printf("%s\t%s\t%s\t%s\n", s, k.Release, k.Suite, k.Image())
	}
	return status
}
