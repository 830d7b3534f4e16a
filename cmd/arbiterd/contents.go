// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/content"
	"github.com/arbiterd/arbiter/kernelbridge/content/clamd"
	"github.com/arbiterd/arbiter/rules"
)

// contents lets the engine have the content of files looked at.
type contents struct {
	pool *content.Pool
	// The backend has the file open for us; else it is opened by its path.
	lent  bool
	clamd *clamd.Client // nil: nobody scans
}

// newContents starts what looks at files for the backend of that name.
func newContents(cfg *config, backend string, log *slog.Logger) *contents {
	c := &contents{lent: backend == kernelbridge.BackendFanotify}
	o := content.Options{MaxBytes: cfg.DigestMaxSize, Logger: log,
		Scan: content.Scanning{MaxBytes: cfg.Scanner.MaxSize, MaxAge: time.Duration(cfg.Scanner.MaxAge), AtOnce: cfg.Scanner.Connections}}
	if cfg.Scanner.Clamd != "" {
		c.clamd = clamd.New(clamd.Options{Socket: cfg.Scanner.Clamd, Timeout: time.Duration(cfg.Scanner.Timeout), Logger: log})
		o.Scan.Scanner = c.clamd
	}
	c.pool = content.New(o)
	return c
}

// problems says what is wrong with the scanner.
func (c *contents) problems() []string {
	if c.clamd != nil {
		if p := c.clamd.Problem(); p != "" {
			return []string{p}
		}
	}
	return nil
}

// Fetch implements arbiter.Fetcher.
func (c *contents) Fetch(h arbiter.Held, r *abi.Request, want abi.Fields, wait time.Duration) bool {
	o := content.Object{File: -1, Task: r.TID, Path: string(r.Path()), Dev: r.Dev, Ino: r.Ino}
	if c.lent {
		o = content.Object{File: int(r.File)}
	}
	return c.pool.Submit(o, want, wait, h.Content)
}

// count adds the counters that are not 0. Their names are those of the time when digests were
// all that was looked for, but for what a scanner has said.
func (c *contents) count(to map[string]uint64) {
	for name, n := range c.pool.Stats() {
		if !strings.HasPrefix(name, "scan.") {
			name = "digest." + name
		}
		if n > 0 {
			to[name] = n
		}
	}
}

func (c *contents) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	return c.pool.Close(ctx)
}

// cannotBeHad are the files of which a fact of the content is not to be had.
var cannotBeHad = [...]struct {
	fact      abi.Fields
	key, what string
}{
	{abi.FieldDigest, "object.sha256", "that cannot be hashed, because it is larger than digest_max_size, changes meanwhile or takes longer than the deadline"},
	{abi.FieldFormat, "object.format", "whose first bytes cannot be read, because it is gone, changes meanwhile or its file system takes longer than the deadline"},
	{abi.FieldVerity, "object.fsverity", "of which the kernel cannot be asked for the digest, because it is gone or its file system takes longer than the deadline"},
	{abi.FieldScan, "object.scan", "that cannot be scanned, because it is larger than scanner.max_size, the scanner is not there, or it takes longer than the deadline"},
}

// contentWarnings says what becomes of files whose content cannot be looked at, or not in
// time: the kernel side gives up after bound. scanner: there is one.
func contentWarnings(rs *rules.RuleSet, scanner bool, bound time.Duration) (warnings []string) {
	var looks abi.Fields
	for _, e := range rs.Events() {
		looks |= rs.Consulted(e) & abi.ContentFields
	}
	open := rs.OnFail(-1).Action == rules.Allow
	for _, c := range cannotBeHad {
		if open && looks&c.fact != 0 {
			warnings = append(warnings, c.key+": a file "+c.what+", goes on by the file's on_fail, allow; set on_fail: deny")
		}
	}
	if looks&abi.FieldDigest != 0 && bound < time.Second { // else it is the deadline that counts
		const rate = 1 << 10 // bytes in a microsecond, which a CPU with instructions for SHA-256 does
		warnings = append(warnings, fmt.Sprintf("object.sha256: a task waits %v at most here (wait), which is enough to hash some %d MiB for the first time; for larger files it goes on by the file's on_fail, %v",
			bound, bound.Microseconds()*rate>>20, rs.OnFail(-1)))
	}
	if looks&abi.FieldScan != 0 {
		warnings = append(warnings, scanWarnings(rs, scanner, bound)...)
	}
	return warnings
}
