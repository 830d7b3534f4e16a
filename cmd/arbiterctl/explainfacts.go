// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// factFlags are the flags that say what is known beside paths and ids, each with its
// place in the question and with what reads it.
var factFlags = [...]struct {
	flag, usage string
	of          func(*controlv1.ExplainRequest) *string
	set         func(*abi.Request, string) error
}{
	{"sha256", "SHA-256 of the object's content, as sha256sum prints it",
		func(q *controlv1.ExplainRequest) *string { return &q.Sha256 }, rules.SetDigest},
	{"format", "what the object is by its first bytes: elf, script or other",
		func(q *controlv1.ExplainRequest) *string { return &q.Format }, rules.SetFormat},
	{"fsverity", "fs-verity digest of the object, as fsverity digest prints it, or none",
		func(q *controlv1.ExplainRequest) *string { return &q.Fsverity }, rules.SetVerity},
	{"attributes", "owner, group and mode of the object's file, as stat -c %u:%g:0o%a prints them",
		func(q *controlv1.ExplainRequest) *string { return &q.Attributes }, rules.SetAttributes},
	{"size", "size of the object's file in bytes, as stat -c %s prints it",
		func(q *controlv1.ExplainRequest) *string { return &q.Size }, rules.SetSize},
	{"credentials", "login uid, session, CapEff, host namespaces of the subject: UID:SESSION:HEX:KIND,KIND",
		func(q *controlv1.ExplainRequest) *string { return &q.Credentials }, rules.SetCredentials},
	{"scan", "what a scanner says of the object: clean or infected",
		func(q *controlv1.ExplainRequest) *string { return &q.Scan }, rules.SetScan},
}

func addFactFlags(cmd *cobra.Command, q *controlv1.ExplainRequest) {
	for _, c := range factFlags {
		cmd.Flags().StringVar(c.of(q), c.flag, "", c.usage)
	}
}
