// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math/rand/v2"
	"time"
)

// arrivalSeed makes every run of every row the same arrivals.
const arrivalSeed = 0xa2b17e2

// poisson returns n times at which somebody arrives who knows nothing of the others: the gaps
// are distributed exponentially with the mean of the rate, per second. The first
// time is 0.
func poisson(rate, n int) []time.Duration {
	r := rand.New(rand.NewPCG(arrivalSeed, uint64(rate)))
	at := make([]time.Duration, n)
	mean := float64(time.Second) / float64(rate)
	now := 0.0
	for i := range at {
		at[i] = time.Duration(now)
		now += r.ExpFloat64() * mean
	}
	return at
}

// shortOf returns which share of the offered rate was not served. Who is served at a lower
// rate than it is offered has each of the last asks wait, so that the least late one of
// the last tenth counts: a disturbance that was made up for does not.
func shortOf(due []time.Duration, late []uint32) float64 {
	share := 1.0
	for i := len(due) * 9 / 10; i < len(due); i++ {
		l := time.Duration(late[i])
		share = min(share, float64(l)/float64(max(due[i]+l, 1)))
	}
	return share
}
