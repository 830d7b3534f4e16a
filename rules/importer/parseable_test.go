// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"testing"

	"github.com/arbiterd/arbiter/rules"
)

// load reads what an import wrote as the daemon would.
func load(t *testing.T, text []byte) *rules.RuleSet {
	t.Helper()
	cgroups := func(string) (uint64, error) { return 1, nil }
	rs, err := rules.Load("imported.yaml", text, rules.Options{CgroupID: cgroups})
	if err != nil {
		t.Fatalf("the daemon would refuse what was imported: %v\nin:\n%s", err, text)
	}
	return rs
}
