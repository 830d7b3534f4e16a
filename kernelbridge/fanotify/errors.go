// SPDX-License-Identifier: Apache-2.0

package fanotify

import "errors"

var (
	// ErrClosed is returned by a Backend that has been closed.
	ErrClosed = errors.New("fanotify backend is closed")
	// ErrNoTrees is returned when there is no tree to ask about: an empty scope
	// is an error, never the whole machine.
	ErrNoTrees = errors.New("no directory trees: name at least one in scope.paths")
)

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
