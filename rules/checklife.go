// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// lifespan reads when a rule counts.
func (p *parser) lifespan(m fields) (l lifespan) {
	if n := m.get("lifespan"); n != nil {
		p.life(n, &l)
	}
	if n := m.get("expires"); n != nil {
		const hint = "write a time with its zone, such as 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00"
		if s, ok := p.text(n, "expires", hint); ok {
			var err error
			if l.expires, err = time.Parse(time.RFC3339, s); err != nil {
				p.add(n, hint, "expires %s is not a time", quote(s))
			}
		}
	}
	if n := m.get("times"); n != nil {
		for _, e := range p.list(n, "times") {
			if w, ok := p.window(e); ok {
				l.times = append(l.times, w)
			}
		}
	}
	return l
}

// The shortest and the longest lifespan.
const (
	minLife = time.Second
	maxLife = 10 * 365 * 24 * time.Hour
)

func (p *parser) life(n *yaml.Node, l *lifespan) {
	const hint = "write forever, until-reboot, session, once, or a time such as 8h or 30m"
	s, ok := p.text(n, "lifespan", hint)
	if !ok {
		return
	}
	if i := slices.Index(lifeNames[:], s); i >= 0 {
		l.kind = lifeKind(i)
		return
	}
	long, err := time.ParseDuration(s)
	switch {
	case err != nil:
		p.add(n, hint, "unknown lifespan %s", quote(s))
	case long < minLife || long > maxLife:
		p.add(n, "write from 1s to 87600h", "the lifespan %s is out of range", bare(s))
	default:
		l.kind, l.long = forTime, long
	}
}

// window reads a part of some days of the week.
func (p *parser) window(n *yaml.Node) (w window, ok bool) {
	m := p.mapping(n, "times", "days", "hours", "zone")
	if m == nil {
		return w, false
	}
	if len(n.Content) == 0 {
		p.add(n, "write {days: [mon-fri], hours: 08:00-18:00}", "times is empty")
		return w, false
	}
	before := len(p.problems)
	w = window{days: 1<<7 - 1, to: 24 * time.Hour, zone: time.Local}
	if v := m.get("days"); v != nil {
		w.days = 0
		for _, e := range p.list(v, "times.days") {
			w.days |= p.days(e)
		}
	}
	if v := m.get("hours"); v != nil {
		w.from, w.to = p.hours(v)
	}
	if v := m.get("zone"); v != nil {
		const hint = "write UTC, or a name such as Europe/Berlin; without it the zone is the machine's"
		if s, ok := p.text(v, "times.zone", hint); ok {
			zone, err := time.LoadLocation(s)
			if err != nil || s == "" || s == "Local" {
				p.add(v, hint, "there is no time zone %s here", quote(s))
			} else {
				w.zone = zone
			}
		}
	}
	return w, len(p.problems) == before
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// days reads a day of the week, or a range of them.
func (p *parser) days(n *yaml.Node) (set uint8) {
	hint := "write any of " + strings.Join(dayNames, ", ") + ", or a range such as mon-fri"
	s, ok := p.text(n, "times.days", hint)
	if !ok {
		return 0
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
	if from < 0 || to < 0 {
		p.add(n, hint, "unknown day %s", quote(s))
		return 0
	}
	for d := from; ; d = (d + 1) % 7 { // sat-mon goes over the end of the week
		set |= 1 << d
		if d == to {
			return set
		}
	}
}

// hours reads from when to when.
func (p *parser) hours(n *yaml.Node) (from, to time.Duration) {
	const hint = "write from when to when, such as 08:00-18:00; one that ends before it begins, such as 22:00-06:00, goes over midnight"
	s, ok := p.text(n, "times.hours", hint)
	if !ok {
		return 0, 0
	}
	clock := func(s string) (time.Duration, bool) {
		var h, m int
		if n, err := fmt.Sscanf(s, "%02d:%02d", &h, &m); err != nil || n != 2 || len(s) != len("00:00") || h > 24 || m > 59 || h == 24 && m > 0 || h < 0 || m < 0 {
			return 0, false
		}
		return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, true
	}
	first, last, _ := strings.Cut(s, "-")
	from, ok1 := clock(first)
	to, ok2 := clock(last)
	switch {
	case !ok1 || !ok2 || from == 24*time.Hour:
		p.add(n, hint, "times.hours %s is not from when to when", quote(s))
	case from == to:
		p.add(n, "leave it out for the whole day", "times.hours %s is no time at all", bare(s))
	case to < from:
		to += 24 * time.Hour
	}
	return from, to
}
