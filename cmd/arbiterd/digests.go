// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/digest"
	"github.com/arbiterd/arbiter/rules"
)

// digests lets the engine have the content of files hashed.
type digests struct {
	pool *digest.Pool
	// The backend has the file open for us; else it is opened by its path.
	lent bool
}

// newDigests starts what hashes for the backend of that name.
func newDigests(cfg *config, backend string) *digests {
	return &digests{pool: digest.New(digest.Options{MaxBytes: cfg.DigestMaxSize}), lent: backend == kernelbridge.BackendFanotify}
}

// Digest implements arbiter.Digester.
func (d *digests) Digest(h arbiter.Held, r *abi.Request) bool {
	o := digest.Object{File: -1, Task: r.TID, Path: string(r.Path()), Dev: r.Dev, Ino: r.Ino}
	if d.lent {
		o = digest.Object{File: int(r.File)}
	}
	return d.pool.Submit(o, h.Digest)
}

// count adds the counters that are not 0.
func (d *digests) count(to map[string]uint64) {
	for name, n := range d.pool.Stats() {
		if n > 0 {
			to["digest."+name] = n
		}
	}
}

func (d *digests) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	return d.pool.Close(ctx)
}

// digestWarnings says what becomes of files whose content cannot be looked at, or not in
// time: the kernel side gives up after bound.
func digestWarnings(rs *rules.RuleSet, bound time.Duration) (warnings []string) {
	looks := false
	for _, e := range rs.Events() {
		looks = looks || rs.Consulted(e)&abi.FieldDigest != 0
	}
	if !looks {
		return nil
	}
	if rs.OnFail(-1).Action == rules.Allow {
		warnings = append(warnings, "object.sha256: a file that cannot be hashed, because it is larger than digest_max_size, changes meanwhile or takes longer than the deadline, goes on by the file's on_fail, allow; set on_fail: deny")
	}
	if bound < time.Second { // else it is the deadline that counts
		const rate = 1 << 10 // bytes in a microsecond, which a CPU with instructions for SHA-256 does
		warnings = append(warnings, fmt.Sprintf("object.sha256: a task waits %v at most here (wait), which is enough to hash some %d MiB for the first time; for larger files it goes on by the file's on_fail, %v",
			bound, bound.Microseconds()*rate>>20, rs.OnFail(-1)))
	}
	return warnings
}
