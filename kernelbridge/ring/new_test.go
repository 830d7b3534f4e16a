// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewErrors(t *testing.T) {
	header, slots := mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes)
	parkers := make([]ring.Parker, abi.MaxWorkers+1)
	for i := range parkers {
		parkers[i] = &stubParker{}
	}
	cpus := make([]int, abi.MaxWorkers+1)
	for _, tc := range []struct {
		name          string
		header, slots []byte
		parkers       []ring.Parker
		cpus          []int
		says          string // "" for no error
	}{
		{"one worker", header, slots, parkers[:1], cpus[:1], ""},
		{"as many workers as there are lines", header, slots, parkers[:abi.MaxWorkers], cpus[:abi.MaxWorkers], ""},
		{"a header that is a byte short", header[:ring.HeaderBytes-1], slots, parkers[:1], cpus[:1], "bytes, want"},
		{"no header", nil, slots, parkers[:1], cpus[:1], "0 and"},
		{"slots that are a byte short", header, slots[:ring.SlotsBytes-1], parkers[:1], cpus[:1], "bytes, want"},
		{"no worker", header, slots, nil, nil, "0 workers on 0 CPUs"},
		{"a worker too many", header, slots, parkers, cpus, "65 workers on 65 CPUs, want 1 to 64"},
		{"a worker without a CPU", header, slots, parkers[:2], cpus[:1], "2 workers on 1 CPUs"},
		{"a CPU without a worker", header, slots, parkers[:1], cpus[:2], "1 workers on 2 CPUs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := ring.New(tc.header, tc.slots, tc.parkers, tc.cpus)
			if (err == nil) != (tc.says == "") || (r == nil) != (err != nil) {
				t.Fatalf("got %v, %v; want an error: %t", r, err, tc.says != "")
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "mapping the ring: ") || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("got the error %q, want %q in it", err, tc.says)
			}
		})
	}
}

// A ring starts empty, whatever was in the memory before: a stale hot bit would
// keep every requester from waking anybody.
func TestNewInitialises(t *testing.T) {
	var fresh ring.Header
	for _, fill := range []byte{0, 0xff, 0x5a} {
		header, slots := mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes)
		for _, b := range [][]byte{header, slots} {
			for i := range b {
				b[i] = fill
			}
		}
		r, err := ring.New(header, slots, []ring.Parker{&stubParker{}, &stubParker{}}, []int{3, -1})
		if err != nil {
			t.Fatal(err)
		}
		h := r.Header()
		if h.Version != abi.Version || h.Slots != abi.Slots || h.Workers != 2 {
			t.Errorf("memory of %#x: version %d, %d slots, %d workers; want %d, %d, 2", fill, h.Version, h.Slots, h.Workers, abi.Version, abi.Slots)
		}
		if want := ([abi.MaxCPUs]uint64{3: 1}); h.Pinned != want {
			t.Errorf("memory of %#x: workers pinned %v, want worker 0 on CPU 3 alone", fill, h.Pinned[:8])
		}
		if fill == 0 {
			fresh = *h
		} else if *h != fresh {
			t.Errorf("memory of %#x: got the header %+v, want that of fresh memory, %+v", fill, *h, fresh)
		}
		for i := range abi.Slots {
			if got := word(r, i); got != abi.MakeWord(abi.FirstGen, abi.Free, 0) {
				t.Fatalf("memory of %#x: slot %d is %s of generation %#x, want free and %#x", fill, i, got.State(), got.Gen(), uint32(abi.FirstGen))
			}
		}
		if got := len(r.Sources()); got != 2 {
			t.Errorf("got %d sources, want one per worker", got)
		}
		var q abi.Request
		if r.Sources()[0].Next(&q) {
			t.Errorf("memory of %#x: a new ring has a question in slot %d", fill, q.Ticket)
		}
	}
}
