// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// checkFanotifyRoles says that fanotify does not tell a program from its interpreter.
func checkFanotifyRoles(rs *rules.RuleSet) error {
	if rs.Consulted(abi.EventExec)&abi.FieldArgs == 0 {
		return nil
	}
	return errors.New("rules: fanotify cannot tell what execve was asked for from what the kernel runs it with: take args.role out, and match by object.path or object.format instead; it needs a kernel with BPF LSM")
}
