// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// UnsupportedError says that the running kernel cannot do something and what
// would change that.
type UnsupportedError struct {
	Feature string // what cannot be done
	Hint    string // the step that would change it
	Err     error  // what the kernel said, may be nil
}

// Error names the feature, the kernel's answer and the step.
func (e *UnsupportedError) Error() string {
	s := e.Feature + " is not available"
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Hint
}

// Unwrap returns the kernel's error.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// loadError explains why programs could not be loaded: the verifier's last line
// instead of its whole log, and a hint for a refusal.
func loadError(what string, err error) error {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		return fmt.Errorf("loading the %s: the verifier refuses it: %s: %w", what, lastLine(ve), err)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return &UnsupportedError{what, "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; " +
			"if you are, this kernel forbids such programs: see arbiterctl doctor", err}
	}
	return fmt.Errorf("loading the %s: %w", what, err)
}

// lastLine returns the line of the verifier's log that says what is wrong: the
// last one that is not statistics.
func lastLine(ve *ebpf.VerifierError) string {
	for i := len(ve.Log) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(ve.Log[i]); l != "" && !strings.HasPrefix(l, "processed ") {
			return l
		}
	}
	return "no log"
}
