// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/arbiterd/arbiter/arbiter"
)

// Reader reads events from a verdict log. It holds one line at a time.
type Reader struct {
	in   *bufio.Reader
	line int
}

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, MaxLineBytes+1)}
}

// Line returns the number of the line that Next has read last, from 1.
func (r *Reader) Line() int { return r.line }

// Next returns the next event, io.EOF behind the last. After a *LineError it goes on with
// the line behind; any other error is of the reader below, and the end. Empty lines are
// passed over.
func (r *Reader) Next() (*arbiter.Event, error) {
	for {
		line, err := r.in.ReadSlice('\n')
		if len(line) == 0 && err != nil {
			return nil, r.failed(err)
		}
		r.line++
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.in.ReadSlice('\n')
			}
			if err != nil && err != io.EOF {
				return nil, r.failed(err)
			}
			return nil, lineError(MaxLineBytes, "the line has more than %d bytes", MaxLineBytes)
		}
		if err != nil && err != io.EOF { // of a part of a line nothing can be told
			return nil, r.failed(err)
		}
		if len(line) > 1 || line[0] != '\n' {
			return Decode(line)
		}
	}
}

func (r *Reader) failed(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("reading line %d: %w", r.line+1, err)
}
