// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/signature"
)

// trustedKeys are those of the configuration, read at the start and again by a reload.
type trustedKeys struct {
	keys    atomic.Pointer[signature.Keys] // nil: nobody is trusted
	problem atomic.Pointer[string]         // of the last reload, nil for none
}

// readKeys reads the trusted keys anew. After an error those of before are trusted.
func (d *daemon) readKeys(context.Context) error {
	if d.cfg.TrustedKeys == "" {
		return nil
	}
	keys, err := signature.ReadKeys(d.cfg.TrustedKeys, ownedByUs)
	if err != nil {
		return err
	}
	if before := d.trusted.keys.Swap(keys); !slices.Equal(before.IDs(), keys.IDs()) {
		d.log.Info("trusted keys of rules", slog.String("now", strings.Join(keys.IDs(), " ")), slog.String("before", strings.Join(before.IDs(), " ")))
	}
	return nil
}

// rereadKeys is the part of a reload.
func (d *daemon) rereadKeys(ctx context.Context) {
	err := d.readKeys(ctx)
	if err == nil {
		d.trusted.problem.Store(nil)
		return
	}
	text := fmt.Sprintf("the keys of before the reload are trusted: %v", err)
	d.trusted.problem.Store(&text)
	d.log.Error("reloading the trusted keys; those of before stay", slog.Any("error", err))
}

// trust says whose signatures of rules count.
func (d *daemon) trust() control.Trust {
	return control.Trust{Keys: d.trusted.keys.Load(), Required: d.cfg.RequireSigned}
}

// keyWarnings is what status says of the keys.
func (d *daemon) keyWarnings() (warnings []string) {
	if p := d.trusted.problem.Load(); p != nil {
		warnings = append(warnings, *p)
	}
	m, ok := d.store.Current()
	if !ok || m.KeyID == "" || m.Epoch != d.engine.Rules().Epoch() || slices.Contains(d.trusted.keys.Load().IDs(), m.KeyID) {
		return warnings
	}
	text := fmt.Sprintf("the rules in force are signed by key %s, which is not trusted", m.KeyID)
	if d.cfg.RequireSigned {
		text += ": after a restart they are not in force, so push rules that a trusted key has signed"
	}
	return append(warnings, text)
}

// withNext is err with what to do about a signature, for a log or stderr.
func withNext(err error) error {
	if refused := new(signature.Error); errors.As(err, &refused) {
		return fmt.Errorf("%w; %s", err, refused.Next)
	}
	return err
}

// ownedByUs permits a key, and the directory of keys, that nobody but root or the daemon's
// user can change: who can put a key there can push rules.
func ownedByUs(info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("it has mode %#o, others can write it: run chmod go-w on it", info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to uid %d: run chown %d on it", st.Uid, os.Geteuid())
	}
	return nil
}
