// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// DefaultAsk is how long somebody is asked when the rule does not say.
	DefaultAsk = 30 * time.Second
	// MaxAsk is the longest.
	MaxAsk = MaxDeadline - AskGrace
	// AskGrace is what the deadline of a rule that asks has more: the kernel side must not
	// give up before the worker gives the answer that stands when nobody has answered.
	AskGrace = time.Second
)

// Within returns how long somebody is asked, when the verdict is Ask.
func (d Decision) Within() time.Duration { return d.Deadline - AskGrace }

// Unanswered returns the verdict when nobody answers, when this one is Ask.
func (v Verdict) Unanswered() Verdict {
	if v.Errno == 0 {
		return Verdict{Action: Allow}
	}
	return Verdict{Deny, v.Errno}
}

// asks reports whether a verdict is meant to be ask.
func asks(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return n.Kind == yaml.ScalarNode && n.Value == "ask"
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "ask" {
			return true
		}
	}
	return false
}

// ask reads the verdict of a rule that asks somebody, into the rule.
func (p *parser) ask(n *yaml.Node, r *rule) {
	within := DefaultAsk
	r.verdict = Verdict{Ask, errnoByName("EPERM")}
	if n.Kind == yaml.MappingNode {
		if v := p.mapping(n, "verdict", "ask").get("ask"); v != nil && v.ShortTag() != "!!null" {
			f := p.mapping(v, "ask", "default", "within")
			if d := f.get("default"); d != nil {
				r.verdict.Errno = p.verdict(d, "the default of ask", false).Errno
			}
			if w := f.get("within"); w != nil {
				within = p.duration(w, "within", DefaultAsk, MaxAsk)
			}
		}
	}
	r.deadline, r.deadlineWritten = within+AskGrace, true
}
