// SPDX-License-Identifier: Apache-2.0

package store

import "errors"

var (
	// ErrLocked is wrapped by the error of Open when another process has the
	// store open.
	ErrLocked = errors.New("another process has the rule store open")
	// ErrNotFound is wrapped by the error of Load when no such epoch is kept.
	ErrNotFound = errors.New("no such epoch is kept")
	// ErrCorrupt is wrapped by the errors about a file whose content is not what
	// was written.
	ErrCorrupt = errors.New("the file is damaged")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the rule store is closed")
)
