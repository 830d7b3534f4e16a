// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// textKind says what a pattern is compared with, and so what it can be.
type textKind struct {
	what string // for messages
	hint string // what to write
	// The text can also begin with @: the name of an abstract socket.
	abstract bool
	// The text is any, not a path.
	free bool
}

const absoluteHint = "write an absolute path: it begins with /"

func pathText(what string) textKind { return textKind{what: what, hint: absoluteHint} }

// objectText is the path of the object of a rule's events.
func objectText(about eventSet) textKind {
	t := pathText("object.path")
	if about&sockets != 0 {
		t.abstract, t.hint = true, "write an absolute path, which begins with /, or @ and the name of an abstract socket"
	}
	return t
}

// detailText is the second text of a rule's events.
func detailText(about eventSet) textKind {
	t := textKind{what: "detail", hint: "it is " + detailsOf(about&withDetail), free: about&withDetail&^pathDetail != 0}
	if !t.free {
		t.hint += "; " + absoluteHint
	}
	return t
}

// detailsOf says of each event what its detail is.
func detailsOf(s eventSet) string {
	var parts []string
	for _, e := range s.list() {
		parts = append(parts, catalogue.Of(e).Detail+" ("+e.String()+")")
	}
	return strings.Join(parts, ", ")
}

// fits checks that s can be, or begin, a text of this kind.
func (p *parser) fits(n *yaml.Node, s, what string, t textKind) bool {
	switch {
	case !t.free && !(t.abstract && strings.HasPrefix(s, "@")):
		return p.plainPath(n, s, what, t.hint)
	case s == "":
		p.add(n, t.hint, "%s is empty", what)
	case strings.IndexByte(s, 0) >= 0:
		p.add(n, "take it out; no such text can hold one", "%s has a NUL byte", what)
	case len(s) > MaxPatternBytes:
		p.add(n, "use a prefix or a glob", "%s has %d bytes, at most %d are compared", what, len(s), MaxPatternBytes)
	default:
		return true
	}
	return false
}
