// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// workThread is a thread with a mount namespace of its own, in which a tmpfs lies on
// tree. What is done there, and the programs that it starts, see that; nobody else
// does, and it is gone with the thread.
type workThread struct {
	dir  string // of the host's file system, removed by close
	tree string // below it
	jobs chan func()
}

// openWorkThread starts the thread.
func openWorkThread() (*workThread, error) {
	dir, err := os.MkdirTemp("", "arbiter-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder to work in: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("making a folder to work in: %w", err)
	}
	w := &workThread{dir: dir, tree: filepath.Join(dir, "tree"), jobs: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		for job := range w.jobs {
			job()
		}
	}()
	if err := w.do(w.mount); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// do calls f on the thread.
func (w *workThread) do(f func() error) error {
	done := make(chan error)
	w.jobs <- func() { done <- f() }
	return <-done
}

func (w *workThread) mount() error {
	if err := os.Mkdir(w.tree, 0o755); err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	if err := privateMounts(); err != nil {
		return err
	}
	if err := unix.Mount("arbiter-bench", w.tree, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=256m"); err != nil {
		return refused("mounting a tmpfs on "+w.tree, "run as root, or with CAP_SYS_ADMIN", err)
	}
	return nil
}

func (w *workThread) close() error {
	close(w.jobs)
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("removing the folder of the work: %w", err)
	}
	return nil
}
