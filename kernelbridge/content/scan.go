// SPDX-License-Identifier: Apache-2.0

package content

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Scanner looks for what is malicious in files. Its methods may be called concurrently.
type Scanner interface {
	// Scan has the file looked at that fd is open for reading of, and returns the name of what
	// was found, "" for nothing. On an error nothing is known of the file; ErrUnavailable is
	// in it when none can be scanned now.
	Scan(ctx context.Context, fd int) (signature string, err error)
	// Edition names what Scan looks for now: another name, and files that were clean may not be.
	// Without one nothing that is found is remembered.
	Edition(ctx context.Context) (string, error)
}

// Scanning says by whom files are scanned, and which. Zero values mean the defaults.
type Scanning struct {
	Scanner  Scanner       // nil: no file is scanned, and rules about it get the failure verdict
	MaxBytes int64         // a larger file is not scanned; not above Options.MaxBytes
	MaxAge   time.Duration // a result is remembered no longer
	AtOnce   int           // files that are scanned at the same time
}

// Defaults of Scanning.
const (
	// DefaultScanMaxBytes is the largest file that clamd reads as Debian configures it
	// (MaxFileSize 25M): of a larger one it says that nothing is wrong with it.
	DefaultScanMaxBytes = 25 << 20
	// DefaultScanMaxAge bounds how long a result outlives signatures whose changes the
	// scanner does not tell of.
	DefaultScanMaxAge = 10 * time.Minute
	// DefaultScansAtOnce is half of clamd's threads (MaxThreads 12 in Debian, 10 elsewhere).
	DefaultScansAtOnce = 5
)

func (s *Scanning) fill() {
	if s.MaxBytes <= 0 {
		s.MaxBytes = DefaultScanMaxBytes
	}
	if s.MaxAge <= 0 {
		s.MaxAge = DefaultScanMaxAge
	}
	if s.AtOnce <= 0 {
		s.AtOnce = DefaultScansAtOnce
	}
}

// handOver passes a job, whose file is open and has to be scanned, to the lane of those who wait
// for the scanner. What is remembered does not come that far, so it waits for no scan.
func (p *Pool) handOver(j *job) error {
	if p.opts.Scan.Scanner == nil {
		return errNoScanner
	}
	next := *j
	select {
	case p.scans <- next:
		j.File = -1 // it is the other lane's to close
		return errElsewhere
	default:
		return errNoRoom
	}
}

// await has a job, whose file is open and was scanned before, looked at again when the edition is
// known by which that holds or does not.
func (p *Pool) await(j *job) error {
	if !p.editions.wait(p, *j) {
		return errNoRoom
	}
	j.File = -1 // it is the other's to close
	return errElsewhere
}

// scan has a file scanned, and hashed on the way: so all that is known of it is of one moment,
// the record of what was found has its digest, and it is certain that the descriptor can be read
// by, for clamd finds nothing in one that cannot.
func (p *Pool) scan(j *job, h *hasher) (c abi.Content, err error) {
	s, err := stampOf(j.File)
	if err != nil {
		return c, err
	}
	if s.size > p.opts.Scan.MaxBytes {
		return c, errScanTooBig
	}
	edition := p.editions.ask(p)
	if c, ok := p.remembered(s, edition); ok && j.want&^c.Known == 0 {
		p.counters.hits.Add(1)
		return c, nil
	}
	if !s.lasting(j.File, p.now()) {
		k, _, err := p.scanned(j.File, s, h, edition)
		return k.Content, err
	}
	return p.once(flight{s, abi.FieldScan, edition}, j.done, func() (known, stamp, error) { return p.scanned(j.File, s, h, edition) })
}

// scanned has the file scanned whose stamp is s. edition is what the scanner was before.
func (p *Pool) scanned(fd int, s stamp, h *hasher, edition string) (k known, of stamp, err error) {
	k.edition, k.scanned = edition, p.now()
	var took time.Duration
	of, err = steady(fd, s, func(size int64) (err error) {
		if size > p.opts.Scan.MaxBytes {
			return errScanTooBig
		}
		if k.Content, err = p.read(fd, size, h); err != nil {
			return err
		}
		begin := time.Now()
		found, err := p.opts.Scan.Scanner.Scan(p.stop, fd)
		switch {
		case p.stop.Err() != nil:
			return errStopped
		case err != nil:
			return p.unscanned(err)
		}
		took = time.Since(begin)
		k.SetScan(found)
		return nil
	})
	if err != nil {
		return known{}, of, err
	}
	p.counters.scans.count(took, k.Scan == abi.ScanInfected)
	return k, of, nil
}

// unscannedEvery is how often it is said that a file could not be scanned.
const unscannedEvery = 10 * time.Second

func (p *Pool) unscanned(err error) error {
	err = fmt.Errorf("%w: %w", errScan, err)
	last, now := p.lastSaid.Load(), p.now().UnixNano()
	if causeOf(err) == causeScanFailed && now-last > int64(unscannedEvery) && p.lastSaid.CompareAndSwap(last, now) {
		p.opts.Logger.Warn("a file could not be scanned, and gets the failure verdict", slog.Any("error", err))
	}
	return err
}
