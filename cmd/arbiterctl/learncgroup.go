// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// cgroup is one that a command runs in.
type cgroup struct {
	path string // as rules name it
	dir  string
	v2   bool
	own  string // directory of the one that we are in
}

// makeCgroup makes a new one below our own, so that what the service manager has bounded
// for us holds for the command too; below the root where that is too deep for rules.
func makeCgroup(name string) (*cgroup, error) {
	own, err := kernelbridge.FindOwnCgroup()
	if err != nil {
		return nil, err
	}
	c := &cgroup{path: path.Join(own.Path, name), v2: own.V2, own: filepath.Join(own.Mount, own.Path)}
	if strings.Count(c.path, "/") > abi.CgroupLevels {
		c.path = "/" + name
	}
	c.dir = filepath.Join(own.Mount, c.path)
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a cgroup: %w", err)
	}
	return c, nil
}

// start starts the command in the cgroup: it is there before it runs.
func (c *cgroup) start(run *exec.Cmd) error {
	if c.v2 {
		dir, err := os.Open(c.dir)
		if err != nil {
			return err
		}
		defer dir.Close()
		run.SysProcAttr.UseCgroupFD, run.SysProcAttr.CgroupFD = true, int(dir.Fd())
		return run.Start()
	}
	// In v1 a thread can be in a cgroup of its own, and what it forks begins there.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := []byte(strconv.Itoa(unix.Gettid()))
	if err := os.WriteFile(filepath.Join(c.dir, "tasks"), tid, 0); err != nil {
		return err
	}
	err := run.Start()
	// Should this fail, the cgroup cannot be removed, and that is said then.
	_ = os.WriteFile(filepath.Join(c.own, "tasks"), tid, 0)
	return err
}

// procs returns the processes that are in it.
func (c *cgroup) procs() ([]int, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// commOf is what a process calls itself; foreign.
func commOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(text), "\n")
}

const (
	// emptyWithin bounds how long a cgroup whose processes were killed takes to be empty.
	emptyWithin = 3 * time.Second
	// emptyEvery is how often it is looked at.
	emptyEvery = 10 * time.Millisecond
)

// kill ends all that runs in the cgroup, also what it forks meanwhile.
func (c *cgroup) kill() error {
	err := os.WriteFile(filepath.Join(c.dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) { // v1, and v2 before 5.14: one by one, until none is left
		return c.until(func() (bool, error) {
			pids, err := c.procs()
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
			return len(pids) == 0, err
		})
	}
	return err
}

// remove removes the cgroup. What has just been killed in it is waited for.
func (c *cgroup) remove() error {
	return c.until(func() (bool, error) {
		err := unix.Rmdir(c.dir)
		if errors.Is(err, unix.EBUSY) {
			return false, nil
		}
		return true, err
	})
}

func (c *cgroup) until(done func() (bool, error)) error {
	tick := time.NewTicker(emptyEvery)
	defer tick.Stop()
	for end := time.Now().Add(emptyWithin); ; <-tick.C {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return syscall.EBUSY
		}
	}
}
