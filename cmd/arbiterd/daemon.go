// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/compiler"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

// daemon is everything that runs, in the order in which it was opened. Closing goes
// the other way.
type daemon struct {
	cfg        config
	log        *slog.Logger
	started    time.Time
	chosen     string // backend
	why        string
	problem    atomic.Pointer[string]   // what is wrong with the choice of rules; cleared by a push
	limits     atomic.Pointer[[]string] // what of the set in force is not kept as written
	file       ruleFile                 // of the start, then of the reload under way
	trusted    trustedKeys
	collecting bool // facts of a candidate, too; see Collect. Of whose turn it is to change rules
	listener   *control.Listener
	store      *store.Store
	backend    backend
	engine     *arbiter.Arbiter
	workerCPUs []int // where each worker is pinned, below 0 for nowhere
	contents   *contents
	rules      *control.Rules
	server     *control.Server
	serving    chan error
	audit      *audit.Log
	auditEvent *arbiter.Subscription
	protection *kernelbridge.Protection // nil when switched off
	metrics    *http.Server

	old      *predecessor // whom this one takes over from; nil: nobody
	exchange exchange     // with one that takes over from this one

	reloaded chan struct{} // closed when the reload under way has ended; nil for none. Of serve
	// hurry ends when a stop has been patient enough: no set is put in force any more.
	hurry context.Context
	abort func()
}

// start opens everything and returns when the rules are in force and the socket is
// served. On an error, and when ctx ends, everything is closed again.
func start(ctx context.Context, cfg config, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{cfg: cfg, log: log, started: time.Now(), serving: make(chan error, 1), exchange: exchange{ends: make(chan int, 1)}}
	d.hurry, d.abort = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	steps := []func(context.Context) error{d.openSocket, d.openStore, d.startEngine, d.startAudit, d.startProtection, d.startControl,
		d.firstRules, d.bury, d.serveControl, d.startMetrics}
	if err := d.readKeys(ctx); err != nil {
		return nil, err
	}
	if cfg.Replace {
		if err := d.greetOld(ctx); err != nil {
			return nil, err
		}
	}
	if d.old != nil {
		// Beside the old one until everything is there; the address of /metrics is the last.
		steps = []func(context.Context) error{d.startEngine, d.startAudit, d.askBeside, d.releaseOld, d.openSocket, d.openStore,
			d.startProtection, d.startControl, d.firstRules, d.bury, d.endOld, d.serveControl, d.startMetrics}
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("starting: %w", err)
		}
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *daemon) openSocket(context.Context) (err error) {
	mode, _ := strconv.ParseUint(d.cfg.SocketMode, 8, 32) // checked by config.check
	d.listener, err = control.Listen(control.SocketConfig{Path: d.cfg.Socket, Mode: fs.FileMode(mode), Group: d.cfg.SocketGroup})
	return err
}

func (d *daemon) openStore(context.Context) (err error) {
	if d.store, err = store.Open(d.cfg.StateDir, store.Options{}); err != nil {
		return err
	}
	for _, i := range d.store.Incidents() {
		d.log.Warn("the rule store was repaired", slog.String("incident", i.String()))
	}
	return nil
}

func (d *daemon) serveControl(context.Context) error {
	l := d.listener
	go func() {
		err := d.server.Serve(l)
		if err == nil || !l.Closed() { // else it was let go of
			d.serving <- err
		}
	}()
	return nil
}

// startEngine opens the backend and runs the workers, with nothing in scope yet.
func (d *daemon) startEngine(context.Context) (err error) {
	if d.chosen, d.why, err = kernelbridge.Choose(d.cfg.Backend, kernelbridge.Probe()); err != nil {
		return fmt.Errorf("%w; run arbiterctl doctor", err)
	}
	usable, err := usableCPUs()
	if err != nil {
		return err
	}
	cpus := d.cfg.workerCPUs(usable)
	d.workerCPUs = cpus
	// A worker that attaches to the Go runtime needs one of its processors at once: the
	// control plane and the collector of garbage have their own beside them.
	runtime.GOMAXPROCS(len(usable) + len(cpus) + 2)
	var engine atomic.Pointer[arbiter.Arbiter]
	record := func(e arbiter.Event) {
		if a := engine.Load(); a != nil {
			a.Record(e)
		}
	}
	if d.backend, err = openBackend(d.chosen, &d.cfg, cpus, record, d.log); err != nil {
		return err
	}
	d.contents = newContents(&d.cfg, d.chosen, d.log)
	c := arbiter.Config{Rules: rules.Nothing(), Contents: d.contents, SpinFor: time.Duration(d.cfg.SpinFor), CacheEntries: d.cfg.CacheEntries, Logger: d.log,
		Watched: d.backend.watch, Apart: true}
	for i, s := range d.backend.sources() {
		c.Workers = append(c.Workers, arbiter.Worker{Source: s, CPU: cpus[i], Wait: d.backend.wait()})
	}
	if d.engine, err = arbiter.New(c); err != nil {
		return err
	}
	engine.Store(d.engine)
	return d.engine.Start()
}

// startAudit opens the verdict log, if there is to be one.
func (d *daemon) startAudit(context.Context) (err error) {
	if d.cfg.AuditLog == "" {
		return nil
	}
	const buffer = 16384 // events; a disk that stalls for a second loses none at that rate
	d.auditEvent = d.engine.Subscribe(buffer, arbiter.SubscribeOptions{})
	d.audit, err = audit.Open(audit.Config{Path: d.cfg.AuditLog, Events: d.auditEvent.C, Dropped: d.auditEvent.Dropped, Logger: d.log})
	return err
}

func (d *daemon) startControl(context.Context) (err error) {
	d.rules, err = control.NewRules(control.RulesConfig{Engine: d.engine, Applier: d, Store: d.store, Trust: d.trust,
		Load: compiler.New(d.log, d.workerCPUs, d.backend.execSelf).Load, CgroupID: kernelbridge.CgroupID, Program: findProgram, Logger: d.log})
	if err != nil {
		return err
	}
	maintainer, key := d.maintenance()
	d.server, err = control.New(control.Config{Maintenance: maintainer, MaintenanceKey: key,
		Engine: d.engine, Asks: d.engine, Rules: d.rules, Info: d.info, Lifecycle: d,
		Admin: control.AccessList(d.cfg.Admin), ReadOnly: control.AccessList(d.cfg.ReadOnly), TellRefused: tellings[d.cfg.WhyForAll],
		CallsPerSecond: d.cfg.RateLimit, Logger: d.log})
	return err
}

// lossWarning tells of events that nobody could get, empty without any.
func lossWarning(dropped uint64) string {
	if dropped == 0 {
		return ""
	}
	return fmt.Sprintf("%d events were lost for all who watch and for the verdict log: verdicts came faster than they could be recorded", dropped)
}

// info is what status shows beside the engine's figures.
func (d *daemon) info() control.Info {
	i := control.Info{Version: version(), Backend: d.chosen, BackendReason: d.why, StartedAt: d.started, Bound: d.backend.wait(), KernelCounters: d.backend.counters(), DefaultMutes: d.backend.mutes(), Waits: d.backend.waits}
	if d.chosen != kernelbridge.BackendLSM {
		i.NotKept = d.chosen + " keeps none"
	}
	if p := d.problem.Load(); p != nil {
		i.Warnings = append(i.Warnings, *p)
	}
	i.Warnings = append(i.Warnings, d.keyWarnings()...)
	i.Warnings = append(i.Warnings, d.backend.problems()...)
	if i.KernelCounters != nil && d.contents != nil {
		d.contents.count(i.KernelCounters)
	}
	if d.contents != nil {
		i.Warnings = append(i.Warnings, d.contents.problems()...)
	}
	d.protectionInfo(&i)
	stats := d.engine.Stats()
	if w := lossWarning(stats.EventsDropped); w != "" {
		i.Warnings = append(i.Warnings, w)
	}
	for n, w := range stats.Workers {
		if w.Displaced {
			i.Warnings = append(i.Warnings, fmt.Sprintf("CPU %d is not to be had, it is offline or not in our cpuset: worker %d shares the others, and verdicts take longer", w.CPU, n))
		}
	}
	if d.audit != nil {
		if s := d.audit.Stats(); s.Lost > 0 || s.Dropped > 0 {
			i.Warnings = append(i.Warnings, fmt.Sprintf("the verdict log lacks %d events; see the daemon's log", s.Lost+s.Dropped))
		}
	}
	if l := d.limits.Load(); l != nil {
		i.Warnings = append(i.Warnings, *l...)
	}
	return i
}

// startMetrics serves /metrics, if it is to be.
func (d *daemon) startMetrics(context.Context) error {
	if d.cfg.Metrics == "" {
		return nil
	}
	reg := prometheus.NewRegistry()
	for _, c := range d.server.Collectors() {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	l, err := net.Listen("tcp", d.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("serving metrics: %w; choose another address in metrics", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	d.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go d.metrics.Serve(l) // ends with close; nobody waits for a scrape
	return nil
}

const (
	// stopFor is the patience with calls and a reload that are under way; then a set
	// that waits for a stalled worker is given up.
	stopFor = 2 * time.Second
	// closeFor bounds a stop. It is below TimeoutStopSec= of the unit, and above what
	// is waited for with a bound: a reload, then calls.
	closeFor = 10 * time.Second
)

// stop is close with a bound, for a worker or a disk that hangs.
func (d *daemon) stop() error {
	done := make(chan error, 1)
	go func() { done <- d.close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(closeFor):
		return fmt.Errorf("stopping: not done within %v; the process ends all the same, and held tasks go on by their failure verdict", closeFor)
	}
}

// bury ends the hooks that a dead daemon has left, now that this one asks.
func (d *daemon) bury(context.Context) error {
	d.tellBuried(d.backend.bury())
	return nil
}

func (d *daemon) tellBuried(n int, err error) {
	if err != nil {
		d.log.Error("ending the hooks of dead daemons", slog.Any("error", err))
	}
	if n > 0 {
		d.log.Warn("ended the hooks of dead daemons, which refused everything in their scope", slog.Int("daemons", n))
	}
}

// drain stops asking and answers who has asked.
func (d *daemon) drain() {
	if d.backend == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	if err := d.backend.drain(ctx); err != nil {
		d.log.Warn("stopping the questions", slog.Any("error", err))
	}
}

// close ends everything, the control plane first, then the asking, then the workers.
// Held tasks go on by their failure verdict.
func (d *daemon) close() error {
	var errs []error
	handedOver := d.exchange.beginClose()
	hurry := time.AfterFunc(stopFor, d.abort)
	defer hurry.Stop()
	if d.reloaded != nil {
		select {
		case <-d.reloaded:
		case <-time.After(2 * stopFor): // a file system that hangs; it pushes nothing any more
			d.log.Warn("stopping while a reload is under way")
		}
	}
	if handedOver {
		d.drain() // first, so that the other one alone decides
	}
	if d.metrics != nil {
		errs = append(errs, d.metrics.Close())
	}
	if d.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopFor)
		d.server.Stop(ctx)
		cancel()
	}
	d.abort()
	if d.rules != nil {
		d.rules.Close()
	}
	d.drain()
	if d.engine != nil {
		d.engine.Stop()
	}
	if d.backend != nil {
		errs = append(errs, d.backend.close())
	}
	if d.contents != nil {
		errs = append(errs, d.contents.close()) // after the engine, which asks for them
	}
	if d.protection != nil {
		errs = append(errs, d.protection.Close())
	}
	if d.engine != nil {
		errs = append(errs, d.engine.Close()) // after the failure verdicts that closing the backend gives
	}
	if d.audit != nil {
		errs = append(errs, d.audit.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.listener != nil {
		errs = append(errs, d.listener.Close())
	}
	d.old.close() // it stays in charge, unless it has been told to end
	return errors.Join(errs...)
}
