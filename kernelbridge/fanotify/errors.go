// SPDX-License-Identifier: Apache-2.0

package fanotify

import "errors"

// ErrClosed is returned by a Backend that has been closed.
var ErrClosed = errors.New("fanotify backend is closed")

// UnsupportedError says that this process cannot use permission events on this
// kernel.
type UnsupportedError struct {
	Why  string
	Hint string // the step that would change it
	Err  error  // what the kernel said, may be nil
}

func (e *UnsupportedError) Error() string {
	s := "fanotify permission events cannot be used: " + e.Why
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns what the kernel said.
func (e *UnsupportedError) Unwrap() error { return e.Err }
