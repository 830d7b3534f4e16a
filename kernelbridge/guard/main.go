// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const readyText = "ready"

// Main takes over the process if it was started as a guard, and then never
// returns. A daemon calls it before anything else: flags, files, goroutines.
func Main() {
	if len(os.Args) != 1 || os.Args[0] != argZero {
		return
	}
	limit, err := strconv.ParseInt(os.Getenv(limitEnv), 10, 64)
	if err != nil || time.Duration(limit) < MinLimit {
		fmt.Fprintf(os.Stderr, "%s: started by hand; the daemon starts it\n", argZero)
		os.Exit(2)
	}
	word, _, err := mapWord(wordFD)
	if err != nil {
		say(err.Error())
		os.Exit(1)
	}
	settle()
	say(readyText)
	os.Exit(watch(pidfdFD, word, time.Duration(limit)))
}

// say answers Start, once.
func say(text string) {
	unix.Write(readyFD, []byte(text))
	unix.Close(readyFD)
}

// settle makes the guard hard to stall. What fails here makes it weaker, not
// wrong: an unprivileged process may do neither.
func settle() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	// ONFAULT: what one round of the loop touches stays, not every page of the
	// executable.
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// watch returns when the process behind pidfd has ended, which it sees to when
// the word stands still for longer than the limit.
func watch(pidfd int, word *atomic.Uint64, limit time.Duration) (exit int) {
	tick := int((limit / looks).Milliseconds())
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	last, still := word.Load(), 0
	for {
		n, err := unix.Poll(fds, tick)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 1
		case n > 0:
			return 0 // it has ended by itself
		}
		// Signal 0 does nothing, but brings in what the real one will need.
		_ = unix.PidfdSendSignal(pidfd, 0, nil, 0)
		now := word.Load()
		if now != last || now == 0 {
			last, still = now, 0
			continue
		}
		if still++; still < looks {
			continue
		}
		if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			fmt.Fprintf(os.Stderr, "%s: killing the daemon that has not answered for %v: %v\n", argZero, limit, err)
			still = 0 // try again
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: killed the daemon, which showed no life for %v: held tasks go on\n", argZero, limit)
		return 3
	}
}
