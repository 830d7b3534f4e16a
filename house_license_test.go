// SPDX-License-Identifier: Apache-2.0

package house

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// licenseRules are the rules about the texts of licences.
func licenseRules() []rule {
	return []rule{{
		name: "license texts",
		why:  "a name is no licence: who copies a file has to find the words that go with it",
		fix:  "put the whole text into LICENSES, under the name in the SPDX line with .txt behind it; that of Apache-2.0 is LICENSE; remove a text that nothing is under",
		check: func(tr *tree) []string {
			used := map[string]string{} // by a file
			for _, f := range tr.files {
				for _, line := range strings.SplitN(string(f.text), "\n", 3)[:min(2, f.lines())] {
					m := spdxLine.FindStringSubmatch(line)
					if m == nil {
						continue
					}
					for _, id := range spdxName.FindAllString(m[1], -1) {
						if id != "OR" && id != "AND" && id != "WITH" {
							used[id] = f.path
						}
					}
				}
			}
			var out []string
			for _, id := range slices.Sorted(maps.Keys(used)) {
				text := "LICENSES/" + id + ".txt"
				if id == "Apache-2.0" {
					text = "LICENSE"
				}
				if f := tr.file(text); f == nil || len(f.text) < 1000 {
					out = append(out, used[id]+": "+id+": no whole text in "+text)
				}
			}
			for _, f := range tr.files {
				if id := strings.TrimSuffix(path.Base(f.path), ".txt"); f.dir() == "LICENSES" && used[id] == "" {
					out = append(out, f.path+": no file is under it")
				}
			}
			return out
		},
		bad: []map[string]string{
			{"a.go": "// SPDX-License-Identifier: Apache-2.0\n\npackage a\n"},
			{"a.h": "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n", "LICENSES/GPL-2.0-only.txt": strings.Repeat("word ", 300)},
			{"x": "#!/bin/sh\n# SPDX-License-Identifier: MIT\n", "LICENSES/MIT.txt": "MIT\n"},
			{"LICENSES/MIT.txt": strings.Repeat("word ", 300)},
		},
		good: []map[string]string{{
			"a.go": "// SPDX-License-Identifier: Apache-2.0\n\npackage a\n", "LICENSE": strings.Repeat("word ", 300),
			"x": "#!/bin/sh\n# SPDX-License-Identifier: (MIT OR Apache-2.0)\n", "LICENSES/MIT.txt": strings.Repeat("word ", 300),
		}},
	}}
}

var (
	spdxLine = regexp.MustCompile(`^[/*# ]*SPDX-License-Identifier: ([^*]+)`)
	spdxName = regexp.MustCompile(`[\w.+-]+`)
)
