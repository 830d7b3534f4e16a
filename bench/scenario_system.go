// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
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
	return &systemSession{system: s.system, cpu: at.Requester}, nil
}

// SystemsEnv has to be set for Systems: whole systems hold everything that a machine does.
const SystemsEnv = "ARBITER_BENCH_SYSTEMS"

type systemSession struct {
	system system
	cpu    int
	next   uint64 // program
}

// Round starts the system, tries it, and executes programs.
func (s *systemSession) Round(o RoundOptions, samples []uint32) (out Outcome, fault error) {
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
	if s.system.start != nil {
		runtime.LockOSThread() // a daemon ends with the thread that has started it
		defer runtime.UnlockOSThread()
		stop, err := s.system.start(dir, s.system.policy)
		if err != nil {
			return out, err
		}
		defer func() { fault = errors.Join(fault, stop()) }()
	}
	done := make(chan error)
	go func() { done <- s.executeAll(o, begin, samples, &out) }() // the thread is pinned, and perhaps confined, for good
	fault = <-done
	return out, fault
}

func (s *systemSession) executeAll(o RoundOptions, begin time.Time, samples []uint32, out *Outcome) error {
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
	err := eventually(func() error {
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

// Close does nothing: nothing lasts longer than a round.
func (s *systemSession) Close() error { return nil }
