// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// Answering is a sign of life too: a daemon whose heart gets no CPU is believed
// as long as it works. The sign is never older than what stands there.
func TestHeartbeat(t *testing.T) {
	const second = uint64(time.Second)
	for _, tc := range []struct {
		name   string
		beat   uint64 // what stands there
		posted uint64 // when the question was asked
		want   uint64
	}{
		{"none yet", 0, second, second},
		{"an old one", second, 2 * second, 2 * second},
		{"a young one", second, second + 1000, second}, // not a store per request
		{"one after the question", 2 * second, second, 2 * second},
		{"one in the far future, which is a mistake", 1 << 63, second, 1 << 63}, // the heart puts it right
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRing(t, 1)
			h := r.Header()
			atomic.StoreUint64(&h.HeartbeatNS, tc.beat)
			post(r, 0, 0, ring.Facts{PostedNS: tc.posted}, "/")
			var q abi.Request
			take(t, r.Sources()[0], &q, 0)
			if got := atomic.LoadUint64(&h.HeartbeatNS); got != tc.want {
				t.Errorf("heartbeat at %d, question at %d: now %d, want %d", tc.beat, tc.posted, got, tc.want)
			}
		})
	}
}

// A question with a time that cannot be does not end the renewal for good.
func TestHeartbeatAfterGarbage(t *testing.T) {
	r := newRing(t, 1)
	h := r.Header()
	var q abi.Request
	for gen, posted := range []uint64{1<<64 - 1, 1 << 63, 0} {
		post(r, 0, uint32(gen), ring.Facts{PostedNS: posted}, "/")
		take(t, r.Sources()[0], &q, 0)
	}
	now := uint64(time.Hour)
	atomic.StoreUint64(&h.HeartbeatNS, now) // the heart beats
	post(r, 0, 9, ring.Facts{PostedNS: now + uint64(time.Second)}, "/")
	take(t, r.Sources()[0], &q, 0)
	if got, want := atomic.LoadUint64(&h.HeartbeatNS), now+uint64(time.Second); got != want {
		t.Errorf("heartbeat %d after the next question, want its time, %d", got, want)
	}
}
