// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// credentials is what a block asks of the subject's credentials, its ids aside. The zero value asks
// for nothing.
type credentials struct {
	login        []numberRange
	session      []numberRange // audit sessions
	capabilities bitTest
	host         bitTest // kinds of namespaces that are the host's
}

func (c *credentials) given() bool {
	return len(c.login)+len(c.session) > 0 || c.capabilities.given() || c.host.given()
}

// credentials reads the fields of a subject that are about them.
func (p *parser) credentials(f fields) (c credentials) {
	c.login = p.numbersOrUnset(f.get("loginuid"), "loginuid", "write a number such as 1000, a range such as 1000-1999, or unset for who has not logged in", "")
	c.session = p.numbersOrUnset(f.get("session"), "session", sessionHint, sessionHint)
	c.capabilities = p.bitTest(f.get("capabilities"), "subject.capabilities", capabilityBits, ^uint64(0),
		"write those that the subject has in effect, such as capabilities: {any: [CAP_SYS_ADMIN, CAP_SYS_PTRACE]}", "")
	c.host = p.bitTest(f.get("host_namespaces"), "subject.host_namespaces", namespaceBits, uint64(abi.AllNamespaces),
		"write those that the subject shares with the host, such as host_namespaces: {all: [mnt, user, pid]}",
		namespaceHint())
	return c
}

var namespaceHint = sync.OnceValue(func() string { return "the kinds are " + strings.Join(namespaceBits.words(), ", ") })

const sessionHint = "write a number such as 3, a range such as 3-9, or unset for who is in no session; that of a task is in /proc/PID/sessionid"

// numbersOrUnset reads login uids or sessions: numbers as ids are, and unset. otherwise is what to write
// instead of what is no number; empty: what is written instead of the id of a user.
func (p *parser) numbersOrUnset(n *yaml.Node, key, hint, otherwise string) []numberRange {
	if n == nil {
		return nil
	}
	what := "subject." + key
	return values(p, n, what, "login", false, func(e *yaml.Node) (r numberRange, ok bool) {
		s, ok := p.text(e, what, hint)
		if !ok {
			return r, false
		}
		if s == "unset" {
			return numberRange{uint64(abi.NoLogin), uint64(abi.NoLogin)}, true
		}
		r, why := parseRange(s)
		if why == "" {
			return r, true
		}
		if why == notANumber && otherwise != "" {
			why = otherwise
		}
		p.add(e, why, "%s %s is not a number or a range", what, quote(s))
		return r, false
	})
}

// fails returns the condition that does not hold, none when all do. What is not known does not match.
func (c *credentials) fails(r *abi.Request) condition {
	of := &r.Credentials
	switch {
	case c.login != nil && !(of.Known && inRanges(c.login, uint64(of.LoginUID))):
		return condLogin
	case c.session != nil && !(of.Known && inRanges(c.session, uint64(of.Session))):
		return condSession
	case c.capabilities.given() && !(of.Known && c.capabilities.holds(of.Capabilities)):
		return condCapabilities
	case c.host.given() && !(of.Known && c.host.holds(uint64(of.HostNamespaces))):
		return condHost
	}
	return none
}

// covers reports whether c holds wherever o does.
func (c *credentials) covers(o *credentials) bool {
	return covered(c.login, o.login) && covered(c.session, o.session) && c.capabilities.covers(o.capabilities) && c.host.covers(o.host)
}

// words returns what is known of the subject, and what is wanted of it.
func (c *credentials) words(of condition, r *abi.Request) (subject string, wanted []string) {
	var name, value string
	number := func(named string, v uint32, ranges []numberRange) {
		name, value = named, abi.NumberOrUnset(v)
		for _, r := range ranges {
			if text := abi.NumberOrUnset(uint32(r.lo)); r.lo == r.hi {
				wanted = append(wanted, text)
			} else {
				wanted = append(wanted, text+"-"+fmt.Sprint(r.hi))
			}
		}
	}
	has := &r.Credentials
	switch of {
	case condLogin:
		number("subject.loginuid", has.LoginUID, c.login)
	case condSession:
		number("subject.session", has.Session, c.session)
	case condCapabilities:
		name, value, wanted = "subject.capabilities", fmt.Sprintf("%016x", has.Capabilities), c.capabilities.words(bitNames(capabilityBits))
	default:
		name, value, wanted = "subject.host_namespaces", "["+bitNames(namespaceBits)(uint64(has.HostNamespaces))+"]", c.host.words(bitNames(namespaceBits))
	}
	if !has.Known {
		return name + ", which is not known,", wanted
	}
	return name + " " + value, wanted
}

// witness gives r a subject for which c holds.
func (c *credentials) witness(r *abi.Request) {
	if !c.given() {
		return
	}
	r.Credentials = abi.Credentials{Known: true, LoginUID: abi.NoLogin, Session: abi.NoSession, Capabilities: c.capabilities.some(), HostNamespaces: abi.Namespaces(c.host.some())}
	if c.login != nil {
		r.Credentials.LoginUID = uint32(c.login[0].lo)
	}
	if c.session != nil {
		r.Credentials.Session = uint32(c.session[0].lo)
	}
}

// appendKey appends what tells c from all others.
func (c *credentials) appendKey(key []byte) []byte {
	for _, rs := range [...][]numberRange{c.login, c.session} {
		key = binary.AppendUvarint(key, uint64(len(rs)))
		for _, r := range rs {
			key = binary.AppendUvarint(binary.AppendUvarint(key, r.lo), r.hi)
		}
	}
	return c.host.appendKey(c.capabilities.appendKey(key))
}

// credentials appends those of all rules, which came later than the rest of the form.
func (e *encoder) credentials(rs []rule) {
	e.blocks(rs, "credentials", func(b *block) bool { return b.credentials.given() }, func(b *block) {
		long(e, b.credentials.login, func(e *encoder, r numberRange) { e.number(r.lo<<32 | r.hi) })
		for _, t := range [...]bitTest{b.credentials.capabilities, b.credentials.host} {
			e.number(t.all)
			e.number(t.any)
		}
	})
	e.blocks(rs, "session", func(b *block) bool { return len(b.credentials.session) > 0 }, func(b *block) {
		long(e, b.credentials.session, func(e *encoder, r numberRange) { e.number(r.lo<<32 | r.hi) })
	})
}

// SetCredentials gives a request those of its subject; empty: they are not known.
func SetCredentials(r *abi.Request, text string) error {
	c, ok := abi.ParseCredentials(text)
	if !ok && text != "" {
		return fmt.Errorf("%s are no credentials: give the login uid or unset, the audit session or unset, the effective capabilities as CapEff of /proc/PID/status has them, and the namespaces that are the host's, such as 1000:3:00000000a80425fb:mnt,user", quote(text))
	}
	r.Credentials = c
	return nil
}
