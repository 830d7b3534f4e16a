// SPDX-License-Identifier: Apache-2.0

package bench

// Figures that have a plot of their own: a row that counts one of them is drawn with it on the x axis,
// its percentiles above. Of several rounds the largest is reported, so it has to be the same in all.
const (
	// FigureRate is how many asks per second were offered, answered or not.
	FigureRate = "offered_per_second"
	// FigureGOGC is the collector's setting, in per cent.
	FigureGOGC = "gogc"
)
