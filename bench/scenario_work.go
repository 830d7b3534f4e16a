// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Program is the mechanism of the rows of work that is arbitrated.
const Program Mechanism = "program"

// workPrefix begins the IDs of the rows.
const workPrefix = "work-"

// Work returns the scenarios of `arbiter-bench work` in the order of their rounds: each
// kind of work without anybody who is asked, and under a daemon, whose program is given:
// "" for the arbiterd beside this one.
func Work(daemon string) []Scenario {
	var list []Scenario
	for _, w := range works() {
		list = append(list, workScenario{work: w}, workScenario{work: w, arbitrated: true, daemon: daemon})
	}
	return list
}

// workScenario runs programs in a tree of its own. Every open in the tree and every
// program that is executed from it is asked about, by a daemon on fanotify with
// DaemonRules rules.
type workScenario struct {
	work       work
	arbitrated bool
	daemon     string
}

// workRuns is how often a round does what takes a moment.
const workRuns = 3

func (s workScenario) Describe() Info {
	plain := workPrefix + s.work.id
	i := Info{ID: plain, Mechanism: Baseline, Responder: s.work.what, MaxSamples: workRuns, StartLimit: slowStart}
	if s.arbitrated {
		i.ID, i.Mechanism, i.Baseline = plain+"-fanotify", Program, plain
		i.Responder = "the same, asked about"
	}
	return i
}

func (s workScenario) Open(Place) (_ Session, err error) {
	for _, program := range append([]string{"sh"}, s.work.needs...) {
		if _, err := exec.LookPath(program); err != nil {
			return nil, &UnavailableError{"looking for " + program, "install it", err}
		}
	}
	w, err := openWorkThread()
	if err != nil {
		return nil, err
	}
	sess := &workSession{workThread: w, work: s.work}
	sess.ctx, sess.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, sess.Close())
		}
	}()
	return sess, w.do(func() error {
		if err := writeFiles(w.tree, s.work.files()); err != nil {
			return err
		}
		if s.work.prepare != "" {
			if _, err := sess.shell(s.work.prepare); err != nil {
				return err
			}
		}
		if s.arbitrated {
			program := s.daemon
			if program == "" {
				if program, err = arbiterdBeside(); err != nil {
					return err
				}
			}
			if sess.daemon, err = startWorkDaemon(program, w.dir, w.tree); err != nil {
				return err
			}
		}
		_, err := sess.once() // what is read for the first time is read now
		return err
	})
}

// arbiterdBeside returns the path of the daemon in the folder of this program.
func arbiterdBeside() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for the daemon's program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "arbiterd")
	if _, err := os.Stat(path); err != nil {
		return "", &UnavailableError{"looking for the daemon's program", "run make build", err}
	}
	return path, nil
}

type workSession struct {
	*workThread
	work   work
	daemon *workDaemon
	ctx    context.Context // of the programs, which end with the session
	cancel context.CancelFunc
}

// Round does the work again and again.
func (s *workSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	var out Outcome
	err := s.do(func() error {
		for begin := time.Now(); out.Samples < len(samples) && time.Since(begin) <= o.Budget; out.Samples++ {
			took, err := s.once()
			if err != nil {
				return err
			}
			samples[out.Samples] = uint32(min(took, math.MaxUint32))
		}
		return nil
	})
	return out, err
}

// once does the work once, on the thread, and returns how long it took.
func (s *workSession) once() (time.Duration, error) {
	begin := time.Now()
	out, err := s.shell(s.work.run)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	return took, s.work.check(out)
}

func (s *workSession) shell(script string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(s.ctx, "sh", "-c", script)
	// A group of its own, so that what the shell started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.tree, &out, &errs
	// Nobody's configuration, and the same words everywhere.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "TMPDIR=" + s.tree}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("doing the work %s: %w: %s", s.work.id, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// Close ends what is under way, then the daemon, then the thread.
func (s *workSession) Close() error {
	s.cancel()
	var err error
	if s.daemon != nil {
		err = s.do(s.daemon.close)
	}
	return errors.Join(err, s.workThread.close())
}
