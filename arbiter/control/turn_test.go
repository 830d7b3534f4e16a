// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPushWaitsItsTurn: behind a push that hangs a caller waits as long as it wants to
// and no longer.
func TestPushWaitsItsTurn(t *testing.T) {
	f := newFixture(t, nil, nil)
	applying, goOn := make(chan struct{}), make(chan struct{})
	f.applier.applying = func(context.Context) {
		close(applying)
		<-goOn
	}
	first := make(chan error, 1)
	go func() {
		_, err := f.direct.Push(context.Background(), Push{Source: []byte(ruleFile("a"))})
		first <- err
	}()
	await(t, "Apply", applying)
	ctx, cancel := context.WithTimeout(f.ctx(), 10*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		_, err := f.direct.Push(ctx, Push{Source: []byte(ruleFile("b"))})
		second <- err
	}()
	if err := await(t, "the end of the second push", second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second push: %v, want %v", err, context.DeadlineExceeded)
	}
	close(goOn)
	if err := await(t, "the end of the first push", first); err != nil {
		t.Errorf("the first push: %v", err)
	}
}
