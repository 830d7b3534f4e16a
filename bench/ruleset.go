// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
)

// RuleSet returns the text of a rule file with n rules about objects below dir,
// an absolute path without a trailing slash, which is also its scope. The rules
// are of the kinds that people write: literal paths, prefixes, globs, some with
// conditions on the subject. None matches a file dir/data/opened, so whoever asks
// about that one makes the engine consider all of them; the default allows.
func RuleSet(n int, dir string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: 1\ndefault: allow\ndeadline: 1s\nscope: {paths: [%q]}\nrules:\n", dir)
	for i := range n {
		fmt.Fprintf(&b, "  - id: rule-%04d\n", i)
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "    events: [open]\n    object: {path: %q}\n    verdict: {deny: EACCES}\n",
				fmt.Sprintf("%s/secrets/%04d.key", dir, i))
		case 1:
			fmt.Fprintf(&b, "    events: [open]\n    object: {path: {prefix: %q}}\n    subject: {uid: [%d-%d]}\n    verdict: deny\n",
				fmt.Sprintf("%s/home/%04d/", dir, i), 10000+i, 10099+i)
		case 2:
			fmt.Fprintf(&b, "    events: [open]\n    object: {path: {glob: %q}}\n    access: [write]\n    verdict: deny\n",
				fmt.Sprintf("%s/app-%04d/**/*.conf", dir, i))
		default:
			fmt.Fprintf(&b, "    events: [exec]\n    object: {path: %q}\n    subject: {exe: %q}\n    verdict: audit\n",
				fmt.Sprintf("%s/bin/tool-%04d", dir, i), fmt.Sprintf("/usr/bin/runner-%04d", i))
		}
	}
	return b.Bytes()
}
