// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
	"github.com/arbiterd/arbiter/arbiter/store"
)

// Trust says whose signatures count, and whether rules need one.
type Trust struct {
	Keys *signature.Keys // nil: nobody's
	// Required: nothing is put in force that nobody who is trusted has signed, not of the
	// store either.
	Required bool
}

// Stored verifies the signature of a set of the store again. Its serial is not looked at:
// the set was accepted once. Where none is required, a signature that is not accepted any
// more leaves the set unsigned, and the warning says why. The error is a *signature.Error.
func (t Trust) Stored(m store.Meta, source []byte) (s signature.Signed, warning string, err error) {
	if len(m.Signature) == 0 {
		if t.Required {
			return s, "", &signature.Error{Reason: signature.ErrMissing, Detail: fmt.Sprintf("epoch %d was pushed without a signature", m.Epoch),
				Next: "push signed rules, or roll back to an epoch that has a KEY in arbiterctl rules history"}
		}
		return s, "", nil
	}
	s, err = t.Keys.Verify(source, m.Signature)
	if err == nil {
		return s, "", nil
	}
	if !t.Required {
		return signature.Signed{}, fmt.Sprintf("the signature of epoch %d does not count: %v", m.Epoch, err), nil
	}
	if refused := new(signature.Error); errors.As(err, &refused) {
		err = &signature.Error{Reason: refused.Reason, Detail: fmt.Sprintf("epoch %d: %s", m.Epoch, refused.Detail),
			Next: "push rules that a trusted key has signed, or have an administrator trust the key of these again"}
	}
	return signature.Signed{}, "", err
}

// trust returns whose signatures count now.
func (r *Rules) trust() Trust {
	if r.cfg.Trust == nil {
		return Trust{}
	}
	return r.cfg.Trust()
}

// signed checks the signature of a push, before its rules are even looked at; it is the
// push's turn. The error is a *signature.Error.
func (r *Rules) signed(p *Push) (s signature.Signed, warning string, err error) {
	trust := r.trust()
	switch {
	case p.rollbackOf != 0:
		s, warning, err = trust.Stored(store.Meta{Epoch: p.rollbackOf, Signature: p.Signature}, p.Source)
	case p.Signature != nil:
		if s, err = trust.Keys.Verify(p.Source, p.Signature); err == nil {
			high := r.cfg.Store.High()
			err = s.Follows(high.Serial, high.IsOf(p.Source))
		}
	case trust.Required && p.DryRun:
		missing := signature.Missing()
		warning = fmt.Sprintf("a push of it will be refused: %v: %s", missing, missing.Next)
	case trust.Required:
		err = signature.Missing()
	}
	if err != nil {
		r.cfg.Logger.Warn("rules refused because of their signature", slog.Uint64("uid", uint64(p.UID)), slog.String("name", p.Name), slog.Any("error", err))
		return signature.Signed{}, "", err
	}
	return s, warning, nil
}

// alsoSigned reports whether the set in force has the signature of a push of the same text,
// so that nothing is to be recorded.
func (r *Rules) alsoSigned(s signature.Signed) bool {
	m, _ := r.cfg.Store.Current()
	return s.Serial == 0 || m.KeyID == s.KeyID && m.Serial == s.Serial
}

// signingMessage returns nil when no key is trusted.
func (r *Rules) signingMessage() *controlv1.SigningState {
	trust := r.trust()
	if trust.Keys == nil {
		return nil
	}
	out := &controlv1.SigningState{Required: trust.Required, TrustedKeys: trust.Keys.IDs(), HighestSerial: r.cfg.Store.High().Serial}
	if live := r.inForce(); live != nil {
		m, _ := r.metaOf(live)
		out.KeyId, out.Serial = m.KeyID, m.Serial
	}
	return out
}

// signatureProblem is the status detail of an error.
func signatureProblem(err *signature.Error) *controlv1.SignatureProblem {
	return &controlv1.SignatureProblem{Message: utf8(err.Error()), Next: utf8(err.Next)}
}
