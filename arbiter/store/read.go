// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Read returns the rule set of an epoch from a directory that another process may have
// open: it takes no lock, repairs nothing, and writes nothing. Errors are those of
// Store.Load.
func Read(dir string, epoch uint64) (Meta, []byte, error) {
	return readSet(filepath.Clean(dir), epoch)
}

func readSet(dir string, epoch uint64) (Meta, []byte, error) {
	path := filepath.Join(dir, setName(epoch))
	data, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return Meta{}, nil, fmt.Errorf("loading epoch %d: %w", epoch, err)
	}
	m, source, err := decodeSet(data)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("loading epoch %d from %s: %w", epoch, path, err)
	}
	if m.Epoch != epoch {
		return Meta{}, nil, fmt.Errorf("loading epoch %d from %s: %w: it holds epoch %d", epoch, path, ErrCorrupt, m.Epoch)
	}
	return m, source, nil
}
