// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Warnings says, one sentence each, what cannot be relied on with the present
// trees and wanted facts.
func (b *Backend) Warnings() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ws := Unsupported(b.settings.Load().want)
	if len(b.mounted) > 0 {
		ws = append(ws, "mounts: only opens through "+strings.Join(quoted(b.mounted), ", ")+" in this mount namespace are asked; "+
			"a process with a mount namespace of its own goes through copies that carry no mark")
		if apart("/proc/self/ns/mnt", "/proc/1/ns/mnt") {
			ws = append(ws, "mounts: the daemon itself has a mount namespace of its own, so programs of the host go through mounts "+
				"that carry no mark; start it without one (systemd: no ProtectSystem=, PrivateTmp= and the like)")
		}
	}
	if len(b.plain) > 0 {
		ws = append(ws, "directories: "+strings.Join(quoted(slices.Sorted(maps.Keys(b.plain))), ", ")+" is no mount point, so opens in a new sub-directory are not asked "+
			"until it has been marked, some 100 µs after it appeared; mount --bind DIR DIR closes that window")
	}
	return append(ws, warnGaps(b.gaps)...)
}

// apart reports whether two links to namespaces are surely of two namespaces.
func apart(a, b string) bool {
	one, err := os.Readlink(a)
	other, err2 := os.Readlink(b)
	return err == nil && err2 == nil && one != other
}

func quoted(paths []string) []string {
	q := make([]string, len(paths))
	for i, p := range paths {
		q[i] = fmt.Sprintf("%q", p)
	}
	return q
}
