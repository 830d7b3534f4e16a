// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// ErrNothingMeasured is wrapped by Run's error when not one scenario has a
// figure; the Report, which Run returns all the same, says why for each.
var ErrNothingMeasured = errors.New("nothing could be measured")

// UnavailableError says why this machine cannot run a scenario: a row with a
// reason, not a failure of the bench.
type UnavailableError struct {
	What string // what was tried
	Hint string // the step that would change it
	Err  error  // what the kernel said, may be nil
}

// Error names the attempt, the kernel's answer and the step.
func (e *UnavailableError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Hint
}

// Unwrap returns the kernel's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

// unavailable reports whether err is a property of the machine.
func unavailable(err error) bool {
	var u *UnavailableError
	var k *kernelbridge.UnsupportedError
	return errors.As(err, &u) || errors.As(err, &k)
}

// refused wraps what a system call said: an UnavailableError for the answers by
// which a kernel says that it will not or cannot, a plain error for the others.
func refused(what, hint string, err error) error {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY} {
		if errors.Is(err, e) {
			return &UnavailableError{what, hint, err}
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
