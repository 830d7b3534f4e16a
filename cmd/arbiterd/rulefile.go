// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules"
)

// readRuleFile reads the rule file of the configuration: a regular file of at most
// rules.MaxFileBytes, so that it neither waits for a writer nor fills the memory.
func readRuleFile(path string) ([]byte, error) {
	wrong := func(err error) error {
		return fmt.Errorf("reading the rule file: %w; repair it, or give another in rules", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, wrong(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, wrong(err)
	}
	if !info.Mode().IsRegular() {
		return nil, wrong(fmt.Errorf("%s is no regular file (%s)", path, info.Mode()))
	}
	b, err := io.ReadAll(io.LimitReader(f, rules.MaxFileBytes+1))
	if err != nil {
		return nil, wrong(err)
	}
	if len(b) > rules.MaxFileBytes {
		return nil, wrong(fmt.Errorf("%s has more than the %d bytes that a rule file may have", path, rules.MaxFileBytes))
	}
	return b, nil
}
