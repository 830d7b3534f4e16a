// SPDX-License-Identifier: Apache-2.0

package content

import "context"

// Scanner looks for what is malicious in files. Its methods may be called concurrently.
type Scanner interface {
	// Scan has the file looked at that fd is open for reading of, and returns the name of what
	// was found, "" for nothing. On an error nothing is known of the file; ErrUnavailable is
	// in it when none can be scanned now.
	Scan(ctx context.Context, fd int) (signature string, err error)
	// Edition names what Scan looks for now: another name, and files that were clean may not be.
	Edition(ctx context.Context) (string, error)
}
