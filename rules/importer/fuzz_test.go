// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// fuzz: no text brings an importer down, what it writes the daemon takes, and what it repeats is plain.
func fuzz(f *testing.F, format string, options func(*Options)) {
	files, err := filepath.Glob("testdata/" + format + "*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		sources, _ := split(a)
		for _, s := range sources {
			f.Add(s.Text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const most = 16 << 10 // bytes; longer texts find nothing more
		if len(text) > most {
			return
		}
		o := testOptions()
		options(&o)
		imported(t, format, []Source{{"f\x1b.x", text}}, o)
	})
}

func FuzzFapolicyd(f *testing.F) { fuzz(f, "fapolicyd", func(*Options) {}) }
func FuzzSanta(f *testing.F)     { fuzz(f, "santa", func(o *Options) { o.Lockdown = true }) }
func FuzzESF(f *testing.F)       { fuzz(f, "esf", func(*Options) {}) }
func FuzzTracee(f *testing.F)    { fuzz(f, "tracee", func(*Options) {}) }
func FuzzPaths(f *testing.F)     { fuzz(f, "paths", func(o *Options) { o.Setting = "ReadOnlyPaths" }) }
