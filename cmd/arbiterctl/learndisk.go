// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules/learn"
)

// disk is the machine's, as far as this user may look.
type disk struct{}

// List implements learn.Disk.
func (disk) List(dir string) ([]learn.Entry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make([]learn.Entry, len(entries))
	for i, e := range entries {
		out[i] = learn.Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	return out, nil
}

// Exists implements learn.Disk.
func (disk) Exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}
