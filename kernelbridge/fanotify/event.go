// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const (
	pidfdRecordBytes = 8 // struct fanotify_event_info_pidfd
	eventBytes       = unix.FAN_EVENT_METADATA_LEN + pidfdRecordBytes
)

// event is one struct fanotify_event_metadata, validated.
type event struct {
	event    abi.Event
	fd       int32
	pidfd    int32 // -1 when there is none
	tid      uint32
	overflow bool
}

// parseEvent decodes exactly one event. The buffer of a read is as long as one
// event, so that a worker never takes what another could be working on.
func parseEvent(p []byte) (event, bool) {
	if len(p) < unix.FAN_EVENT_METADATA_LEN || p[4] != unix.FANOTIFY_METADATA_VERSION {
		return event{}, false
	}
	ne := binary.NativeEndian
	metadataLen, mask := int(ne.Uint16(p[6:])), ne.Uint64(p[8:])
	e := event{fd: int32(ne.Uint32(p[16:])), pidfd: -1}
	if tid := int32(ne.Uint32(p[20:])); tid > 0 {
		e.tid = uint32(tid)
	}
	switch {
	case mask&unix.FAN_Q_OVERFLOW != 0:
		e.overflow = true
		return e, true
	case mask&unix.FAN_OPEN_EXEC_PERM != 0:
		e.event = abi.EventExec
	case mask&unix.FAN_OPEN_PERM != 0:
		e.event = abi.EventOpen
	default:
		return event{}, false
	}
	if metadataLen >= unix.FAN_EVENT_METADATA_LEN && len(p) >= metadataLen+pidfdRecordBytes &&
		p[metadataLen] == unix.FAN_EVENT_INFO_TYPE_PIDFD {
		e.pidfd = max(int32(ne.Uint32(p[metadataLen+4:])), -1) // FAN_EPIDFD is -2
	}
	return e, true
}
