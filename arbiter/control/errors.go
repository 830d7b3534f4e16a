// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"

	"github.com/arbiterd/arbiter/rules"
)

var (
	// ErrInUse is wrapped by the error of Listen when another process serves the
	// socket.
	ErrInUse = errors.New("another process serves this socket")
	// ErrFrozen is returned for a push while another daemon takes over.
	ErrFrozen = errors.New("another daemon takes over from this one: push again when it has")
	// ErrNoRules is returned for what is about the rules in force when there are none.
	ErrNoRules = errors.New("no rules are in force: push some with `arbiterctl rules push FILE`")
	// ErrEpochNotKept is wrapped by the errors about an epoch that the store does
	// not hold, or no longer.
	ErrEpochNotKept = errors.New("this epoch is not kept")
	// ErrEdit is wrapped by the errors about an edit of a set that cannot be made.
	ErrEdit = errors.New("the rules in force still are")
)

// StaleError is the error of a push that expected another epoch in force.
type StaleError struct{ Expected, Current uint64 }

// Error says both epochs and what to do next.
func (e *StaleError) Error() string {
	return fmt.Sprintf("epoch %d is in force, not %d: somebody pushed meanwhile; look at it with `arbiterctl rules get`, "+
		"then push with expected epoch %d", e.Current, e.Expected, e.Current)
}

// Stage is a step of a push.
type Stage string

// The stages after the rules were found to be well-formed.
const (
	StageCompile Stage = "compiling the rules"
	StageCheck   Stage = "checking the rules against this machine"
	StageStore   Stage = "storing the rules"
	StageApply   Stage = "putting the rules in force"
	StageCommit  Stage = "recording that the rules are in force"
)

// StageError is the error of a push that failed at a stage. The set that was in
// force before still is, unless Reverted says otherwise.
type StageError struct {
	Stage Stage
	Err   error
	// Reverted is why going back to the set that was in force did not work, nil
	// when it did or nothing had to be done.
	Reverted error
}

// Error says what failed, and what is in force now.
func (e *StageError) Error() string {
	if e.Reverted != nil {
		return fmt.Sprintf("%s: %v; going back to the rules before: %v; restart arbiterd to be sure which rules are in force",
			e.Stage, e.Err, e.Reverted)
	}
	return fmt.Sprintf("%s: %v; the rules that were in force still are", e.Stage, e.Err)
}

// Unwrap returns the cause.
func (e *StageError) Unwrap() []error { return []error{e.Err, e.Reverted} }

// UnkeptError is why a rule set is not put in force that is about events which are not
// asked about here, unless best effort is asked for.
type UnkeptError struct{ Problems rules.Problems }

// Error says how much cannot be kept, and the first of it.
func (e *UnkeptError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Error()
	}
	return fmt.Sprintf("%d of the events of rules cannot be asked about here; the first: %v", len(e.Problems), e.Problems[0])
}
