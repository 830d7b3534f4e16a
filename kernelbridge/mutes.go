// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// MuteState is a default mute as it is now.
type MuteState struct {
	catalogue.Mute
	InForce bool
	Why     string // why it is not
}

// Mutes returns the default mutes as they are in force.
func (b *LSM) Mutes() []MuteState {
	b.mu.Lock()
	defer b.mu.Unlock()
	tree, noTree := findCgroups()
	var out []MuteState
	for _, m := range catalogue.Mutes() {
		s := MuteState{Mute: m, InForce: true}
		switch {
		case b.keys.scope.named() == 0:
			s.Why = "there is no scope"
		case slices.Contains(b.keys.unmute, m.Name):
			s.Why = "the rule file unmutes it"
		case m.Name == catalogue.MuteInit:
		case noTree != nil:
			s.Why = noTree.Error()
		case m.Name == catalogue.MuteDaemon:
			if _, err := ownCgroup(tree); err != nil {
				s.Why = err.Error()
			}
		case len(tree.services(m.Cgroups)) == 0:
			s.Why = "no cgroup " + strings.Join(m.Cgroups, " or ")
		}
		s.InForce = s.Why == ""
		out = append(out, s)
	}
	return out
}

// findDefaults looks the default mutes up.
func (k *scopeKeys) findDefaults() {
	k.init = !slices.Contains(k.unmute, catalogue.MuteInit)
	k.services, k.ours = nil, nil
	tree, err := findCgroups()
	if err != nil {
		return
	}
	for _, m := range catalogue.Mutes() {
		switch {
		case slices.Contains(k.unmute, m.Name):
		case m.Name == catalogue.MuteDaemon:
			if own, err := ownCgroup(tree); err == nil {
				k.ours = append(k.ours, cgroupKey(own))
			}
		default:
			k.services = append(k.services, tree.services(m.Cgroups)...)
		}
	}
	if len(k.services) > maxServices-1 {
		k.services = k.services[:maxServices-1]
	}
}

// services returns those of some cgroups that there are, with all below them.
func (t *cgroupTree) services(paths []string) (keys []cgroupKey) {
	for _, path := range paths {
		filepath.WalkDir(t.dir+path, func(dir string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // it has gone, or is not there
			}
			if c, err := t.find(strings.TrimPrefix(dir, t.dir)); err == nil {
				keys = append(keys, cgroupKey(c))
			}
			return nil
		})
	}
	return keys
}

// ownCgroup returns the daemon's own cgroup; the error says why it is not to be muted:
// whoever is in it is not asked about.
func ownCgroup(t *cgroupTree) (Cgroup, error) {
	path, err := t.own()
	if err != nil {
		return Cgroup{}, err
	}
	if path == "/" {
		return Cgroup{}, errors.New("the daemon is in the root cgroup; run it as a service")
	}
	pids, err := os.ReadFile(t.dir + path + "/cgroup.procs")
	if err != nil {
		return Cgroup{}, err
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		if !descends(pid, os.Getpid()) {
			return Cgroup{}, fmt.Errorf("the daemon shares the cgroup %s with process %s; run it as a service", path, pid)
		}
	}
	return t.find(path)
}

// descends reports whether a process is one, or descends from it.
func descends(pid string, from int) bool {
	for range 64 {
		if pid == fmt.Sprint(from) {
			return true
		}
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return errors.Is(err, fs.ErrNotExist) // it has ended
		}
		_, rest, _ := strings.Cut(string(text[max(strings.LastIndex(string(text), ") "), 0):]), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] == "0" {
			return false
		}
		pid = fields[1]
	}
	return false
}

// tendEvery is how often the services of the default mutes are looked up anew: one that
// was restarted has another cgroup.
const tendEvery = 5 * time.Second

// tend keeps the default mutes up to date until Close, and tells of what only a look shows.
func (b *LSM) tend() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			if err := b.refresh(); err != nil && !errors.Is(err, ErrClosed) {
				b.logger.Error("looking the default mutes up anew", slog.Any("error", err))
			}
			if !told && b.GateRefused() > 0 {
				told = true
				b.logger.Error("another LSM refuses tasks that wait the gate: they poll; arbiterctl status says more")
			}
		}
	}
}

// refresh puts the default mutes in force as they are now.
func (b *LSM) refresh() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	next := b.keys
	if next.scope.named() == 0 {
		return nil
	}
	next.findDefaults()
	if slices.Equal(next.services, b.keys.services) && slices.Equal(next.ours, b.keys.ours) {
		return nil
	}
	h := b.queue.Header()
	word := atomic.LoadUint32(&h.Scope)
	if err := b.prepare(&next, word); err != nil {
		return err
	}
	atomic.StoreUint32(&h.Scope, next.word(word))
	b.keys = next
	b.tidy(nil)
	return nil
}
