// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Engine is what is read of the verdict engine; *arbiter.Arbiter is one.
type Engine interface {
	Rules() *rules.RuleSet
	Stats() arbiter.Stats
	Subscribe(buffer int, o arbiter.SubscribeOptions) *arbiter.Subscription
}

// Asker has the questions that rules ask; *arbiter.Arbiter is one.
type Asker interface {
	Asks() []arbiter.Ask
	WatchAsks() (changed <-chan struct{}, end func())
	Answer(id uint64, answer arbiter.Answer) (waited int, err error)
}

// Applier puts rule sets in force: the kernel side's scope and the engine, as
// one. Calls are serialised by Rules.
type Applier interface {
	// Check reports whether rs could be kept on this machine, changing nothing.
	Check(ctx context.Context, rs *rules.RuleSet) (warnings []string, err error)
	// Apply puts rs in force and returns when every worker decides by it. After
	// an error the rule set from before is in force. The reason labels the cache
	// flush.
	Apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) (warnings []string, err error)
	// Unavailable returns those of the events that the kernel side cannot ask about here,
	// and for each one why. Apply puts rules about them in force all the same.
	Unavailable(asked []abi.Event) map[abi.Event]string
	// Moved reports whether what the scope and the mute of the rule set in force name is
	// another thing by now than when it was put in force, or is not there any more.
	Moved(rs *rules.RuleSet) bool
	// Collect has the kernel side fetch what another rule set looks at beside the one in
	// force, in requests that are asked about anyway. Nil ends that, and so does Apply. When
	// it returns nil every request that is asked from then on has these facts.
	Collect(also *rules.RuleSet) error
	// Canary has another set decide for a part of the processes and returns when every
	// worker does: the kernel side then fetches the facts of both, and decides nothing by
	// itself. Nil ends that, and so does Apply. After an error call it with nil.
	Canary(ctx context.Context, c *arbiter.Canary) error
}

// Info is what the daemon knows and the engine does not.
type Info struct {
	Version       string
	Backend       string // "bpf-lsm" or "fanotify"
	BackendReason string // why this one, for people
	StartedAt     time.Time
	// Bound is how long the kernel side holds a task at most; 0: not known.
	Bound          time.Duration
	KernelCounters map[string]uint64
	Warnings       []string // what an operator should look at, worst first
	SelfProtection string   // "off", "on", "on in part"
	// Waits says how a task waits for the answer about an event, "" when that is not known.
	// Nil: of none is it.
	Waits func(abi.Event) string
	// NotKept says why the kernel side decides nothing by itself and keeps no allow, whatever
	// the rules say; "" when it does.
	NotKept string
	// DefaultMutes are what the kernel side leaves alone unless the rules say otherwise.
	DefaultMutes []DefaultMute
}

// DefaultMute is one of them as it is now.
type DefaultMute struct {
	Name, What string
	InForce    bool
	Why        string // why it is not
}

// Defaults of Config.
const (
	// DefaultCallsPerSecond is far above what a person and a few scripts do and
	// far below what would be felt by the workers.
	DefaultCallsPerSecond = 100
	DefaultCallBurst      = 200
	DefaultWatchers       = 64
	// DefaultWatchBuffer is a second of events at a rate that a terminal can show.
	DefaultWatchBuffer = 4096
)

// MaxMessageBytes is the largest message in either direction: an ordinary rule file and its
// frame, with room to spare. Larger files come and go in parts.
const MaxMessageBytes = 16 << 20

// Maintainer lets a process, and those that descend from it, past the self-protection for
// a time; end takes that back.
type Maintainer interface {
	BeginMaintenance(pid int, long time.Duration) (end func() error, err error)
}

// Config configures a Server. Engine, Rules and Info are required; zero values
// of the others mean the defaults.
type Config struct {
	Engine Engine
	Rules  *Rules
	// Info is called for every status, concurrently.
	Info func() Info
	// Asks is where those who watch find what to answer; nil: nobody can.
	Asks Asker
	// Lifecycle is for a daemon that takes over from this one; nil: none can.
	Lifecycle Lifecycle
	// Admin may call everything, ReadOnly everything that changes nothing. Uid 0
	// is admin always.
	Admin, ReadOnly AccessList
	// TellRefused is what others who can open the socket are told of what was refused to
	// them.
	TellRefused Telling
	// CallsPerSecond and CallBurst bound the calls of each uid; below 0 there is
	// no bound.
	CallsPerSecond float64
	CallBurst      int
	Watchers       int // open Watch streams at once, all uids together
	WatchBuffer    int // events per watcher that it has not taken yet
	// Maintenance serves who shows the key of which MaintenanceKey is the SHA-256. Nil:
	// the daemon does not protect itself, or there is no key.
	Maintenance    Maintainer
	MaintenanceKey []byte
	Logger         *slog.Logger
}

func (c *Config) check() error {
	var errs []error
	if c.Engine == nil {
		errs = append(errs, errors.New("Engine is nil"))
	}
	if c.Rules == nil {
		errs = append(errs, errors.New("Rules is nil: make one with NewRules"))
	}
	if c.Info == nil {
		errs = append(errs, errors.New("Info is nil"))
	}
	if c.TellRefused > TellIDs {
		errs = append(errs, fmt.Errorf("TellRefused %d is none of the constants", c.TellRefused))
	}
	if c.CallsPerSecond == 0 {
		c.CallsPerSecond = DefaultCallsPerSecond
	}
	if c.CallBurst == 0 {
		c.CallBurst = DefaultCallBurst
	}
	if c.CallBurst < 0 {
		errs = append(errs, errors.New("CallBurst is below 0"))
	}
	if c.Watchers == 0 {
		c.Watchers = DefaultWatchers
	}
	if c.WatchBuffer == 0 {
		c.WatchBuffer = DefaultWatchBuffer
	}
	if c.Watchers < 0 || c.WatchBuffer < 0 {
		errs = append(errs, errors.New("a number below 0 for Watchers or WatchBuffer"))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// RulesConfig configures Rules. Engine, Applier and Store are required.
type RulesConfig struct {
	Engine  Engine
	Applier Applier
	Store   *store.Store
	// Trust says whose signatures count; it is called for each push. Nil: nobody's, and none
	// is required.
	Trust func() Trust
	// Load compiles the rules of a push, and of another epoch to explain by; nil means rules.Load,
	// in this process.
	Load func(ctx context.Context, name string, src []byte, o rules.Options) (*rules.RuleSet, error)
	// CgroupID is what rules.Options wants; nil: rules cannot name cgroups.
	CgroupID func(path string) (uint64, error)
	// Program is what rules.Options wants of those that are put in force.
	Program func(path string) (dev, ino uint64, err error)
	// ApplyTimeout bounds Apply, and going back when it failed; 0 means
	// DefaultApplyTimeout.
	ApplyTimeout time.Duration
	Logger       *slog.Logger // nil discards
}

// DefaultApplyTimeout is a thousand times what putting a set in force takes when
// no worker is stalled.
const DefaultApplyTimeout = 10 * time.Second
