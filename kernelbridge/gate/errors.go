// SPDX-License-Identifier: Apache-2.0

package gate

import "errors"

// UnsupportedError says why there can be no gate here and what would change that.
type UnsupportedError struct {
	Why  string
	Hint string // the step that would change it
	Err  error  // what the kernel said, may be nil
}

func (e *UnsupportedError) Error() string {
	s := "tasks cannot sleep on a FUSE file: " + e.Why
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Hint
}

// Unwrap returns what the kernel said.
func (e *UnsupportedError) Unwrap() error { return e.Err }

var (
	// errMalformed is a request that no kernel writes.
	errMalformed = errors.New("a FUSE request of the wrong shape")
	// errGone says that the connection has ended.
	errGone = errors.New("the FUSE connection has ended")
	// errNotReady is a helper that did not come up.
	errNotReady = errors.New("the helper did not get ready")
	// errStartTimeout ends an Open that makes no progress.
	errStartTimeout = errors.New("the kernel or the helper did not answer in time")
)
