// SPDX-License-Identifier: Apache-2.0

// Package arbiter is the verdict engine: request in, verdict out. It is pure Go
// and knows nothing of the kernel: what asks is a Source.
//
// # The life of one request
//
//  1. A worker, one goroutine locked to one pinned thread, polls its Source. The
//     Source copies a waiting request, facts and all, into memory that the
//     worker owns; from then on nothing of it can change.
//  2. The worker looks whether a new rule set was installed. If so it adopts it
//     and finds in the cache what was decided by that one alone.
//     Polling, and step 3 to its end where that is a hit, is done detached from the
//     Go runtime, see package detached: what else the process does holds nobody up.
//  3. It builds the key: exactly those facts that the rule set consults for this
//     event. The seeded hash of the key finds the place in the cache of all workers, the whole
//     key is compared. A hit is the decision.
//  4. On a miss the rule set decides: first match wins, nothing is allocated. If that
//     takes a fact that has to be fetched, the request is set aside, others are
//     answered, and it goes through 2 to 4 again when the fact is there: see Held.
//  5. If the request has waited longer than the deciding rule's deadline, the
//     verdict is the rule's failure verdict instead, reason "deadline". The clock
//     is read for that only if the requester would wait longer than the deadline.
//  6. The Source is told. It says whether the answer was in time; a late answer
//     is counted and not cached.
//  7. After the answer, when nobody waits any more: counters, the clock for the
//     latency histogram, and, if the decision is worth a record, the worker's
//     journal.
//
// Budget on the worker, measured by the benchmarks of this package: a hit under
// 200 ns, of which the clock is the largest part. Steps 1 to 7 take no lock and
// allocate nothing. They read the clock once, after the answer; step 5 reads it too
// where Worker.Wait is longer than the deadline of the rule, or unknown: by default
// with fanotify, which holds for 5 s, and not with BPF LSM, which waits for 5 ms. The
// first fruitless poll after a request reads it once more.
//
// A worker that finds nothing for Config.SpinFor parks in its Source and costs
// nothing. Install returns when every worker decides by the new set: a parked
// worker will load it before it decides anything, a polling one says so.
//
// Records leave the journals through one collector goroutine, which gives them
// one sequence, keeps the recent ones, and hands them to subscribers. The first one after
// a pause it takes at once; while there are more it looks once a millisecond, or when a
// journal is a quarter full. It never makes a worker wait: what does not fit is counted
// as dropped and leaves a gap in the sequence.
package arbiter
