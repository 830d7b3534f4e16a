// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Program is a program as the kernel knows it: by its file.
type Program struct{ Dev, Ino uint64 }

var errNoProgram = errors.New("not a program; name the file that the first process of the tree executes")

// FindProgram looks up the program that a process tree is named by.
func FindProgram(path string) (Program, error) {
	var r resolver
	f, err := r.identify(path)
	switch {
	case err != nil:
		return Program{}, err
	case f.mode&unix.S_IFMT != unix.S_IFREG:
		return Program{}, errNoProgram
	}
	return Program(f.key), nil
}

func rootsOf(trees []Program) (roots []treeKey) {
	for _, p := range trees {
		roots = append(roots, treeKey(p))
	}
	return roots
}

// Marks returns the bit that each of the process trees has in abi.Request.Trees, as long as a
// policy is in force that names it, and from which abi.Request.Marks on a request can be
// believed in that. All of them must be in the policy in force.
func (b *LSM) Marks(trees []Program) (bits []uint64, since uint32, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, 0, ErrClosed
	}
	for _, p := range trees {
		bit := b.keys.bits[treeKey(p)]
		if bit == 0 {
			return nil, 0, fmt.Errorf("BUG: no policy names the process tree %v", p)
		}
		bits = append(bits, bit)
	}
	return bits, atomic.LoadUint32(&b.queue.Header().Marks), nil
}

// countMarks says that bits were given a meaning. 0 is none.
func (q *queue) countMarks() {
	marks := &q.Header().Marks
	if atomic.AddUint32(marks, 1) == 0 {
		atomic.AddUint32(marks, 1)
	}
}
