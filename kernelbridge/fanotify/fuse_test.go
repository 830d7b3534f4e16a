// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FUSE's words, from include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRelease = 18
	fuseInit    = 26
	fuseOpendir = 27

	fuseInterrupt   = 36
	fuseBatchForget = 42

	fuseInBytes, fuseOutBytes = 40, 16 // the headers
	fuseFileNode              = 2
)

const fuseEnv = "FANOTIFY_TEST_FUSE"

// fuseLife ends a server whose test has died. A thread of ours that waits for it
// cannot be killed, and would keep a fanotify group open that holds everybody else;
// therefore the server is a process of its own, too.
const fuseLife = 2 * patience

// fuseOrder is what a server is told, by the environment.
type fuseOrder struct {
	At, Options string
	Ignored     []uint32 // what it never answers
}

// fuseServer serves a file system with one file in it, "file".
type fuseServer struct {
	t    testing.TB
	cmd  *exec.Cmd
	at   string
	done chan struct{}

	mu   sync.Mutex
	seen map[uint32]int
}

// fuseAt mounts a FUSE file system. Without allow_other nobody but the user 65534
// may enter it.
func fuseAt(t testing.TB, at, options string, ignored ...uint32) *fuseServer {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	order, err := json.Marshal(fuseOrder{at, options, ignored})
	if err != nil {
		t.Fatal(err)
	}
	f := &fuseServer{t: t, cmd: exec.Command("/proc/self/exe"), at: at, done: make(chan struct{}), seen: map[uint32]int{}}
	f.cmd.Env = append(os.Environ(), roleEnv+"=fuse", fuseEnv+"="+string(order))
	f.cmd.Stderr = os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	mounted := lines.Scan()
	go func() {
		defer close(f.done)
		for lines.Scan() {
			op, _ := strconv.ParseUint(lines.Text(), 10, 32)
			f.mu.Lock()
			f.seen[uint32(op)]++
			f.mu.Unlock()
		}
	}()
	t.Cleanup(f.abort)
	if !mounted {
		t.Fatal("the FUSE file system was not mounted")
	}
	return f
}

// abort ends the file system: who waits for it goes on with an error. It may be
// called more than once.
func (f *fuseServer) abort() {
	if f.cmd == nil {
		return
	}
	f.cmd.Process.Kill() // closes /dev/fuse, which aborts
	<-f.done
	f.cmd.Wait()
	f.cmd = nil
	if err := unix.Unmount(f.at, unix.MNT_DETACH); err != nil {
		f.t.Errorf("unmounting the FUSE file system: %v", err)
	}
}

// count returns how many requests of a kind have come.
func (f *fuseServer) count(op uint32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[op]
}

func fuseMain() {
	var o fuseOrder
	if err := json.Unmarshal([]byte(os.Getenv(fuseEnv)), &o); err != nil {
		panic(err)
	}
	time.AfterFunc(fuseLife, func() { os.Exit(3) })
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=65534,group_id=65534%s", dev, o.Options)
	if err := unix.Mount("fuse-test", o.At, "fuse.test", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		panic(err)
	}
	fmt.Println("mounted")
	buf := make([]byte, 64<<10)
	ne := binary.NativeEndian
	for {
		n, err := unix.Read(dev, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < fuseInBytes {
			return // ENODEV: unmounted
		}
		op, unique := ne.Uint32(buf[4:]), ne.Uint64(buf[8:])
		fmt.Println(op)
		if slices.Contains(o.Ignored, op) || op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
			continue
		}
		body, errno := fuseAnswer(op, ne.Uint64(buf[16:]), buf[fuseInBytes:n])
		reply := make([]byte, fuseOutBytes, fuseOutBytes+len(body))
		ne.PutUint32(reply, uint32(fuseOutBytes+len(body)))
		ne.PutUint32(reply[4:], uint32(-int32(errno)))
		ne.PutUint64(reply[8:], unique)
		unix.Write(dev, append(reply, body...))
	}
}

func fuseAnswer(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	ne := binary.NativeEndian
	switch op {
	case fuseInit:
		out := make([]byte, 64)
		ne.PutUint32(out, 7)
		ne.PutUint32(out[4:], 31)
		ne.PutUint32(out[20:], 4096) // max_write
		return out, 0
	case fuseGetattr:
		return append(make([]byte, 16), fuseAttr(node)...), 0
	case fuseLookup:
		if strings.TrimRight(string(in), "\x00") != "file" {
			return nil, unix.ENOENT
		}
		out := make([]byte, 40)
		ne.PutUint64(out, fuseFileNode)
		return append(out, fuseAttr(fuseFileNode)...), 0
	case fuseOpen, fuseOpendir:
		return make([]byte, 16), 0
	case fuseRelease:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

func fuseAttr(node uint64) []byte {
	ne := binary.NativeEndian
	out := make([]byte, 88)
	ne.PutUint64(out, node)
	mode := uint32(unix.S_IFREG | 0o644)
	if node != fuseFileNode {
		mode = unix.S_IFDIR | 0o755
	}
	ne.PutUint32(out[60:], mode)
	ne.PutUint32(out[64:], 1) // links
	return out
}
