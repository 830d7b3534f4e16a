// SPDX-License-Identifier: Apache-2.0

// Package audit is the verdict log: one JSON object per line, named after the
// Open Cybersecurity Schema Framework (OCSF) so that a log pipeline knows the
// fields already, and the quoting of foreign bytes for terminals.
//
// Record is the schema. Each event has its class and activity in class.go: an open is
// 1001, File System Activity, activity 14 (Open); an exec 1007, Process Activity,
// activity 1 (Launch); a connect 4001, Network Activity, activity 1 (Open). An event for
// which OCSF has no class is a base event, class 0. The outcome follows the OCSF profile
// security_control. What OCSF has no name for is below "unmapped": the event's second
// text, and its numbers by the names that rules have for them. The device is left to the
// shipper, which knows its host.
//
// Paths and command names are the kernel's bytes, chosen by whoever is being
// watched. In a line they are JSON strings in which every character that does
// not print is an escape: no newline, control byte, terminal escape or
// direction override comes out raw. A string that is valid UTF-8 decodes to
// exactly what the kernel saw. One that is not becomes its Quote, and a second
// field with the suffix _b64 carries the exact bytes.
//
// A line has all that rules can look at, so that the decision can be made again: Decode
// reads it back, and takes nothing that is not written so.
//
// Nothing here runs on a verdict's path: Log reads a subscription in its own
// goroutine, and a disk that is slow or full costs lines, which are counted.
package audit
