// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const verdictHint = "write allow, deny, audit, kill, ask, {deny: EACCES}, or for open {allow: [read]}"

var accessNames = [...]struct {
	name string
	bit  abi.Access
}{{"read", abi.AccessRead}, {"write", abi.AccessWrite}, {"append", abi.AccessAppend},
	{"truncate", abi.AccessTruncate}, {"create", abi.AccessCreated}}

func (p *parser) access(n *yaml.Node) abi.Access {
	const hint = "write any of read, write, append, truncate, create"
	var set abi.Access
	for _, e := range p.list(n, "access") {
		s, ok := p.text(e, "access", hint)
		if !ok {
			continue
		}
		bit, ok := ParseAccess(s)
		if !ok {
			p.add(e, hint, "unknown access %s", bare(s))
		}
		set |= bit
	}
	return set
}

// note reads a text for people; n may be nil.
func (p *parser) note(n *yaml.Node, what string, most int) string {
	if n == nil {
		return ""
	}
	hint := "write what those who look after the rules should know, or leave it out"
	if what == "message" {
		hint = "write what the person who is refused should know, or leave it out"
	}
	s, ok := p.text(n, what, hint)
	if !ok {
		return ""
	}
	if len(s) > most {
		p.add(n, "shorten it", "the %s has %d bytes, at most %d are kept", what, len(s), most)
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == utf8.RuneError {
			p.add(n, "write plain text", "the %s has the control character %U", what, r)
			break
		}
	}
	return s
}

func (p *parser) deadline(n *yaml.Node) time.Duration {
	return p.duration(n, "deadline", DefaultDeadline, MaxDeadline)
}

// duration reads a duration up to longest; usual stands for one that cannot be read.
func (p *parser) duration(n *yaml.Node, what string, usual, longest time.Duration) time.Duration {
	hint := "write a number and its unit, such as 5ms or 1s, from 1ms to " + strconv.Itoa(int(longest.Seconds())) + "s"
	s, ok := p.text(n, what, hint)
	if !ok {
		return usual
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		if _, err := strconv.Atoi(s); err == nil {
			p.add(n, "write the unit: "+bare(s)+"ms, or "+bare(s)+"s", "the %s %s has no unit", what, bare(s))
		} else {
			p.add(n, hint, "the %s %s is not a duration", what, quote(s))
		}
		return usual
	case d < MinDeadline || d > longest:
		p.add(n, hint, "the %s %s is out of range", what, bare(s))
		return usual
	}
	return d
}

// ruleVerdict reads the verdict of a rule about these events, and what of an open it allows, 0
// for all.
func (p *parser) ruleVerdict(n *yaml.Node, about eventSet) (Verdict, abi.Access) {
	if n.Kind == yaml.ScalarNode && n.Value == "kill" {
		return Verdict{Kill, errnoByName("EPERM")}, 0
	}
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || n.Content[0].Value != "allow" {
		return p.verdict(n, "verdict", true), 0
	}
	for _, e := range (about &^ withAccess).list() {
		p.add(n, "write verdict: allow, or put "+e.String()+" in a rule of its own", "the event %s asks for no access that could be allowed in part", e)
	}
	return Verdict{Action: Allow}, p.access(n.Content[1])
}

// verdict reads a verdict; audit says whether audit is one of the choices.
func (p *parser) verdict(n *yaml.Node, what string, audit bool) Verdict {
	hint := verdictHint
	if what != "verdict" {
		hint = "write allow, deny, audit or {deny: EACCES}"
	}
	if !audit {
		hint = "write allow, deny or {deny: EACCES}"
	}
	if n.Kind == yaml.MappingNode {
		m := p.mapping(n, what, "deny")
		switch {
		case m.get("deny") != nil:
			return Verdict{Deny, p.errno(m.get("deny"))}
		case len(n.Content) == 0:
			p.add(n, hint, "%s is empty", what)
		}
		return Verdict{}
	}
	s, ok := p.text(n, what, hint)
	if !ok {
		return Verdict{}
	}
	switch {
	case s == "allow":
		return Verdict{Action: Allow}
	case s == "deny":
		return Verdict{Deny, errnoByName("EPERM")}
	case s == "audit" && audit:
		return Verdict{Action: Audit}
	case s == "ask":
		p.add(n, "write a rule with this verdict, last and without conditions for all that no other decides", "%s cannot be ask", what)
	case s == "kill":
		p.add(n, hint, "%s cannot be kill: it would be for whatever no rule is about", what)
	case s == "audit":
		p.add(n, "write allow; a failure is always counted and recorded", "%s cannot be audit", what)
	default:
		p.add(n, hint, "unknown verdict %s", bare(s))
	}
	return Verdict{}
}

func (p *parser) errno(n *yaml.Node) uint16 {
	const hint = "write a name such as EACCES, ENOENT or EPERM, or its number from 1 to 133"
	s, ok := p.text(n, "the errno of deny", hint)
	if !ok {
		return 0
	}
	if e := errnoByName(s); e != 0 {
		return e
	}
	v, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err == nil && v >= 1 && v <= maxDenyErrno:
		return uint16(v)
	case err == nil && v >= 512, strings.HasPrefix(s, "ERESTART") && s != "ERESTART":
		p.add(n, hint, "the errno %s is for use inside the kernel and must not reach a program", bare(s))
	case err == nil:
		p.add(n, hint, "the errno %s is out of range", bare(s))
	case errnoByName(strings.ToUpper(s)) != 0:
		p.add(n, "write "+strings.ToUpper(s), "unknown errno %s", bare(s))
	default:
		hint := hint
		if near := suggest(s, errnoNames[1:]); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		p.add(n, hint, "unknown errno %s", bare(s))
	}
	return 0
}
