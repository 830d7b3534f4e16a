// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/rules"
)

// The rows of what the kernel side answers by itself: by the BPF programs that the native queue
// has for it, so nobody answers.
const (
	kernelCacheID = "kernel-cache"
	kernelPathID  = "kernel-path"
)

// cacheScenario looks an exec of its own executable up in the verdict cache of the kernel.
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
	n, err := openKernelSide(at)
	if err != nil {
		return nil, err
	}
	// What the rules of most sets look at.
	n.Keep(abi.FieldPath | abi.FieldUID | abi.FieldExe)
	return newKernelSession(n, func(took []uint64) (bool, error) { return n.RunCached(at.Requester, took) }), nil
}

// settle is how old a file has to be for the cache.
const settle = 4 * time.Second

// pathScenario decides an exec by rules about paths, the last of which allows it.
type pathScenario struct{}

func (pathScenario) Describe() Info {
	return Info{ID: kernelPathID, Mechanism: KernelRules, Responder: "nobody: allowed by its path", NoResponder: true}
}

// kernelPathRules are such as a machine has on which what its packages have put somewhere may run.
const kernelPathRules = `version: 1
default: deny
scope: {paths: [/usr]}
rules:
  - {id: not-these, events: [exec], object: {path: [/usr/bin/gdb, /usr/bin/strace]}, verdict: deny}
  - {id: as-root, events: [exec], object: {path: {prefix: /usr/sbin/}}, subject: {uid: 0}, verdict: allow}
  - {id: programs, events: [exec], object: {path: /usr/bin/*}, verdict: allow}
  - {id: libraries, events: [exec], object: {path: {prefix: /usr/lib/}}, verdict: allow}
`

func (pathScenario) Open(at Place) (_ Session, err error) {
	rs, err := rules.Load("the bench's", []byte(kernelPathRules), rules.Options{})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	n, err := openKernelSide(at)
	if err != nil {
		return nil, err
	}
	var decide [abi.EventCount][]abi.KernelRule
	decide[abi.EventExec] = rs.KernelRules(abi.EventExec)
	if err := n.Decide(decide); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.SetQuestion(ring.Facts{Event: uint32(abi.EventExec), Access: uint32(abi.AccessExec)}, "/usr/lib/git-core/git-remote-http", "")
	return newKernelSession(n, func(took []uint64) (bool, error) {
		v, decided, err := n.RunDecided(at.Requester, took)
		return decided && v.Allowed(), err
	}), nil
}

func openKernelSide(at Place) (*kernelbridge.Native, error) {
	return kernelbridge.OpenNative(kernelbridge.NativeOptions{CPUs: []int{at.Responder}, Wait: nativeWait})
}

// kernelSession has the kernel side answer by itself. run reports whether the last of len(took)
// answers was the expected one.
type kernelSession struct {
	queue *kernelbridge.Native
	run   func(took []uint64) (bool, error)
	chunk []uint64
}

func newKernelSession(n *kernelbridge.Native, run func([]uint64) (bool, error)) *kernelSession {
	return &kernelSession{n, run, make([]uint64, nativeChunk)}
}

// Round looks in chunks. Those of a chunk that ends with an unexpected answer count as failed.
func (s *kernelSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	begin := time.Now()
	if _, err := s.run(s.chunk[:max(min(o.Warmup, nativeChunk), 1)]); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for out.Samples < len(samples) && time.Since(begin) <= o.Budget {
		took := s.chunk[:min(len(samples)-out.Samples, nativeChunk)]
		expected, err := s.run(took)
		if err != nil {
			return Outcome{}, err
		}
		if !expected {
			out.Failed += len(took)
		}
		for i, ns := range took {
			samples[out.Samples+i] = uint32(min(ns, math.MaxUint32))
		}
		out.Samples += len(took)
	}
	return out, nil
}

func (s *kernelSession) Close() error { return s.queue.Close() }
