// SPDX-License-Identifier: Apache-2.0

package rulepush

import (
	"sort"

	"github.com/arbiterd/arbiter/bench/asker"
)

// pushes has when each push returned: CLOCK_MONOTONIC, nanoseconds.
type pushes []int64

// stale returns how many verdicts are of rules from before a push that had returned when the
// question was asked.
func (p pushes) stale(answers []asker.Answer) (n int) {
	for _, a := range answers {
		returned := sort.Search(len(p), func(i int) bool { return p[i] > a.Begin })
		if !a.Failed && !fresh(a.Errno, returned) {
			n++
		}
	}
	return n
}

// fresh reports whether a verdict may be given to who asked after that many pushes had
// returned: by the last of them, or by the one that is under way.
func fresh(errno uint16, returned int) bool {
	return errno == errnos[(returned-1+versions)%versions].number || errno == errnos[returned%versions].number
}
