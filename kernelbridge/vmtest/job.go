// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// EnvVM is set in the guest, and only there, to the series of its kernel, such as "6.12".
const EnvVM = "ARBITER_VM"

// EnvCounts is set in a guest that counts its time in instructions: see Machine.Count.
const EnvCounts = "ARBITER_VM_COUNTS"

// Where things are in the guest. jobPath is read by the guest's init before anything else.
const (
	jobPath    = "/vm/job.json"
	modulesDir = "/vm/modules"
	sourceRoot = "/src" // the test runs in /src/<its package's folder>, so that relative paths hold
)

// Job is what the host asks of the guest's init.
type Job struct {
	Series  string        // of the kernel, for EnvVM
	Nonce   string        // starts every marker, so that no output of a test can be taken for one
	Dir     string        // working directory of the test, absolute in the guest
	Binary  string        // the test, absolute in the guest
	Args    []string      // without the program's name
	Env     []string      // K=V, on top of the guest's own
	Modules []string      // files to load, absolute in the guest, in order
	Timeout time.Duration // after it the test gets SIGQUIT, so that Go prints its goroutines; 0 is never
}

// Facts is what the guest tells about itself in its start marker.
type Facts struct {
	Release string // uname -r
	Version string // uname -v
	Preempt string // the kernel's own word for its preemption model, empty when it does not say
	LSM     string // /sys/kernel/security/lsm
	CPUs    int    // online
	BTF     bool   // /sys/kernel/btf/vmlinux exists
	FUSE    bool   // the fuse filesystem is there, built in or by a loaded module
}

// String is one line for a person.
func (f Facts) String() string {
	preempt := f.Preempt
	if preempt == "" {
		preempt = "not told"
	}
	return fmt.Sprintf("%s, %d CPUs, preempt %s, lsm %s, btf %t, fuse %t", f.Release, f.CPUs, preempt, f.LSM, f.BTF, f.FUSE)
}

// Words of the markers, in the order in which a run shows them. markFail replaces the rest when init itself cannot go on.
const (
	markStart = "start" // payload: Facts as JSON
	markExit  = "exit"  // payload: the exit status in decimal
	markFail  = "fail"  // payload: what went wrong, one line
)

// A marker is the byte 0x1e, the nonce, a word and a payload, ended by a newline. It may stand in the middle of a line,
// because a test may end without one.
const markByte = 0x1e

// maxMarker bounds a marker in bytes; an unfinished one that is longer is passed on as output.
const maxMarker = 8 << 10

func marker(nonce, word, payload string) []byte {
	return fmt.Appendf(nil, "%c%s %s %s\n", markByte, nonce, word, payload)
}

func startMarker(nonce string, f Facts) []byte {
	b, err := json.Marshal(f)
	if err != nil {
		panic("BUG: facts do not marshal: " + err.Error())
	}
	return marker(nonce, markStart, string(b))
}

// splitter passes on what the test prints and takes the markers out. It is for one goroutine.
type splitter struct {
	out    io.Writer
	prefix []byte
	mark   func(word, payload string)
	held   []byte // the beginning of what may become a marker
}

func newSplitter(nonce string, out io.Writer, mark func(word, payload string)) *splitter {
	return &splitter{out: out, prefix: fmt.Appendf(nil, "%c%s ", markByte, nonce), mark: mark}
}

// Write implements io.Writer. Its error is that of the writer behind it.
func (s *splitter) Write(p []byte) (int, error) {
	b := append(s.held, p...)
	for len(b) > 0 {
		i := bytes.IndexByte(b, markByte)
		if i < 0 {
			i = len(b)
		}
		if err := s.pass(b[:i]); err != nil {
			return 0, err
		}
		b = b[i:]
		n := min(len(b), len(s.prefix))
		if !bytes.Equal(b[:n], s.prefix[:n]) { // the test's own byte
			if err := s.pass(b[:1]); err != nil {
				return 0, err
			}
			b = b[1:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			if len(b) < maxMarker {
				break // the rest is still to come
			}
			if err := s.pass(b[:1]); err != nil {
				return 0, err
			}
			b = b[1:]
			continue
		}
		word, payload, _ := bytes.Cut(b[len(s.prefix):end], []byte(" "))
		s.mark(string(word), string(payload))
		b = b[end+1:]
	}
	s.held = append([]byte(nil), b...)
	return len(p), nil
}

// Flush passes on what was held back. Call it when the stream has ended.
func (s *splitter) Flush() error {
	err := s.pass(s.held)
	s.held = nil
	return err
}

func (s *splitter) pass(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := s.out.Write(b)
	return err
}
