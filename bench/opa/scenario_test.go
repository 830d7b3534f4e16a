// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/arbiterd/arbiter/bench"
)

// TestPolicies has both policies decide as the rules want it.
func TestPolicies(t *testing.T) {
	cpus, err := bench.AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range bench.OPARows("") {
		t.Run(s.Describe().ID, func(t *testing.T) {
			session, err := scenario{s.Describe()}.Open(bench.Place{Requester: cpus[0], Responder: cpus[0]})
			if err != nil {
				t.Fatal(err)
			}
			const n = 100
			done := make(chan bench.Outcome)
			go func() { // a round keeps its thread
				out, err := session.Round(bench.RoundOptions{Budget: time.Minute}, make([]uint32, n))
				if err != nil {
					t.Error(err)
				}
				done <- out
			}()
			if out := <-done; out.Samples != n || out.Failed != 0 {
				t.Errorf("got %d decisions, %d of them wrong, want %d right ones", out.Samples, out.Failed, n)
			}
		})
	}
}
