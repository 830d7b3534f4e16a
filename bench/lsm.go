// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// lsmWorks says why BPF LSM programs cannot be loaded here.
func lsmWorks() error {
	found := kernelbridge.Probe()
	for _, f := range found {
		if f.Name == kernelbridge.FeatureLSM && f.Outcome != kernelbridge.Yes {
			return &UnavailableError{"loading BPF LSM programs", "run scripts/systems, which does so in an emulated machine", errors.New(f.Detail)}
		}
	}
	_, _, err := kernelbridge.Choose(kernelbridge.BackendLSM, found)
	return err
}
