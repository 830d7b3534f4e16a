// SPDX-License-Identifier: Apache-2.0

// Package fanotify holds opens and execs with fanotify permission events: the
// backend for kernels without BPF LSM.
package fanotify
