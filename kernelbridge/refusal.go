// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Refusal is what the self-protection has refused, with EPERM.
type Refusal struct {
	Hook  string    // the LSM hook
	Event abi.Event // the one that is closest: the limits of a process are under ptrace
	// Args are the event's first numbers.
	Args                [3]uint64
	TGID, TID, UID, GID uint32
	StartBoottime       uint64 // nanoseconds
	Comm                string // the kernel's bytes, as in abi.Request
	Path                string // of a file, as it was when it was protected
	Dev, Ino            uint64
}

// guardHooks are the hooks in the order of enum arb_hook.
var guardHooks = [...]struct {
	name  string
	event abi.Event
}{
	{"task_kill", abi.EventSignal},
	{"file_send_sigiotask", abi.EventSignal},
	{"ptrace_access_check", abi.EventPtrace},
	{"task_setscheduler", abi.EventPtrace},
	{"task_setnice", abi.EventPtrace},
	{"task_setioprio", abi.EventPtrace},
	{"task_setrlimit", abi.EventPtrace},
	{"bpf_map", abi.EventBPFMap},
	{"bpf_prog", abi.EventBPFProg},
	{"file_open", abi.EventOpen},
	{"file_ioctl", abi.EventSetAttr},
	{"inode_setattr", abi.EventSetAttr},
	{"inode_setxattr", abi.EventSetXattr},
	{"inode_removexattr", abi.EventRemoveXattr},
	{"inode_set_acl", abi.EventSetXattr},
	{"inode_remove_acl", abi.EventRemoveXattr},
	{"inode_create", abi.EventCreate},
	{"inode_mkdir", abi.EventMkdir},
	{"inode_mknod", abi.EventMknod},
	{"inode_symlink", abi.EventSymlink},
	{"inode_link", abi.EventLink},
	{"inode_unlink", abi.EventUnlink},
	{"inode_rmdir", abi.EventRmdir},
	{"inode_rename", abi.EventRename},
	{"sb_mount", abi.EventMount},
	{"sb_umount", abi.EventUmount},
	{"move_mount", abi.EventMoveMount},
}

// probeProtection looks for the hooks of the self-protection.
func probeProtection() Feature {
	f := Feature{Name: "hooks of the self-protection", Hint: "boot a kernel with CONFIG_BPF_LSM=y", Outcome: Yes}
	spec, err := LoadBTF("")
	if err != nil {
		f.Outcome, f.Detail = CannotTell, err.Error()
		return f
	}
	var missing []string
	for _, h := range guardHooks {
		var fn *btf.Func
		if err := spec.TypeByName("bpf_lsm_"+h.name, &fn); err != nil && optional[h.name] == "" {
			missing = append(missing, h.name)
		}
	}
	if len(missing) > 0 {
		f.Outcome, f.Detail = No, "not in this kernel: "+strings.Join(missing, ", ")
		return f
	}
	f.Detail, f.Hint = "self_protection: true can be kept in full", ""
	return f
}

// leafBytes is how much of a name a notice carries, its NUL included.
const leafBytes = 64

// Counters returns what the protection has counted: "refused.", "maintained." (let
// through for a token), "by_manager." (signals of the service manager) and "unnoticed."
// (refused without a notice, for want of room), each with the hook's name; what is 0 is
// left out.
func (p *Protection) Counters() (map[string]uint64, error) {
	out := map[string]uint64{}
	var each []protectArbRefusals
	for i, h := range guardHooks {
		if err := p.maps.ArbRefusals.Lookup(uint32(i), &each); err != nil {
			return nil, fmt.Errorf("reading the counters of the self-protection: %w", err)
		}
		for _, c := range each {
			for what, n := range map[string]uint64{"refused": c.Refused, "maintained": c.Maintained, "by_manager": c.ByManager, "unnoticed": c.Unnoticed} {
				if n > 0 {
					out[what+"."+h.name] += n
				}
			}
		}
	}
	return out, nil
}

// readNotices hands refusals to f until the reader is closed.
func (p *Protection) readNotices(f func(*Refusal)) {
	var rec ringbuf.Record
	var n protectArbRefusal
	for {
		if err := p.notices.ReadInto(&rec); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				p.logger.Error("reading the refusals of the self-protection", slog.Any("error", err))
			}
			return
		}
		if f == nil {
			continue
		}
		if _, err := binary.Decode(rec.RawSample, binary.NativeEndian, &n); err != nil || n.Hook >= uint32(len(guardHooks)) {
			p.logger.Error("decoding a refusal of the self-protection", slog.Any("error", err), slog.Uint64("hook", uint64(n.Hook)))
			continue
		}
		h := guardHooks[n.Hook]
		r := &Refusal{Hook: h.name, Event: h.event, Args: n.Arg, TGID: n.Tgid, TID: n.Tid, UID: n.Uid, GID: n.Gid,
			StartBoottime: n.StartBoottime, Comm: unix.ByteSliceToString(n.Comm[:]), Dev: n.Dev, Ino: n.Ino}
		if leaf := unix.ByteSliceToString(n.Leaf[:]); leaf != "" {
			r.Path = p.placePath(n.Index, n.Depth, leaf)
		}
		f(r)
	}
}
