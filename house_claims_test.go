// SPDX-License-Identifier: Apache-2.0

package house

import (
	"strings"

	"github.com/arbiterd/arbiter/bench/claims"
)

const claimsFile = "bench/claims.yaml"

// claimRules are the rules about what documents say of performance.
func claimRules() []rule {
	const list = "version: 1\ndocuments: [README.md]\nclaims:\n  - id: a\n    says: it is fast\n    quotes: [{in: README.md, text: takes 0.26 µs}]\n" +
		"    run: bridge\n    figure: {row: native-other, of: p50}\n    at_most: 1us\n"
	const readme = "A verdict\ntakes 0.26 µs.\n\n```\nlatency p50 25.599µs\n```\n"
	return []rule{{
		name: "claims of performance",
		why:  "a figure in a document is believed for years; one that no run can be held against is an advertisement",
		fix: "list the figure in " + claimsFile + ", as a claim with the row and the bound that back it or as excluded with the reason; " +
			"where a document says something else now, change the quote with it",
		check: checkClaims,
		bad: []map[string]string{
			{claimsFile: list, "README.md": readme + "\nWith rules it takes 3 ms.\n"},
			{claimsFile: list, "README.md": readme + "\nThat is 21 times less.\n"},
			{claimsFile: list, "README.md": "A verdict takes 0.31 µs.\n"},
			{claimsFile: list, "README.md": "A verdict is fast.\n"},
			{claimsFile: list},
			{claimsFile: strings.Replace(list, "at_most", "at_mots", 1), "README.md": readme},
			{claimsFile: strings.Replace(list, "[README.md]", "[README.md, 'README.md#gone']", 1), "README.md": readme},
		},
		good: []map[string]string{{claimsFile: list, "README.md": readme, "docs/operations.md": "A deadline of 100 ms.\n"}},
	}}
}

func checkClaims(tr *tree) []string {
	f := tr.file(claimsFile)
	if f == nil {
		if tr.real {
			return []string{claimsFile + ": missing"}
		}
		return nil
	}
	list, err := claims.Read(strings.NewReader(string(f.text)))
	if err != nil {
		return []string{claimsFile + ": " + err.Error()}
	}
	read := func(path string) (string, bool) {
		doc := tr.file(path)
		if doc == nil {
			return "", false
		}
		return string(doc.text), true
	}
	return append(claims.Unlisted(list, read), claims.Gone(list, read)...)
}
