// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpecialFiles shows what docs/limitations.md says: the kernel raises no permission
// events for device nodes and FIFOs.
func TestSpecialFiles(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]func(testing.TB) string{"directory": tree, "mount": mounted} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
				t.Skipf("needs to make a device node: %v", err)
			}
			if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}})
			serve(t, b.Sources()[0], deny)
			for file, want := range map[string]unix.Errno{"/file": unix.EPERM, "/": unix.EPERM, "/null": 0, "/fifo": 0} {
				if e := sub.do(action{Do: "open", Path: []byte(dir + file), Flags: unix.O_RDONLY | unix.O_NONBLOCK}); e != want {
					t.Errorf("%s: got %v, want %v", file, e, want)
				}
			}
		})
	}
}
