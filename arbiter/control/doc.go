// SPDX-License-Identifier: Apache-2.0

// Package control serves the control interface: gRPC on a unix socket.
//
// Who calls is what the kernel says of the peer (SO_PEERCRED), and two lists of
// uids and gids say what it may do; root may do everything. There are no tokens.
//
// The way of a call, outermost first: metrics, one log line when it ends, rate
// limit per uid, authorisation (all but health), and recovery, which logs the
// stack of a panic and tells the caller a number.
//
// The way of a push, see Rules.Push: parse, check, compile; ask the Applier
// whether the rules can be kept here; store them; have the Applier put them in
// force; note that they are. A failure at any step leaves the set that was in
// force in force, and the store agreeing.
//
// Nothing here is on the way of a verdict: a subscriber that is slow loses
// events, a scrape reads counters, a push waits for the workers and not they for it.
package control
