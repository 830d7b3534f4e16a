// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"sync"
	"sync/atomic"
	"time"
)

// An exec reaches us twice: the kernel asks FAN_OPEN_EXEC_PERM and, if that was
// allowed, FAN_OPEN_PERM for the same open of the same file by the same thread. The
// table holds the execs that were allowed and whose twin has not come yet, so
// that a rule about exec alone decides an exec.

const (
	twinBuckets = 64
	twinWays    = 8
	// twinLife ends an entry whose thread was killed between the two events. A
	// thread id cannot come round again in that time with a usual pid_max, and
	// where pidfds have inode numbers (6.9) not even then.
	twinLife = int64(10 * time.Second)
)

// twinKey names one open of one file by one thread.
type twinKey struct {
	dev, ino uint64
	thread   uint64 // inode of the thread's pidfd: never reused; 0 when not known
	tid      uint32
}

type twinEntry struct {
	key   twinKey
	since int64 // 0: free
}

// twinTable has a fixed size; when a bucket is full the oldest entry goes, and
// its twin is asked like any open. Safe for concurrent use; the lock is taken only
// while an exec is under way.
type twinTable struct {
	count   atomic.Int64
	mu      sync.Mutex
	entries [twinBuckets][twinWays]twinEntry
}

// pending reports whether any twin is awaited.
func (t *twinTable) pending() bool { return t.count.Load() > 0 }

func (t *twinTable) add(k twinKey, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := &t.entries[k.tid%twinBuckets]
	slot := &bucket[0]
	for i := range bucket {
		e := &bucket[i]
		if e.since == 0 || e.key.tid == k.tid {
			slot = e // free, or the same thread's last exec, whose twin never came
			break
		}
		if e.since < slot.since {
			slot = e
		}
	}
	if slot.since == 0 {
		t.count.Add(1)
	}
	*slot = twinEntry{key: k, since: now}
}

// mayHold reports whether a twin of that thread is awaited. Entries that are too
// old go away here.
func (t *twinTable) mayHold(tid uint32, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	bucket := &t.entries[tid%twinBuckets]
	for i := range bucket {
		e := &bucket[i]
		if e.since != 0 && now-e.since > twinLife {
			e.since = 0
			t.count.Add(-1)
		}
		found = found || e.since != 0 && e.key.tid == tid
	}
	return found
}

// consume takes the entry for k out and reports whether there was one. An entry
// of the same thread for another file goes as well: its twin will not come any
// more, for it would have come first.
func (t *twinTable) consume(k twinKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := &t.entries[k.tid%twinBuckets]
	for i := range bucket {
		e := &bucket[i]
		if e.since != 0 && e.key.tid == k.tid {
			e.since = 0
			t.count.Add(-1)
			return e.key == k
		}
	}
	return false
}
