// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/rules"
)

// load reads what an import wrote as the daemon would.
func load(t *testing.T, text []byte) *rules.RuleSet {
	t.Helper()
	cgroups := func(string) (uint64, error) { return 1, nil }
	rs, err := rules.Load("imported.yaml", withoutDigests(t, text), rules.Options{CgroupID: cgroups})
	if err != nil {
		t.Fatalf("the daemon would refuse what was imported: %v\nin:\n%s", err, text)
	}
	return rs
}

// withoutDigests takes the key sha256 out of every object, and an object that has no other key
// with it. It stands until rule files have that key; then it returns text, and is inlined.
func withoutDigests(t *testing.T, text []byte) []byte {
	t.Helper()
	if !bytes.Contains(text, []byte("sha256:")) {
		return text
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatalf("what was imported is no YAML: %v\nin:\n%s", err, text)
	}
	var strip func(n *yaml.Node)
	strip = func(n *yaml.Node) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); {
			strip(n.Content[i+1])
			key, value := n.Content[i].Value, n.Content[i+1]
			if key == "sha256" || key == "object" && len(value.Content) == 0 {
				n.Content = append(n.Content[:i], n.Content[i+2:]...)
				continue
			}
			i += 2
		}
		if n.Kind != yaml.MappingNode {
			for _, c := range n.Content {
				strip(c)
			}
		}
	}
	strip(&doc)
	out, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
