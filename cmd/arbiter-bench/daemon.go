// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
)

func daemon(ctx context.Context, args []string, out, errw io.Writer) error { return errors.New("todo") }
