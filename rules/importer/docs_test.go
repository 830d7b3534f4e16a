// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExamplesInDocument imports the example of each section of docs/importing.md, which is named after
// its format, and compares what comes out with the block behind it.
func TestExamplesInDocument(t *testing.T) {
	const file = "../../docs/importing.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range Formats() {
		t.Run(format, func(t *testing.T) {
			_, section, found := strings.Cut(string(doc), "\n## "+format+"\n")
			section, _, _ = strings.Cut(section, "\n## ")
			blocks := codeBlock.FindAllStringSubmatch(section, 2)
			if !found || len(blocks) != 2 {
				t.Fatalf("%s has no section for the format with an example and what becomes of it", file)
			}
			r, err := Import(format, []Source{{"example", []byte(blocks[0][1])}}, Options{Paths: []string{"/"}})
			if err != nil {
				t.Fatal(err)
			}
			load(t, r.Rules)
			_, got, _ := strings.Cut(string(r.Rules), "docs/importing.md says what becomes of what.\n")
			if diff := cmp.Diff(blocks[1][1], got); diff != "" {
				t.Errorf("%s (-document +import):\n%s", file, diff)
			}
		})
	}
}

// TestWordsInDocument wants every word of the formats that the importers know in the document.
func TestWordsInDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/importing.md")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for w := range unknownHere {
		words = append(words, w)
	}
	for w := range fapolicydDecisions {
		words = append(words, w)
	}
	for w, why := range santaTypes {
		if why != "" {
			words = append(words, w)
		}
	}
	for w := range santaPolicies {
		if !strings.Contains(w, "WHITE") && !strings.Contains(w, "BLACK") && w != "ALLOWLIST_COMPILER" {
			words = append(words, w)
		}
	}
	for _, e := range esfEvents {
		words = append(words, e.name)
	}
	words = append(words, settingNames()...)
	for _, w := range words {
		if !regexp.MustCompile("`" + w + "[`=]").Match(doc) {
			t.Errorf("docs/importing.md does not mention `%s`", w)
		}
	}
}

var codeBlock = regexp.MustCompile("(?s)```[a-z]+\n(.*?)```")
