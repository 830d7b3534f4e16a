// SPDX-License-Identifier: Apache-2.0

// Package store keeps rule sets on disk so that they survive a crash at any
// moment. It knows nothing of rules: a rule set is bytes with a Meta.
//
// A directory holds
//
//	lock                        locked while a Store is open
//	00000000000000000042.rules  one file per epoch: a checksum line, a line of
//	                            JSON, then the rule file as it was pushed
//	current                     which epoch is in force, same form
//	set-aside/                  what was found damaged or half done, never deleted
//
// Every file is written beside its place, synced, renamed into it, and the
// directory synced: after a crash a file is the old one or the new one. The
// checksum line covers the length and every byte, so whatever else happens to a
// file is noticed when it is read.
//
// A rule set is put in force in two steps. Prepare makes it durable, Commit makes
// it the current one; between the two the caller tries it out, and Discard takes
// it back. A set that was prepared when the machine stopped is one that nobody has
// said is to stay: Open sets it aside.
//
// A set may be signed and have a serial. The store keeps both and judges neither, but it
// remembers the highest serial that was ever in force to stay, through the loss of any one
// file.
//
// Epochs increase for ever: the number of a discarded, lost or damaged set is
// not given again.
package store
