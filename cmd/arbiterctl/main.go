// SPDX-License-Identifier: Apache-2.0

// Command arbiterctl talks to arbiterd over its control socket: it pushes and
// inspects rules, follows verdicts, explains decisions, and says what the
// running kernel can do. Its commands and exit codes are in docs/cli.md.
package main

import (
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole command but for the exit; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(stdin, stdout, stderr).run(args)
}
