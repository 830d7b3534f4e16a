// SPDX-License-Identifier: Apache-2.0

// Package veritytest gives tests a file system whose files can have fs-verity, turns it on, and
// computes what digest a file then has, without the kernel and without what is tested.
package veritytest
