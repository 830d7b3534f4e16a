// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Interval is what one round recorded, and when.
type Interval struct {
	Began, Ended time.Time
	Data         string // the histogram, in the encoding of HistogramReport
}

// WriteLog writes a row in the histogram log format 1.3 of HdrHistogram, which its log processors and
// viewers read: an interval for each round. It has no tags, as those tools leave tagged lines out unless
// they are told the tag. Of a report that was read back, which has no rounds' histograms, it is one
// interval with all samples. Values are nanoseconds; the column Interval_Max is milliseconds, as is usual.
// A row without samples writes no interval.
func (r *Report) WriteLog(w io.Writer, s *ScenarioReport) error {
	log := hdrhistogram.NewHistogramLogWriter(w)
	base := r.Started.UnixMilli()
	log.SetBaseTime(base)
	head := []func() error{
		log.OutputLogFormatVersion,
		func() error {
			return log.OutputComment(fmt.Sprintf("[arbiter-bench: %s, %s; values in ns]", s.Mechanism, s.Responder))
		},
		func() error { return log.OutputBaseTime(base) },
		func() error { return log.OutputStartTime(base) },
		log.OutputLegend,
	}
	for _, write := range head {
		if err := write(); err != nil {
			return fmt.Errorf("writing the log of %s: %w", s.ID, err)
		}
	}
	intervals := s.Intervals
	if len(intervals) == 0 && s.Histogram != nil {
		intervals = []Interval{{r.Started, r.Started.Add(time.Duration(r.DurationNS)), s.Histogram.Data}}
	}
	for _, i := range intervals {
		h, err := decode(i.Data)
		if err != nil {
			return fmt.Errorf("writing the log of %s: %w", s.ID, err)
		}
		h.SetStartTimeMs(i.Began.UnixMilli())
		h.SetEndTimeMs(i.Ended.UnixMilli())
		if err := log.OutputIntervalHistogram(h); err != nil {
			return fmt.Errorf("writing the log of %s: %w", s.ID, err)
		}
	}
	return nil
}
