// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// failuresKept is how many failures may wait for OnFailure to return.
const failuresKept = 64

// report counts a failure verdict and hands it to OnFailure by way of another
// goroutine: whoever gives such a verdict is in a hurry. f is nil when there was no
// room for it.
func (b *Backend) report(f *abi.Failure, reason abi.Reason, v abi.Verdict) {
	b.counters.failed[reason].Add(1)
	if b.opts.OnFailure == nil {
		return
	}
	if f != nil {
		f.Reason, f.Verdict = reason, v
		select {
		case b.failures <- f:
			return
		default:
		}
	}
	b.counters.unreported.Add(1)
}

// deliver hands failures over until halt is closed and none is left.
func (b *Backend) deliver() {
	for {
		select {
		case f := <-b.failures:
			b.opts.OnFailure(f)
			continue
		case <-b.halt:
		}
		select {
		case f := <-b.failures:
			b.opts.OnFailure(f)
		default:
			return
		}
	}
}

// describe returns what can be said of an event whose file is open as fd, nil when
// nobody asks for it or there is no room. s is only the scratch space. Without
// numbers it touches no file system but proc.
func (s *Source) describe(fd int32, event abi.Event, tid uint32, numbers bool) *abi.Failure {
	if s.b.opts.OnFailure == nil || len(s.b.failures) == cap(s.b.failures) {
		return nil
	}
	f := &abi.Failure{}
	r := &f.Request
	r.PostedNS, r.Event, r.TID = s.b.clock.now(), event, tid
	if event == abi.EventExec {
		r.Access = abi.AccessExec
	}
	name := append(strconv.AppendInt(s.name[:0], int64(fd), 10), 0)
	if n, errno := readlinkat(s.b.fdDir, name, r.PathBuf[:]); errno == 0 && n < abi.PathBytes {
		r.PathLen = uint32(n)
	}
	var st unix.Statx_t
	if numbers && statxat(int(fd), selfPath, unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, &st) == 0 {
		r.Dev, r.Ino = dev(&st), st.Ino
	}
	if tid == 0 {
		return f
	}
	if text, ok := s.readProc(tid, "/status\x00"); ok {
		parseStatus(text, r)
	}
	if text, ok := s.readProc(tid, "/stat\x00"); ok {
		r.StartBoottime = parseStat(text, &r.Comm)
	}
	return f
}
