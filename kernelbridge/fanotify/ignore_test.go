// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// ignore makes the kernel raise no events for a file, as a cache of allows would.
func ignore(t testing.TB, b *Backend, path string) {
	t.Helper()
	flags := uint(unix.FAN_MARK_ADD | unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORED_SURV_MODIFY)
	if err := unix.FanotifyMark(b.group, flags, permMask, unix.AT_FDCWD, path); err != nil {
		t.Fatal(err)
	}
}

// TestIgnoreMarks shows why there are none: they are about a file, and a verdict is
// about a name, a subject and the rules in force.
func TestIgnoreMarks(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub, other := newSubject(t), newSubject(t)
	b := open(t, Options{Trees: []string{dir}})
	allowed := sub.pid()
	serve(t, b.Sources()[0], func(r *abi.Request) abi.Verdict {
		if int(r.TGID) == allowed && string(r.Path()) == dir+"/file" {
			return allow(r)
		}
		return deny(r)
	})
	expect := func(who *subject, path string, want unix.Errno) {
		t.Helper()
		if e := who.open(path); e != want {
			t.Errorf("open %s: got %v, want %v", path, e, want)
		}
	}
	expect(sub, dir+"/file", 0)
	expect(other, dir+"/file", unix.EPERM)
	ignore(t, b, dir+"/file") // "the verdict was allow"

	expect(other, dir+"/file", 0) // another subject
	rename(t, dir+"/file", dir+"/secret")
	expect(sub, dir+"/secret", 0) // another name
	if err := os.Link(dir+"/secret", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	expect(sub, dir+"/link", 0)
	if err := b.Configure([]string{dir}, allFields, nil); err != nil {
		t.Fatal(err)
	}
	expect(sub, dir+"/secret", 0) // another rule set
	expect(sub, touch(t, dir+"/new"), unix.EPERM)
}

// BenchmarkOpen compares what an open costs its caller.
func BenchmarkOpen(b *testing.B) {
	needRoot(b)
	for _, c := range []struct {
		name            string
		asked, ignoring bool
	}{{"unmarked", false, false}, {"ignored", true, true}, {"asked", true, false}} {
		b.Run(c.name, func(b *testing.B) {
			dir := mounted(b)
			sub := newSubject(b)
			var trees []string
			if c.asked {
				trees = []string{dir}
			}
			back := open(b, Options{Trees: trees})
			serve(b, back.Sources()[0], allow)
			if c.ignoring {
				ignore(b, back, dir+"/file")
			}
			sub.start(action{Do: "many", Path: []byte(dir + "/file"), Arg: itoa(max(b.N, 100))})
			o := sub.wait()
			if o.Errno != 0 {
				b.Fatal(unix.Errno(o.Errno))
			}
			b.ReportMetric(float64(o.P50.Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(o.P99.Nanoseconds()), "p99-ns")
		})
	}
}
