// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
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
	for _, w := range works(workPart()) {
		list = append(list, workScenario{work: w}, workScenario{w, kernelbridge.BackendFanotify, daemon}, workScenario{w, kernelbridge.BackendLSM, daemon})
	}
	return list
}

// workScenario runs programs in a tree of its own. Every open in the tree and every
// program that is executed from it is asked about, by a daemon with DaemonRules rules. The
// daemon is there during the rounds alone, so that none has to do with another row's.
type workScenario struct {
	work    work
	backend string // of the daemon; "": nobody is asked
	daemon  string
}

// workRuns is how often a round does what takes a moment.
const workRuns = 3

func (s workScenario) Describe() Info {
	plain := workPrefix + s.work.id
	i := Info{ID: plain, Mechanism: Baseline, Responder: s.work.what, MaxSamples: workRuns, StartLimit: slowStart}
	if s.backend != "" {
		i.ID, i.Mechanism, i.Baseline = plain+"-"+strings.TrimPrefix(s.backend, "bpf-"), Program, plain
		i.Responder = "the same, asked about, " + s.backend
	}
	return i
}

func (s workScenario) Open(Place) (_ Session, err error) {
	for _, program := range append([]string{"sh"}, s.work.needs...) {
		if _, err := exec.LookPath(program); err != nil {
			return nil, &UnavailableError{"looking for " + program, "install it", err}
		}
	}
	if s.backend != "" && s.daemon == "" {
		if s.daemon, err = arbiterdBeside(); err != nil {
			return nil, err
		}
	}
	if s.backend == kernelbridge.BackendLSM {
		if err := lsmWorks(); err != nil {
			return nil, err
		}
	}
	w, err := openWorkThread()
	if err != nil {
		return nil, err
	}
	sess := &workSession{workThread: w, workScenario: s}
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
		if s.work.prepare == "" {
			return nil
		}
		_, err := sess.shell(s.work.prepare)
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
	workScenario
	ctx    context.Context // of the programs and the daemon, which end with the session
	cancel context.CancelFunc
}

// Round starts the daemon, does the work once, for what is read for the first time, and then
// again and again.
func (s *workSession) Round(o RoundOptions, samples []uint32) (out Outcome, err error) {
	end := time.Now().Add(o.Budget)
	err = s.do(func() (fault error) {
		if s.backend == "" {
			if _, err := s.once(); err != nil {
				return err
			}
			return s.again(end, samples, &out)
		}
		dir := filepath.Join(s.dir, "daemon")
		d, err := startWorkDaemon(s.ctx, s.daemon, s.backend, dir, s.tree)
		if err != nil {
			return err
		}
		defer func() { fault = errors.Join(fault, d.close(), os.RemoveAll(dir)) }()
		if _, err := s.once(); err != nil {
			return err
		}
		return s.askedAbout(d, end, samples, &out)
	})
	return out, err
}

func (s *workSession) again(end time.Time, samples []uint32, out *Outcome) error {
	for out.Unit = time.Microsecond; out.Samples < len(samples) && time.Now().Before(end); out.Samples++ {
		took, err := s.once()
		if err != nil {
			return err
		}
		if took > highestNS {
			return fmt.Errorf("doing the work %s: it took %v, and %v is the most that can be recorded: give a larger --part", s.work.id, took.Round(time.Millisecond), time.Duration(highestNS))
		}
		samples[out.Samples] = uint32(took / out.Unit)
	}
	return nil
}

// askedAbout is again with a look at what the daemon counts. Work that does not ask as often
// as it has to was not arbitrated.
func (s *workSession) askedAbout(d *workDaemon, end time.Time, samples []uint32, out *Outcome) error {
	before, err := d.counts()
	if err != nil {
		return err
	}
	if err := s.again(end, samples, out); err != nil {
		return err
	}
	after, err := d.counts()
	if err != nil || out.Samples == 0 {
		return err
	}
	each := after.less(before).over(out.Samples)
	if got := each.asked(); got < float64(s.work.least) {
		return fmt.Errorf("doing the work %s: the daemon counted %.0f opens and execs each time, want at least %d", s.work.id, got, s.work.least)
	}
	out.Figures = map[string]float64{FigureAsked: each.asked(), FigureVerdicts: each.answered, FigureKernelHits: each.kept, FigureFailures: each.failed}
	return nil
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

// Close ends what is under way, the daemon with it, then the thread.
func (s *workSession) Close() error {
	s.cancel()
	return errors.Join(s.do(func() error { return nil }), s.workThread.close()) // after the round, if there is one
}
