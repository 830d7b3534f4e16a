// SPDX-License-Identifier: Apache-2.0

// Package model holds a model of the queue between the kernel side and the workers,
// with the gate on which a held task sleeps, in Promela: queue.pml. Its test lets spin
// look at every order in which the steps of both sides can happen, and at every moment
// at which a deadline can pass, a signal arrive or the daemon die. It holds no code
// that runs anywhere else.
//
// Whoever changes the protocol changes the model first: the order of two accesses, a
// new state, a new reader. docs/decisions/0013-promela-model.md says what is proved,
// and what is not.
package model
