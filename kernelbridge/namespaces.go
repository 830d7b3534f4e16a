// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// hostNamespaces returns the numbers of the host's namespaces: those of process 1. One of a kind that the
// kernel has not is 0. Who may not look at process 1, for want of CAP_SYS_PTRACE, gets ring.NoHostNS for all: no
// subject's credentials are known then.
func hostNamespaces() (numbers [abi.NamespacePID]uint32, err error) {
	for kind := range numbers {
		name := abi.NamespaceNames[kind]
		link, err := os.Readlink("/proc/1/ns/" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !exists("/proc/self/ns/"+name):
			continue
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist): // hidden, by hidepid
			for kind := range numbers {
				numbers[kind] = ring.NoHostNS
			}
			return numbers, nil
		case err != nil:
			return numbers, fmt.Errorf("looking at the host's namespaces: %w", err)
		}
		if _, err := fmt.Sscanf(link, name+":[%d]", &numbers[kind]); err != nil {
			return numbers, fmt.Errorf("looking at the host's namespaces: /proc/1/ns/%s is %q: %w", name, link, err)
		}
	}
	return numbers, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
