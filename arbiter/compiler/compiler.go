// SPDX-License-Identifier: Apache-2.0

// Package compiler compiles large rule files in a process of their own, so that a push takes
// neither the CPU nor the garbage collector of the daemon from the workers.
//
// A worker is a goroutine. Each collection of garbage stops it twice, and parsing leaves garbage
// for one collection after another; and a thread of the daemon that has much to do keeps the CPU
// from those that wake the worker, until the next tick of the clock. So the text goes to another
// process, in memory that both have, and comes back as an image (rules.FromImage), which is
// mostly copied. That process runs when nobody else wants its CPU (for a while: see idleFor), is the first to
// go when memory runs out, and ends when the daemon does. What it needs to know of the machine,
// such as the id of a cgroup, it asks the daemon, whom no rule in force can refuse it.
//
// The process is the program's own executable, started again: Main, called first thing in main,
// takes over in it.
package compiler

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules"
)

const (
	// From is from how many bytes on a file is compiled in a process of its own: starting one
	// takes some 10 ms, in which 160 KiB of rules are compiled, and its image has to be read.
	From = 256 << 10
	// limit bounds compiling. A million rules take a quarter of a minute.
	limit = 5 * time.Minute

	argZero = "arbiter-compiler"
)

// executable is the program that Main is the first thing of.
var executable = "/proc/self/exe"

// Descriptors of the process, in the order of ExtraFiles. Answers come on its standard
// input, and it asks on its standard output.
const (
	sourceFD = 3 + iota
	imageFD
)

// job is the first thing that the process reads.
type job struct {
	Name              string
	Epoch             uint64
	Size              int  // of the source, in bytes
	Cgroups, Programs bool // can be looked up
	CPUs              unix.CPUSet
}

// message is what the process says.
type message struct {
	Kind messageKind
	Text string // of a question, the path; of a failure, why
}

type messageKind uint8

// First the process is up. Then it may ask, and at last it is done, or the file is wrong, or
// something else has failed.
const (
	isUp messageKind = iota + 1
	asksCgroup
	asksProgram
	isDone
	isWrong
	hasFailed
)

// answer is what it is told.
type answer struct {
	ID, Dev, Ino uint64
	Err          string // empty: there is none
}

// Compiler compiles rule files. Load may be called from anywhere; each call with a large file has
// a process of its own, and waits for one while there are atOnce.
type Compiler struct {
	log  *slog.Logger
	cpus unix.CPUSet
	exec func(start func() error) error
	// running has a place for each process that there may be, until it has ended and given its
	// memory back.
	running chan struct{}
}

// atOnce is how many processes there may be: for a push, and for a set of another epoch.
const atOnce = 2

// New returns a Compiler for a program that calls Main. Where there are other CPUs than those of
// workers, it uses these. exec, if not nil, calls start, which executes the own file, in a way
// that lets it: a daemon that decides about it must not have to answer itself then. A nil log discards.
func New(log *slog.Logger, workers []int, exec func(start func() error) error) *Compiler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if exec == nil {
		exec = func(start func() error) error { return start() }
	}
	c := &Compiler{log: log, exec: exec, running: make(chan struct{}, atOnce)}
	if err := unix.SchedGetaffinity(0, &c.cpus); err != nil { // more CPUs than the set has room for
		c.cpus.Fill()
	}
	others := c.cpus
	for _, cpu := range workers {
		if cpu >= 0 { // else it is nowhere in particular
			others.Clear(cpu)
		}
	}
	if others.Count() > 0 {
		c.cpus = others
	}
	return c
}

// Load is rules.Load, and its errors; besides ctx's, and one that says that the process that
// compiled a large file did not finish. If no process can be started the file is compiled in this one.
func (c *Compiler) Load(ctx context.Context, name string, src []byte, o rules.Options) (*rules.RuleSet, error) {
	if len(src) < From || len(src) > rules.MaxFileBytes { // what is too large is not even read
		return rules.Load(name, src, o)
	}
	rs, err := c.load(ctx, name, src, o)
	var none *startError
	if errors.As(err, &none) {
		c.log.Warn("compiling a large rule file in the daemon itself, verdicts may take longer meanwhile", slog.Any("error", err))
		return rules.Load(name, src, o)
	}
	return rs, err
}

// startError says why there is no process.
type startError struct{ err error }

func (e *startError) Error() string {
	return "starting a process that compiles rules: " + e.err.Error()
}
func (e *startError) Unwrap() error { return e.err }

func (c *Compiler) load(ctx context.Context, name string, src []byte, o rules.Options) (*rules.RuleSet, error) {
	bound, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer cancel()
	source, err := memory("arbiter-rules", src)
	if err != nil {
		return nil, &startError{err}
	}
	defer source.Close()
	image, err := memory("arbiter-compiled-rules", nil)
	if err != nil {
		return nil, &startError{err}
	}
	defer image.Close()
	select {
	case c.running <- struct{}{}:
	case <-bound.Done():
		return nil, fmt.Errorf("waiting for the processes that compile others: %w", context.Cause(bound))
	}
	ended := func() { <-c.running }
	p, err := c.start(bound, source, image)
	if err != nil {
		ended()
		if bound.Err() != nil { // nobody waits for what the daemon could do instead
			return nil, fmt.Errorf("starting a process that compiles them: %w", context.Cause(bound))
		}
		return nil, &startError{err}
	}
	last, err := p.converse(job{name, o.Epoch, len(src), o.CgroupID != nil, o.Program != nil, c.cpus}, o)
	if err == nil && last == isDone {
		go func() { // it has much memory to give back first; cancel kills it, which is as good
			defer ended()
			p.end(true)
		}()
		return read(image)
	}
	// It has said its last word, or ended without one; else it has to end.
	over := err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE)
	p.end(over)
	ended()
	switch {
	case bound.Err() != nil:
		return nil, fmt.Errorf("the process that compiles them: %w", context.Cause(bound))
	case err != nil && !p.up:
		return nil, &startError{err}
	case err != nil && over:
		return nil, fmt.Errorf("the process that compiles them ended before it was done: %v; if nobody killed it, memory has run out: split the rules, or give the daemon's control group more", p.cmd.ProcessState)
	case err != nil:
		return nil, fmt.Errorf("the process that compiles them: %w", err)
	}
	// It has said isWrong. What is, the daemon says itself, which may open files that the process may not.
	return rules.Load(name, src, o)
}

// memory returns a file that is nowhere but in memory.
func memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating memory for rules: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("writing rules into memory: %w", err)
	}
	return f, nil
}

// read returns the rule set in an image that is written.
func read(image *os.File) (*rules.RuleSet, error) {
	info, err := image.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading compiled rules: %w", err)
	}
	b, err := unix.Mmap(int(image.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mapping compiled rules: %w", err)
	}
	defer unix.Munmap(b)
	return rules.FromImage(b)
}

// process is one that compiles a file.
type process struct {
	cmd     *exec.Cmd
	answers *os.File
	asks    *os.File
	up      bool // it has said something
}

func (c *Compiler) start(ctx context.Context, source, image *os.File) (*process, error) {
	in, answers, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer in.Close()
	asks, out, err := os.Pipe()
	if err != nil {
		answers.Close()
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer out.Close()
	p := &process{cmd: exec.CommandContext(ctx, executable), answers: answers, asks: asks}
	p.cmd.Args, p.cmd.Dir = []string{argZero}, "/"
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = in, out, os.Stderr, []*os.File{source, image}
	// It also keeps the runtime from reading control group files.
	p.cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(min(c.cpus.Count(), runtime.NumCPU()))}
	for _, name := range [...]string{"TZ", "ZONEINFO"} { // rules can name time zones
		if value, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	if err := c.exec(p.cmd.Start); err != nil {
		if p.cmd.Process != nil { // it was started, and then something else failed
			p.end(false)
		}
		answers.Close()
		asks.Close()
		return nil, fmt.Errorf("executing %s: %w", executable, err)
	}
	// Before the daemon, and before anybody else. It is not worth an error.
	_ = os.WriteFile("/proc/"+strconv.Itoa(p.cmd.Process.Pid)+"/oom_score_adj", []byte("1000"), 0)
	return p, nil
}

// converse answers what the process asks until it is done, or says that the file is wrong.
func (p *process) converse(j job, o rules.Options) (last messageKind, err error) {
	say, hear := gob.NewEncoder(p.answers), gob.NewDecoder(p.asks)
	if err := say.Encode(j); err != nil {
		return 0, fmt.Errorf("telling it what to do: %w", err)
	}
	for {
		var m message
		if err := hear.Decode(&m); err != nil {
			return 0, fmt.Errorf("waiting for what it says: %w", err)
		}
		var a answer
		var err error
		switch m.Kind {
		case isUp:
			p.up = true
			continue
		case asksCgroup:
			a.ID, err = o.CgroupID(m.Text)
		case asksProgram:
			a.Dev, a.Ino, err = o.Program(m.Text)
		case isDone, isWrong:
			return m.Kind, nil
		default:
			return 0, errors.New(m.Text)
		}
		if err != nil {
			a.Err = err.Error()
		}
		if err := say.Encode(a); err != nil {
			return 0, fmt.Errorf("answering it: %w", err)
		}
	}
}

// end waits for the process: one that is over, or is killed.
func (p *process) end(over bool) {
	if !over {
		_ = p.cmd.Process.Kill() // it may have ended
	}
	p.answers.Close()
	p.asks.Close()
	_ = p.cmd.Wait() // what became of it is in cmd.ProcessState
}
