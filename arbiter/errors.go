// SPDX-License-Identifier: Apache-2.0

package arbiter

import "errors"

var (
	// ErrClosed is returned by Start and Install after Close, and after a Start that
	// failed.
	ErrClosed = errors.New("arbiter is closed")
	// ErrStalled is returned by Install and Check when a worker did not come
	// round in time. After Install the new rule set is in place, but that worker
	// may still be answering one request by the old one.
	ErrStalled = errors.New("a worker does not come round")
)
