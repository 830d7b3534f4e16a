// SPDX-License-Identifier: Apache-2.0

package fanotify

import "errors"

// ErrClosed is returned by a Backend that has been closed.
var ErrClosed = errors.New("fanotify backend is closed")

// errMoved says that a tree's root may not be on the mount any more that it was on.
var errMoved = errors.New("the root of the tree has been mounted over, or the way to it has to be looked up anew")

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
