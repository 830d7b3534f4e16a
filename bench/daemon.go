// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// MaxDaemonRSS is what the daemon may keep resident with a rule set of
	// DaemonRules rules.
	MaxDaemonRSS = 64 << 20
	// MaxDaemonIdle is the share of one core, in per cent, that it may use when
	// nothing happens, over DaemonWindow.
	MaxDaemonIdle = 0.2
	// DaemonRules is how many rules the measured daemon is given.
	DaemonRules = 1000
	// DaemonWindow is how long the idle daemon is watched.
	DaemonWindow = 10 * time.Second

	daemonReadyLimit = 30 * time.Second
	daemonStopLimit  = 10 * time.Second
)

// DaemonOptions configures MeasureDaemon. Path is required.
type DaemonOptions struct {
	Path string
	Args []string
	// Ready returns when the daemon serves and has its rules, or says what went
	// wrong; it is given up after 30 s. nil: as soon as it runs.
	Ready  func(ctx context.Context) error
	Settle time.Duration // after Ready, before the window; 0: 2 s, below 0: none
	Window time.Duration // 0: DaemonWindow
}

// DaemonReport is what a daemon costs.
type DaemonReport struct {
	SchemaVersion int          `json:"schema_version"`
	Machine       Machine      `json:"machine"`
	Usage         ProcessUsage `json:"usage"`
	Idle          float64      `json:"idle_cpu_percent"` // of one core
	RSSBar        string       `json:"rss_bar"`
	IdleBar       string       `json:"idle_bar"`
}

// MeasureDaemon starts the daemon, waits until it is ready and has settled, watches
// it, and ends it: SIGTERM, then SIGKILL after 10 s. An orderly end that fails is an
// error too, as is a daemon that ends early; both errors show what it wrote last.
func MeasureDaemon(ctx context.Context, o DaemonOptions) (_ *DaemonReport, err error) {
	if o.Settle == 0 {
		o.Settle = 2 * time.Second
	}
	if o.Window == 0 {
		o.Window = DaemonWindow
	}
	watch := StartWatch()
	var output bytes.Buffer
	cmd := exec.Command(o.Path, o.Args...)
	cmd.Stdout = &limitedWriter{&output, 64 << 10}
	cmd.Stderr = cmd.Stdout // the same writer: os/exec writes from one goroutine then
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		cancel(fmt.Errorf("the daemon ended: %v", cmd.ProcessState))
		ended <- err
	}()
	defer func() {
		err = errors.Join(err, stopDaemon(cmd, ended))
		cancel(nil)
		if said := strings.TrimSpace(output.String()); err != nil && said != "" {
			err = fmt.Errorf("%w\nit wrote:\n%s", err, said)
		}
	}()
	if err := awaitReady(ctx, o); err != nil {
		return nil, err
	}
	u, err := WatchProcess(ctx, cmd.Process.Pid, o.Window)
	if err != nil {
		return nil, err
	}
	machine := watch.Stop()
	machine.OthersPercent = nil // the daemon has not ended yet
	return &DaemonReport{
		SchemaVersion: SchemaVersion, Machine: machine, Usage: u, Idle: u.CPUPercent(),
		RSSBar:  metIf(u.RSSBytes <= MaxDaemonRSS),
		IdleBar: metIf(u.CPUPercent() <= MaxDaemonIdle),
	}, nil
}

func awaitReady(ctx context.Context, o DaemonOptions) error {
	if o.Ready != nil {
		limited, cancel := context.WithTimeout(ctx, daemonReadyLimit)
		defer cancel()
		if err := o.Ready(limited); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("waiting for the daemon: %w", err)
		}
	}
	if o.Settle < 0 {
		return nil
	}
	timer := time.NewTimer(o.Settle)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("letting the daemon settle: %w", context.Cause(ctx))
	}
}

// stopDaemon ends the daemon and waits for it.
func stopDaemon(cmd *exec.Cmd, ended <-chan error) error {
	cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended already
	timer := time.NewTimer(daemonStopLimit)
	defer timer.Stop()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGTERM {
				return nil // it does not handle the signal: fine for a measurement
			}
		}
		if err != nil {
			return fmt.Errorf("ending the daemon: %w", err)
		}
		return nil
	case <-timer.C:
		cmd.Process.Kill()
		<-ended
		return fmt.Errorf("ending the daemon: it ignored SIGTERM for %v and was killed", daemonStopLimit)
	}
}

// WriteTable writes the report for a terminal.
func (r *DaemonReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	u := &r.Usage
	exact := ""
	if !u.Exact {
		exact = ", read in ticks of 10 ms"
	}
	fmt.Fprintf(&b, "\nresident   %.1f MiB, at most %.1f MiB since its start; ≤ %d MiB bar: %s\n",
		mib(u.RSSBytes), mib(u.PeakRSSBytes), MaxDaemonRSS>>20, r.RSSBar)
	fmt.Fprintf(&b, "idle CPU   %.3f %% of a core over %.1f s%s; ≤ %.1f %% bar: %s\n",
		r.Idle, u.Window.Seconds(), exact, MaxDaemonIdle, r.IdleBar)
	_, err := io.WriteString(w, b.String())
	return err
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }
