// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// anyScan has all results of scans: each file that was scanned has one.
const anyScan kinds[abi.Scan] = 1<<abi.ScanCount - 1 - 1<<abi.ScanUnknown

// scans reads one result or a list of them.
func (p *parser) scans(n *yaml.Node, about eventSet) kinds[abi.Scan] {
	const what = "result of a scan"
	return parseKinds(p, n, "object.scan", what, about, anyScan, abi.ParseScan, func(e *yaml.Node, name, hint string) {
		p.add(e, hint+"; what could not be scanned gets the failure verdict, on_fail", "unknown %s %s", what, bare(name))
	})
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
