// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// Foreign is an event type of another system.
type Foreign struct {
	Name   string
	Events []abi.Event // what it is here; nil for nothing
	// Note says why it is nothing here; of one that is something, what differs.
	Note string
}

// ESF returns the event types of the Endpoint Security Framework for Linux, a proof of
// concept of 2024 and 2025 after Apple's: enum esf_event_type in
// include/uapi/linux/esf/defs.h, without the prefix ESF_EVENT_TYPE_, in its order.
// Seven of them had a hook there. The result is shared: do not change it.
func ESF() []Foreign { return esf[:] }

// TSEM returns the event types of the Trusted Security Event Modeling LSM: enum
// tsem_event_type in security/tsem/tsem.h, as its exports write them, in its order.
// The result is shared: do not change it.
func TSEM() []Foreign { return tsem[:] }

// Why returns the note; an event that is named after an LSM hook, and is nothing here,
// has the hook's.
func (f *Foreign) Why() string {
	if f.Note == "" && len(f.Events) == 0 {
		h, _ := HookOf(f.Name)
		return h.Note
	}
	return f.Note
}
