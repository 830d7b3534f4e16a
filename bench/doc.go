// SPDX-License-Identifier: Apache-2.0

// Package bench times how long a held system call waits for its verdict: the
// shared-memory queue of package kernelbridge beside the other ways in which
// Linux asks user space, in one run, round by round in turns.
//
// Each Scenario runs in a child process of its own, a re-execution of the
// program (Options.Self), which does nothing between its rounds. The child asks
// from a locked, pinned thread and answers from another one; the parent only
// collects. So a scenario that hangs or crashes is killed and becomes a row
// with a reason, and its mounts, filters and listeners die with its process.
//
//	Run        -> starts the children, then A B C A B C ..., -> Report
//	Serve      -> the child's side: one Session, a round per command
//	Report     -> table (WriteTable), JSON (WriteJSON), Verdict
//	RunLoad    -> Run for the scenarios of Load, whose asks come at given rates
//	RunBoot    -> Run for the scenarios of Boot, which ask as often as a boot does
//	RunWork    -> Run for the scenarios of Work, programs with and without a daemon
//	RunSystems -> Run for the scenarios of Systems, in a machine of their own
//	RunRungs   -> Run for the scenarios of Rungs, system calls whose hooks ask, by every rung of the wait ladder
//	RunRuntime -> Run for the scenarios of Runtimes, verdicts while the Go runtime is busy
//	RunRules   -> Run for the scenarios of Rules, judged by the rule engine's bars
//	ReadReport -> Saved, for the packages report, compare and claims
//	MeasureDaemon  resident memory and idle CPU of a daemon
//
// A new scenario is a file scenario_*.go with one Scenario and its entry in
// Bridge, Load, Boot, Work, Systems, Rungs, Runtimes or Rules. docs/latency.md says what is timed and how to read it.
package bench
