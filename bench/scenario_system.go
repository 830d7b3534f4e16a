// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// systemPrefix begins the IDs of the rows.
const systemPrefix = "exec-"

// System is the mechanism of a row of a whole system.
const System Mechanism = "system"

// Systems returns the scenarios of `arbiter-bench systems` in the order of their rounds;
// arbiterd is the path of that program, "" for the one beside this one.
func Systems(arbiterd string) []Scenario {
	var list []Scenario
	for _, s := range systemsOf(arbiterd) {
		list = append(list, systemScenario{s})
	}
	return list
}

// systemScenario executes programs that nobody has executed before. The system is there
// during the rounds alone, so that none has to do with another one's.
type systemScenario struct{ system system }

// systemSamples is how many programs a round executes.
const systemSamples = 200

func (s systemScenario) Describe() Info {
	i := Info{ID: systemPrefix + s.system.id, Mechanism: System, Responder: s.system.what, Baseline: systemPrefix + "plain", MaxSamples: systemSamples, StartLimit: slowStart}
	if s.system.start == nil {
		i.Mechanism, i.Baseline = Baseline, ""
	}
	return i
}

func (s systemScenario) Open(at Place) (Session, error) {
	if os.Getenv(SystemsEnv) == "" {
		return nil, &UnavailableError{"taking the machine over", "run scripts/systems, which makes one in an emulator", nil}
	}
	return openSystem(s.system, at.Requester), nil
}

func openSystem(sys system, cpu int) *systemSession {
	s := &systemSession{system: sys, cpu: cpu}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// SystemsEnv has to be set for Systems: whole systems hold everything that a machine does.
const SystemsEnv = "ARBITER_BENCH_SYSTEMS"

type systemSession struct {
	system system
	cpu    int
	next   uint64          // program
	ctx    context.Context // of the round, which ends with the session
	cancel context.CancelFunc
	round  sync.Mutex // is held by the round that is under way
}

// Round starts the system, tries it, and executes programs.
func (s *systemSession) Round(o RoundOptions, samples []uint32) (out Outcome, fault error) {
	s.round.Lock()
	defer s.round.Unlock()
	begin := time.Now()
	for _, dir := range []string{systemAllowed, systemDenied} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return out, fmt.Errorf("making the folders of the programs: %w", err)
		}
	}
	dir, err := os.MkdirTemp("/run", "arbiter-bench-")
	if err != nil {
		return out, fmt.Errorf("making the system's folder: %w", err)
	}
	defer os.RemoveAll(dir)
	var counts func() (workCounts, error)
	if s.system.start != nil {
		runtime.LockOSThread() // a daemon ends with the thread that has started it
		defer runtime.UnlockOSThread()
		started, err := s.system.start(s.ctx, dir, s.system.policy)
		if err != nil {
			return out, err
		}
		defer func() { fault = errors.Join(fault, started.stop()) }()
		counts = started.counts
	}
	done := make(chan error)
	go func() { done <- s.executeAll(o, begin, samples, counts, &out) }() // the thread is pinned, and perhaps confined, for good
	fault = <-done
	return out, fault
}

func (s *systemSession) executeAll(o RoundOptions, begin time.Time, samples []uint32, counts func() (workCounts, error), out *Outcome) error {
	if err := pinThread(s.cpu); err != nil {
		return err
	}
	if s.system.enter != nil {
		if err := s.system.enter(); err != nil {
			return err
		}
	}
	if err := s.try(); err != nil {
		return err
	}
	for range min(o.Warmup, 20) {
		if _, err := s.execute(systemAllowed); err != nil {
			return err
		}
	}
	if counts == nil {
		return s.again(o, begin, samples, out)
	}
	before, err := counts()
	if err != nil {
		return err
	}
	if err := s.again(o, begin, samples, out); err != nil {
		return err
	}
	after, err := counts()
	if err != nil {
		return err
	}
	// Who is not asked adds nothing, and a failure verdict adds what nobody has decided.
	if c := after.less(before); c.failed > 0 || c.execs < float64(out.Samples) {
		return fmt.Errorf("executing %d programs under %s: %.0f execs were asked about, and there were %.0f failure verdicts: want each asked about and none of those; measure again on a quieter machine",
			out.Samples, s.system.what, c.execs, c.failed)
	}
	return nil
}

func (s *systemSession) again(o RoundOptions, begin time.Time, samples []uint32, out *Outcome) error {
	for ; out.Samples < len(samples) && time.Since(begin) <= o.Budget; out.Samples++ {
		took, err := s.execute(systemAllowed)
		if err != nil {
			return err
		}
		samples[out.Samples] = uint32(min(took, math.MaxUint32))
	}
	return nil
}

// try waits until the system refuses what it has to, if there is one.
func (s *systemSession) try() error {
	if s.system.start == nil {
		return nil
	}
	err := eventually(s.ctx, func() error {
		if _, err := s.execute(systemDenied); !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("executing a program of %s: got %v, want it refused", systemDenied, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("trying %s: %w", s.system.what, err)
	}
	return nil
}

// execute makes a program in dir and returns how long it took to execute it, from fork to
// its end.
func (s *systemSession) execute(dir string) (time.Duration, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	s.next++
	path := filepath.Join(dir, fmt.Sprintf("program-%d", s.next))
	if err := os.WriteFile(path, tinyProgram(s.next), 0o755); err != nil {
		return 0, fmt.Errorf("making a program: %w", err)
	}
	defer os.Remove(path)
	begin := time.Now()
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{})
	if err != nil {
		return 0, fmt.Errorf("executing a program: %w", err)
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	took := time.Since(begin)
	if err != nil || status != 0 {
		return 0, fmt.Errorf("executing a program: status %d, %v", status, err)
	}
	return took, nil
}

// Close ends the round that is under way, and its system with it.
func (s *systemSession) Close() error {
	s.cancel()
	s.round.Lock()
	defer s.round.Unlock()
	return nil
}
