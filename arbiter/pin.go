// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pinEvery is how often threads are put back on their CPUs.
const pinEvery = time.Second

// pin keeps the worker's thread on its CPU.
func (w *worker) pin() error {
	if w.cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(w.cpu)
	err := unix.SchedSetaffinity(w.tid, &set)
	w.displaced.Store(err != nil)
	return err
}

// keepPinned puts the workers back on their CPUs, and the others of the process off them, now
// and then, until stop is closed. A CPU may have been offline: the kernel lets a thread run on
// all others then, and does not take that back. No worker may end before: its thread's number
// may be another's then.
func (a *Arbiter) keepPinned(stop <-chan struct{}) {
	tick := time.NewTicker(pinEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			for _, w := range a.workers {
				_ = w.pin() // an error says that the CPU is still offline
			}
			a.keepApart()
		}
	}
}

// cpusOf returns the CPUs that workers are pinned to.
func cpusOf(workers []Worker) (set unix.CPUSet) {
	for _, w := range workers {
		if w.CPU >= 0 {
			set.Set(w.CPU)
		}
	}
	return set
}

// sweeps bounds others: a thread that is created meanwhile has the CPUs of its creator, and is
// met in the next sweep.
const sweeps = 4

// keepApart keeps all threads of the process but the workers' off the workers' CPUs, see
// Config.Apart. Threads that these create keep off them, too.
func (a *Arbiter) keepApart() {
	if a.cfg.Apart {
		a.others(a.moveOff)
	}
}

// giveBack undoes that.
func (a *Arbiter) giveBack() {
	if a.cfg.Apart {
		a.others(a.moveBack)
	}
}

// others has all threads of the process moved but the workers', until none was.
func (a *Arbiter) others(move func(tid int) bool) {
	// In a /proc of another pid namespace the numbers are those of others.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return
	}
	for moved, n := true, 0; moved && n < sweeps; n++ {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return // without it a worker waits now and then: it is no reason to stop
		}
		moved = false
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err == nil && !a.isWorker(tid) && move(tid) {
				moved = true
			}
		}
	}
}

func (a *Arbiter) isWorker(tid int) bool {
	for _, w := range a.workers {
		if w.tid == tid {
			return true
		}
	}
	return false
}

// moveOff takes the workers' CPUs from a thread that has others. False: it has none of those, or
// no others, as one that has been put there, or it has ended.
func (a *Arbiter) moveOff(tid int) bool {
	var before unix.CPUSet
	if unix.SchedGetaffinity(tid, &before) != nil { // or there are more CPUs than the set has room for
		return false
	}
	after := without(before, a.cpus)
	return after != before && after.Count() > 0 && unix.SchedSetaffinity(tid, &after) == nil
}

// moveBack gives a thread the CPUs that the process had, if it has what moveOff left of them.
func (a *Arbiter) moveBack(tid int) bool {
	var now unix.CPUSet
	return unix.SchedGetaffinity(tid, &now) == nil && now != a.before && now == without(a.before, a.cpus) &&
		unix.SchedSetaffinity(tid, &a.before) == nil
}

// without returns the CPUs of a set that are not in another one.
func without(set, other unix.CPUSet) unix.CPUSet {
	for i := range set {
		set[i] &^= other[i]
	}
	return set
}
