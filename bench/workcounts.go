// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// The figures of a row that is asked about, with FigureAsked, of each time that the work is done.
const (
	FigureVerdicts   = "verdicts"    // by a worker
	FigureKernelHits = "kernel_hits" // by the kernel side alone
	FigureFailures   = "failures"    // failure verdicts, whoever gave them
)

// workCounts are what became of the opens and execs that a daemon was asked about, since its start. execs are those
// among answered and kept, which fanotify does not count by themselves.
type workCounts struct{ answered, kept, failed, execs float64 }

func (c workCounts) asked() float64 { return c.answered + c.kept + c.failed }

func (c workCounts) less(b workCounts) workCounts {
	return workCounts{c.answered - b.answered, c.kept - b.kept, c.failed - b.failed, c.execs - b.execs}
}

func (c workCounts) over(n int) workCounts {
	return workCounts{c.answered / float64(n), c.kept / float64(n), c.failed / float64(n), c.execs / float64(n)}
}

// freeAddress returns an address of this machine on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("choosing an address for the daemon's metrics: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// counts asks the daemon.
func (d *workDaemon) counts() (workCounts, error) {
	client := http.Client{Timeout: daemonReadyLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + d.metrics + "/metrics")
	if err != nil {
		return workCounts{}, fmt.Errorf("asking the daemon what it has counted: %w", err)
	}
	defer r.Body.Close()
	return readCounts(r.Body)
}

// metricLine is a line of the metrics that are looked at, with its label and its value.
var metricLine = regexp.MustCompile(`^arbiter_(kernel_side|failed_total)\{\w+="([\w.]+)"\} ([0-9.e+]+)$`)

func readCounts(r io.Reader) (c workCounts, err error) {
	var byWorkers float64
	seen := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		m := metricLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		n, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return c, fmt.Errorf("reading the daemon's metrics: %w", err)
		}
		name := m[2]
		if event, rest, ok := strings.Cut(name, "."); ok && event != "failed" {
			name = rest // the counters of BPF LSM are per event, those of fanotify are not
		}
		switch {
		case m[1] == "failed_total":
			byWorkers += n
		case name == "answered":
			seen = true
			c.answered += n
		case name == "cached" || name == "decided":
			c.kept += n
		case strings.HasPrefix(name, "failed."):
			c.failed += n
		}
		if m[2] == "exec.answered" || m[2] == "exec.cached" || m[2] == "exec.decided" {
			c.execs += n
		}
	}
	if !seen {
		return c, errors.New("reading the daemon's metrics: it does not say what it has answered: use the arbiterd of this version")
	}
	c.answered -= byWorkers // to the kernel side those are answers
	c.failed += byWorkers
	return c, nil
}
