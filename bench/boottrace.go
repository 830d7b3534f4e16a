// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math/rand/v2"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// The shape of a boot of a minimal Debian 12, Linux 6.1, as it has been published for the
// TSEM security module, which models each event: so many events, so many different ones.
const (
	BootEvents = 119_000
	BootUnique = 24_000
)

// bootMix is which events come how often, of a thousand. It has not been published: it is an
// assumption, with much of what opens files and little of the rest.
var bootMix = [...]struct {
	event  abi.Event
	share  int
	access abi.Access
	path   string // of file n
}{
	{abi.EventOpen, 180, abi.AccessRead, "/usr/lib/x86_64-linux-gnu/lib%05d.so.1"},
	{abi.EventOpen, 150, abi.AccessRead, "/etc/systemd/system/unit-%05d.service.d/override.conf"},
	{abi.EventOpen, 150, abi.AccessRead, "/sys/devices/pci0000:00/0000:00:1f.2/device%05d/uevent"},
	{abi.EventOpen, 120, abi.AccessRead, "/proc/%d/stat"},
	{abi.EventOpen, 50, abi.AccessWrite, "/run/systemd/state/%05d"},
	{abi.EventMMapExec, 120, abi.AccessExec, "/usr/lib/x86_64-linux-gnu/lib%05d.so.1"},
	{abi.EventExec, 30, abi.AccessExec, "/usr/bin/program-%05d"},
	{abi.EventCreate, 30, 0, "/run/udev/data/c%05d"},
	{abi.EventUnlink, 20, 0, "/run/udev/tmp/%05d"},
	{abi.EventRename, 20, 0, "/run/udev/data/.#c%05d"},
	{abi.EventMkdir, 10, 0, "/run/systemd/unit%05d"},
	{abi.EventSetAttr, 20, 0, "/var/lib/private/%05d"},
	{abi.EventUnixConnect, 30, 0, "/run/systemd/journal/socket%05d"},
	{abi.EventSocket, 20, 0, ""},
	{abi.EventSignal, 10, 0, ""},
	{abi.EventCapable, 40, 0, ""},
}

// bootAsk is an event of a boot. Two that are equal are the same one.
type bootAsk struct {
	event     abi.Event
	access    abi.Access
	path, exe string
	uid       uint32
	arg       uint64
}

// bootTrace is a boot: which of its different events come in which order.
type bootTrace struct {
	unique []bootAsk
	order  []int32 // indexes of unique
}

const (
	bootSeed = 0xb007
	// bootPrograms is how many programs do all that.
	bootPrograms = 300
	// zipfExponent and zipfOffset say how unevenly events come again: the most
	// frequent one is one in thirty, half of the different ones come once or twice.
	zipfExponent, zipfOffset = 1.1, 10
)

// newBootTrace returns a boot of n events, in the proportions of the one that is known. It
// is the same each time.
func newBootTrace(n int) *bootTrace {
	r := rand.New(rand.NewPCG(bootSeed, 0))
	t := &bootTrace{unique: make([]bootAsk, max(n*BootUnique/BootEvents, 1)), order: make([]int32, 0, n)}
	for i := range t.unique {
		t.unique[i] = newBootAsk(r, i)
		t.order = append(t.order, int32(i)) // each comes once at least
	}
	again := rand.NewZipf(r, zipfExponent, zipfOffset, uint64(len(t.unique)-1))
	for len(t.order) < n {
		t.order = append(t.order, int32(again.Uint64()))
	}
	r.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	return t
}

// newBootAsk returns different event i.
func newBootAsk(r *rand.Rand, i int) bootAsk {
	left, kind := r.IntN(1000), 0
	for left >= bootMix[kind].share {
		left -= bootMix[kind].share
		kind++
	}
	m := bootMix[kind]
	a := bootAsk{event: m.event, access: m.access, exe: fmt.Sprintf("/usr/lib/systemd/program-%03d", r.IntN(bootPrograms)), arg: uint64(i)}
	if m.path != "" {
		a.path = fmt.Sprintf(m.path, i)
	}
	if r.IntN(10) == 0 {
		a.uid = 100 // a service's
	}
	return a
}
