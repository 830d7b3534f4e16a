// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// scanSet is a set of results of scans, a bit each.
type scanSet uint8

// anyScan has all of them: each file that was scanned has one.
const anyScan scanSet = 1<<abi.ScanCount - 1 - 1<<abi.ScanUnknown

func (s scanSet) has(r abi.Scan) bool { return s>>r&1 != 0 }

func (s scanSet) names() (out []string) {
	for r := abi.ScanUnknown + 1; r < abi.ScanCount; r++ {
		if s.has(r) {
			out = append(out, r.String())
		}
	}
	return out
}

// scans reads one result or a list of them.
func (p *parser) scans(n *yaml.Node, about eventSet) (set scanSet) {
	p.needContent(n, "object.scan", about)
	hint := "write any of " + strings.Join(anyScan.names(), ", ")
	for _, e := range p.list(n, "object.scan") {
		s, ok := p.text(e, "object.scan", hint)
		if !ok {
			continue
		}
		r, known := abi.ParseScan(s)
		lower, meant := abi.ParseScan(strings.ToLower(s))
		switch {
		case known:
			set |= 1 << r
		case meant:
			p.add(e, "write "+lower.String(), "unknown result of a scan %s", bare(s))
		default:
			p.add(e, hint+"; what could not be scanned gets the failure verdict, on_fail", "unknown result of a scan %s", bare(s))
		}
	}
	return set
}

// SetScan gives a request the result of that name; empty: it is not known.
func SetScan(r *abi.Request, text string) error {
	s, ok := abi.ParseScan(text)
	if !ok && text != "" {
		return fmt.Errorf("%s is no result of a scan: give %s", quote(text), strings.Join(anyScan.names(), ", "))
	}
	r.Scan = s
	return nil
}

// scans appends the results of all rules, which came later than the rest of the form.
func (e *encoder) scans(rs []rule) {
	e.contents(rs, "scan", abi.FieldScan, func(b *block) { e.number(uint64(b.scans)) })
}
