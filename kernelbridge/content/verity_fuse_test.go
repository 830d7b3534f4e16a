// SPDX-License-Identifier: Apache-2.0

package content

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/content/veritytest"
)

// FUSE hands the question to its server since 6.10. What a server answers that may be the subject's own is
// not believed.
func TestVerityOfLiar(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	minor := mountLiar(t, name)
	// Not by os.Open: that asks the file system whether the file can be waited for, in a system call
	// that the runtime takes for a short one, and the server, which is a goroutine, may need its P.
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := pool(t, Options{})
	for what, o := range map[string]Object{"by name": named(t, name), "by descriptor": {File: fd}} {
		if got := verityOf(t, p, o); got != "none" {
			t.Errorf("%s: got %q, want none; %v", what, got, p.Stats())
		}
	}
	// Linux 6.12 speaks 7.41.
	lie, err := measured(fd)
	if want := veritytest.Digest(nil, veritytest.SHA256); minor() >= 41 && lie.String() != want {
		t.Errorf("the server was asked for %v, %v; want %s, or the test shows nothing", lie, err, want)
	}
}

// mountLiar mounts a FUSE file system over a file, which is a regular file itself and claims the
// fs-verity digest of an empty one. It returns what says the kernel's minor version of the protocol.
func mountLiar(t *testing.T, name string) (minor func() uint32) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE file system can be mounted here: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=100444,user_id=0,group_id=0", device)
	if err := unix.Mount("liar", name, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(device)
		t.Skipf("no FUSE file system can be mounted here: %v", err)
	}
	spoken := make(chan uint32, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveLiar(device, spoken)
	}()
	t.Cleanup(func() {
		if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", name, err)
		}
		<-ended // the file system ends with its last file
		unix.Close(device)
	})
	return func() uint32 {
		v := <-spoken
		spoken <- v
		return v
	}
}

// serveLiar answers until the file system is gone. Messages are those of linux/fuse.h.
func serveLiar(device int, spoken chan<- uint32) {
	const rootMode = unix.S_IFREG | 0o444
	le := binary.NativeEndian
	in, out := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, err := unix.Read(device, in)
		switch {
		case err == unix.EINTR || err == unix.ENOENT:
			continue
		case err != nil || n < 40:
			return
		}
		clear(out)
		body := out[16:]
		size, errno := 0, unix.Errno(0)
		switch le.Uint32(in[4:]) {
		case 26: // INIT
			spoken <- le.Uint32(in[44:])
			le.PutUint32(body, 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 4096) // max_write
			size = 64
		case 3: // GETATTR
			attr := body[16:]
			le.PutUint64(attr, 1) // inode
			le.PutUint32(attr[60:], rootMode)
			le.PutUint32(attr[64:], 1) // links
			size = 104
		case 14: // OPEN
			size = 16
		case 17: // STATFS
			size = 80
		case 39: // IOCTL
			lie, _ := abi.ParseVerity(veritytest.Digest(nil, veritytest.SHA256))
			le.PutUint16(body[16:], unix.FS_VERITY_HASH_ALG_SHA256)
			le.PutUint16(body[18:], uint16(lie.Alg.Size()))
			size = 20 + copy(body[20:], lie.Bytes())
		case 18, 25: // RELEASE, FLUSH
		case 2, 36, 42: // FORGET, INTERRUPT, BATCH_FORGET: nobody waits
			continue
		default:
			errno = unix.ENOSYS
		}
		le.PutUint32(out, uint32(16+size))
		le.PutUint32(out[4:], uint32(-int32(errno)))
		copy(out[8:16], in[8:16]) // unique
		_, _ = unix.Write(device, out[:16+size])
	}
}
