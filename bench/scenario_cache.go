// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"os"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// kernelCacheID is the row of a hit of the kernel's cache.
const kernelCacheID = "kernel-cache"

// cacheScenario looks an exec of its own executable up in the verdict cache of the
// kernel, by the BPF program that the native queue has for it: nobody answers.
type cacheScenario struct{}

func (cacheScenario) Describe() Info {
	return Info{ID: kernelCacheID, Mechanism: KernelCache, Responder: "nobody: a hit", NoResponder: true}
}

func (cacheScenario) Open(at Place) (Session, error) {
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("looking at our own executable: %w", err)
	}
	time.Sleep(min(settle-time.Since(exe.ModTime()), settle)) // it may have just been built
	n, err := kernelbridge.OpenNative(kernelbridge.NativeOptions{CPUs: []int{at.Responder}, Wait: nativeWait})
	if err != nil {
		return nil, err
	}
	// What the rules of most sets look at.
	n.Keep(abi.FieldPath | abi.FieldUID | abi.FieldExe)
	return &cacheSession{n, at.Requester, make([]uint64, nativeChunk)}, nil
}

type cacheSession struct {
	queue *kernelbridge.Native
	cpu   int
	chunk []uint64
}

// settle is how old a file has to be for the cache.
const settle = 4 * time.Second

// Round looks in chunks. A look that misses counts as failed.
func (s *cacheSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	begin := time.Now()
	if _, err := s.queue.RunCached(s.cpu, s.chunk[:max(min(o.Warmup, nativeChunk), 1)]); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for out.Samples < len(samples) && time.Since(begin) <= o.Budget {
		took := s.chunk[:min(len(samples)-out.Samples, nativeChunk)]
		hit, err := s.queue.RunCached(s.cpu, took)
		if err != nil {
			return Outcome{}, err
		}
		if !hit {
			out.Failed += len(took)
		}
		for i, ns := range took {
			samples[out.Samples+i] = uint32(min(ns, math.MaxUint32))
		}
		out.Samples += len(took)
	}
	return out, nil
}

func (s *cacheSession) Close() error { return s.queue.Close() }
