// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func imageOf(rs *RuleSet) []byte {
	var b bytes.Buffer
	if err := rs.WriteImage(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// sameImage fails unless the image of rs is rs again.
func sameImage(t interface{ Fatalf(string, ...any) }, rs *RuleSet) []byte {
	image := imageOf(rs)
	again, err := FromImage(image)
	if err != nil {
		t.Fatalf("FromImage: %v\n%s", err, rs.Source())
	}
	if !reflect.DeepEqual(again, rs) {
		t.Fatalf("another rule set:\n%s", rs.Source())
	}
	return image
}

// TestImageIsTheRuleSet: of all golden files, and of drawn ones.
func TestImageIsTheRuleSet(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/*.txtar: got %d files, error %v", len(files), err)
	}
	read := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := Load("rules.yaml", parseArchive(data).get("rules.yaml"), Options{CgroupID: fakeCgroups})
		if err != nil {
			continue // one of those that are wrong
		}
		read++
		sameImage(t, rs)
	}
	if read < 10 {
		t.Errorf("%d golden files can be loaded, want 10 and more", read)
	}
	sameImage(t, Nothing())
	all, err := Load("f.yaml", []byte(everything()), Options{CgroupID: fakeCgroups})
	if err != nil {
		t.Fatal(err)
	}
	sameImage(t, all)
	rapid.Check(t, func(t *rapid.T) {
		rs, err := Load("f.yaml", []byte(genFile(t)), Options{CgroupID: fakeCgroups})
		if err != nil {
			t.Fatalf("the generator wrote a bad file: %v", err)
		}
		sameImage(t, rs)
		sameImage(t, filed(rs))
	})
}

// TestImageOfLargeRules: with long lists, sets that many rules name, expressions and rules that
// do not always count.
func TestImageOfLargeRules(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/srv]}\nsets:\n  files:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - /srv/files/%d\n", i)
	}
	b.WriteString("rules:\n")
	for i := range 2000 {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: {in: @files}}, subject: {uid: [%d]}, verdict: deny}\n", i, i)
		case 1:
			fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: ['/srv/%d/**/*.so', '/srv/%d/bin/*']}, verdict: deny}\n", i, i, i)
		case 2:
			fmt.Fprintf(&b, "- {id: r%d, events: [connect], when: 'args.port in [%s]', verdict: deny}\n", i, strings.Trim(strings.Repeat(fmt.Sprintf("%d,", i), 10), ","))
		case 3:
			fmt.Fprintf(&b, "- {id: r%d, events: [exec], object: {path: /srv/%d}, verdict: deny, lifespan: once}\n", i, i)
		}
	}
	src := strings.Replace(b.String(), "{in: @files}", "['@files']", -1)
	rs, err := Load("f.yaml", []byte(src), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !rs.Take(3) {
		t.Error("Take of a rule of the lifespan once: false, the first time")
	}
	image := sameImage(t, rs)
	if limit := 2 << 20; len(image) > limit {
		t.Errorf("the image has %d bytes, want at most %d: what rules share is there once", len(image), limit)
	}
	at, _ := rs.At(Moment{Now: time.Unix(1, 0)})
	sameImage(t, at)
	for n := 0; n < len(image); n += 1 + len(image)/100 {
		if _, err := FromImage(image[:n]); err == nil {
			t.Fatalf("%d of %d bytes are an image, too", n, len(image))
		}
	}
	if _, err := FromImage(append(image, 0)); err == nil {
		t.Error("a byte too many is an image, too")
	}
}

// TestFlatTypes: what is written as it is in memory is what another process understands.
func TestFlatTypes(t *testing.T) {
	type loop struct {
		Self *loop
		N    int
	}
	type around struct{ Of [2]loop }
	for _, tc := range []struct {
		of   reflect.Type
		flat bool
	}{
		{reflect.TypeFor[matcher](), true},
		{reflect.TypeFor[about](), true},
		{reflect.TypeFor[[2]slot](), true},
		{reflect.TypeFor[uintptr](), true},
		{reflect.TypeFor[struct{}](), true},
		{reflect.TypeFor[loop](), false},
		{reflect.TypeFor[around](), false},
		{reflect.TypeFor[[1]string](), false},
		{reflect.TypeFor[RuleSet](), false},
	} {
		if got := newLayout(tc.of, map[reflect.Type]*layout{}).flat; got != tc.flat {
			t.Errorf("%v: flat is %t, want %t", tc.of, got, tc.flat)
		}
	}
	// And each type of a rule set, by what reflect says of pointers in it.
	seen := map[*layout]bool{}
	var look func(*layout)
	look = func(l *layout) {
		if l == nil || seen[l] {
			return
		}
		seen[l] = true
		if l.flat && holdsPointer(l.Type) {
			t.Errorf("%v is flat, and has pointers", l.Type)
		}
		look(l.key)
		look(l.elem)
		for _, f := range l.fields {
			look(f.layout)
		}
	}
	look(ruleSetLayout())
	if len(seen) < 100 {
		t.Errorf("%d types in a rule set, want 100 and more", len(seen))
	}
}

// holdsPointer is another way to say it.
func holdsPointer(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return holdsPointer(t.Elem())
	case reflect.Struct:
		return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return holdsPointer(f.Type) })
	}
	return t.Kind() > reflect.Complex128
}

// FuzzImage: no bytes bring the reader down.
func FuzzImage(f *testing.F) {
	f.Add(imageOf(Nothing()))
	rs, err := Load("f.yaml", []byte(contractFile), Options{CgroupID: fakeCgroups})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(imageOf(rs))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := FromImage(b)
		if (rs == nil) == (err == nil) {
			t.Errorf("FromImage: %v and error %v, want one of them", rs, err)
		}
	})
}
