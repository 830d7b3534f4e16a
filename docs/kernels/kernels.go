// SPDX-License-Identifier: Apache-2.0

// Package kernels carries the pages of this folder to where the tests of the kernels
// run: a virtual machine without the repository.
package kernels

import "embed"

// Pages has one page for each series of the kernel, such as 6.12.md.
//
//go:embed *.md
var Pages embed.FS
