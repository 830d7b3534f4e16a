// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// LSMHook is the mechanism of the rows in which an LSM program asks.
const LSMHook Mechanism = "LSM hook"

// rungPrefix begins the IDs of the rows.
const rungPrefix = "rung-"

// rungSleepID is the row that the others are compared with.
const rungSleepID = rungPrefix + "open-sleep-same"

// Rungs returns the scenarios of `arbiter-bench rungs` in the order of their rounds: a system call
// whose hook is called with a directory locked, and one whose hook may sleep, each without
// anybody who is asked, and by every rung of the wait ladder; and an open that fanotify holds.
func Rungs() []Scenario {
	return []Scenario{
		rungScenario{call: callRename},
		rungScenario{call: callRename, rung: polls},
		rungScenario{call: callRename, rung: unwinds, sameCPU: true},
		rungScenario{call: callRename, rung: unwinds},
		rungScenario{call: callOpen},
		rungScenario{call: callOpen, rung: polls},
		rungScenario{call: callOpen, rung: sleeps, sameCPU: true},
		rungScenario{call: callOpen, rung: sleeps},
		rungFanotify{sameCPU: true},
		rungFanotify{},
	}
}

// rung is how a task waits for its verdict.
type rung string

const (
	polls   rung = "poll"   // the worker polls, and answers before the task could do anything else
	sleeps  rung = "sleep"  // the task sleeps in the hook, until a parked worker has woken up
	unwinds rung = "unwind" // its system call returns, it sleeps without its locks, and the call runs again
)

// rungScenario has a process of its own make a system call, in a folder which is all that is in
// scope, and one worker that allows without looking at rules. The programs are attached
// during the rounds alone, so that none has to do with another row's.
type rungScenario struct {
	call    string
	rung    rung // "" where nobody is asked
	sameCPU bool
}

// rungSamples is how many calls a round makes.
const rungSamples = 200

func (s rungScenario) Describe() Info {
	plain := rungPrefix + s.call
	if s.rung == "" {
		return Info{ID: plain, Mechanism: Baseline, Responder: s.call + ", nobody is asked", NoResponder: true, MaxSamples: rungSamples}
	}
	i := Info{ID: plain + "-" + string(s.rung), Mechanism: LSMHook, Baseline: plain, SameCPU: s.sameCPU, MaxSamples: rungSamples, StartLimit: slowStart}
	what := map[rung]string{polls: "polls", sleeps: "sleeps in the hook, parked worker", unwinds: "unwound, parked worker"}[s.rung]
	where := "other CPU"
	if s.sameCPU {
		where = "same CPU"
	}
	if s.rung != polls {
		i.ID += "-" + where[:len(where)-len(" CPU")]
	}
	i.Responder = s.call + ", " + what + ", " + where
	return i
}

// event is what is asked about.
func (s rungScenario) event() abi.Event {
	if s.call == callRename {
		return abi.EventRename
	}
	return abi.EventOpen
}

func (s rungScenario) Open(at Place) (_ Session, err error) {
	if s.rung == "" {
		return openRungs(s, nil, at)
	}
	if err := s.possible(); err != nil {
		return nil, err
	}
	// A CPU of a machine that emulates can stand still for a while: that is neither a dead daemon
	// nor another rung.
	o := kernelbridge.LSMOptions{CPUs: []int{at.Responder}, Wait: nativeWait, Heartbeat: rungPatience}
	if s.rung == polls {
		o.Spin = rungPatience
	}
	lsm, err := kernelbridge.OpenLSM(o)
	if err != nil {
		return nil, err
	}
	if err := lsm.NoGate(); err != nil && s.rung != polls {
		return nil, errors.Join(&UnavailableError{"sleeping in a hook", "run on a kernel of 6.12 or later with FUSE", err}, lsm.Close())
	}
	return openRungs(s, lsm, at)
}

// rungPatience is how long a worker may have no CPU.
const rungPatience = 10 * time.Second

// possible says why the row is not to be had on this machine.
func (s rungScenario) possible() error {
	if s.rung == polls && countsInstructions() {
		return &UnavailableError{"polling", "start the machine without counting instructions, which lets one CPU run at a time", nil}
	}
	if err := lsmWorks(); err != nil || s.rung != unwinds {
		return err
	}
	hooks, err := kernelbridge.RunningHooks()
	if err != nil {
		return err
	}
	for _, h := range hooks {
		for _, e := range h.Events {
			if e == s.event() && h.Rung != kernelbridge.RungUnwind {
				return &UnavailableError{"unwinding a " + s.call, "boot a kernel of 6.18 or later", errors.New(h.Why)}
			}
		}
	}
	return nil
}

// openRungs starts the caller; a nil queue is for a row in which nobody is asked. The session
// closes the queue, and so does an error.
func openRungs(s rungScenario, q rungQueue, at Place) (_ Session, err error) {
	sess := &rungSession{rungScenario: s, queue: q, at: at}
	defer func() {
		if err != nil {
			err = errors.Join(err, sess.Close())
		}
	}()
	if q != nil {
		// As in the daemon: a polling worker keeps a processor of the Go scheduler.
		runtime.GOMAXPROCS(runtime.NumCPU() + 3)
	}
	if sess.dir, err = callerDir(); err != nil {
		return nil, err
	}
	if sess.caller, err = startOrdered(CallerWord, s.call, sess.dir, strconv.Itoa(at.Requester)); err != nil {
		return nil, err
	}
	return sess, nil
}

// callerDir makes a folder with the file that is called about. It is made, and to be removed, when there is an
// error as well, unless it is "".
func callerDir() (string, error) {
	dir, err := os.MkdirTemp("", "arbiter-bench-")
	if err != nil {
		return "", fmt.Errorf("making the caller's folder: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return dir, fmt.Errorf("making the caller's folder: %w", err)
	}
	return real, writeFiles(real, map[string]string{callerFile: "x"})
}
