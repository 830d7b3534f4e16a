// SPDX-License-Identifier: Apache-2.0

package content

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Why nothing can be had of a file. Each has a counter.
var (
	errGone       = errors.New("under that name there is another file")
	errNotRegular = errors.New("it is no regular file")
	errTooBig     = errors.New("it is larger than digest_max_size")
	errChanged    = errors.New("it was changed while it was read")
	errHash       = errors.New("rules know no such hash")
	errStopped    = errors.New("the daemon stops")
	errNoScanner  = errors.New("there is no scanner in the daemon's configuration")
	errScanTooBig = errors.New("it is larger than scanner.max_size")
	errScan       = errors.New("it could not be scanned")
	errNoRoom     = errors.New("too many files wait for the scanner")
	errLate       = errors.New("nobody waits for it any more")
)

type cause uint8

const (
	causeGone cause = iota
	causeNotRegular
	causeTooBig
	causeChanged
	causeStopped
	causeUnreadable
	causeNoScanner
	causeScanTooBig
	causeScanFailed
	causeScannerGone
	causeScannerBusy
	causeLate
	causes
)

var causeNames = [causes]string{"gone", "not_regular", "too_big", "changed", "stopped", "unreadable",
	"no_scanner", "scan_too_big", "scan_failed", "scanner_gone", "scanner_busy", "late"}

// causeOf returns under what an error is counted.
func causeOf(err error) cause {
	switch {
	case errors.Is(err, ErrUnavailable): // perhaps for want of the socket's name
		return causeScannerGone
	case errors.Is(err, errScan):
		return causeScanFailed
	case errors.Is(err, errGone), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESRCH):
		return causeGone
	case errors.Is(err, errNotRegular):
		return causeNotRegular
	case errors.Is(err, errTooBig):
		return causeTooBig
	case errors.Is(err, errChanged):
		return causeChanged
	case errors.Is(err, errStopped):
		return causeStopped
	case errors.Is(err, errNoScanner):
		return causeNoScanner
	case errors.Is(err, errScanTooBig):
		return causeScanTooBig
	case errors.Is(err, errNoRoom):
		return causeScannerBusy
	case errors.Is(err, errLate):
		return causeLate
	}
	return causeUnreadable
}

// ErrUnavailable: there is nobody who scans. A Scanner wraps it.
var ErrUnavailable = errors.New("the scanner is not there")
