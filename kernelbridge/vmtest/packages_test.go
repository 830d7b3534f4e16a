// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kernelsIn reads testdata/Packages, which has stanzas of real suites: a signed image and its unsigned twin, a name for
// the current image, a kernel whose image, modules and base are packages of their own, one whose modules are missing.
func kernelsIn(t *testing.T) []Candidate {
	t.Helper()
	f, err := os.Open("testdata/Packages")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packages, err := ParsePackages(f, kernelPackage)
	if err != nil {
		t.Fatal(err)
	}
	return Candidates("test", packages)
}

func TestCandidates(t *testing.T) {
	type row struct{ Release, Version, Image, Modules string }
	var got []row
	for _, c := range kernelsIn(t) {
		got = append(got, row{c.Release, c.Version, c.Image.Name, c.Modules.Name})
		if len(c.Image.SHA256) != 64 || c.Image.Size == 0 {
			t.Errorf("%s: got SHA256 %q, size %d; want both", c.Release, c.Image.SHA256, c.Image.Size)
		}
	}
	want := []row{
		{"6.1.0-55-cloud-amd64", "6.1.192-1", "linux-image-6.1.0-55-cloud-amd64", "linux-image-6.1.0-55-cloud-amd64"},
		{"7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", "linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"},
		{"6.1.0-56-cloud-amd64", "6.1.192-2", "linux-image-6.1.0-56-cloud-amd64-unsigned", "linux-image-6.1.0-56-cloud-amd64-unsigned"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewest(t *testing.T) {
	f := func(series, want string) {
		t.Helper()
		got, err := Newest(kernelsIn(t), series)
		if err != nil || got.Version != want {
			t.Errorf("Newest(%q): got %q, %v; want %q", series, got.Version, err, want)
		}
	}
	f("6.1", "6.1.192-2")
	f("7.3", "7.3.4-1~bpo13+1")
	f("newest", "7.3.4-1~bpo13+1")

	_, err := Newest(kernelsIn(t), "6.12")
	var missing *NoSeriesError
	if !errors.As(err, &missing) {
		t.Fatalf("Newest(6.12): got %v, want a NoSeriesError", err)
	}
	if diff := cmp.Diff([]string{"6.1", "7.3"}, missing.Have); diff != "" {
		t.Errorf("Have (-want +got):\n%s", diff)
	}
}

func TestParsePackagesRefuses(t *testing.T) {
	all := func(string) bool { return true }
	f := func(name, text, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			_, err := ParsePackages(strings.NewReader(text), all)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v, want one with %q", err, want)
			}
		})
	}
	sum := strings.Repeat("0", 64)
	f("no checksum", "Package: a\nVersion: 1\nSize: 3\n", "no version or no SHA256")
	f("no version", "Package: a\nSHA256: "+sum+"\n\n", "no version or no SHA256")
	f("a short checksum", "Package: a\nVersion: 1\nSHA256: 00\n", "no version or no SHA256")
	f("a size that is no number", "Package: a\nVersion: 1\nSize: 3k\n", "line 3: size of a")
}

func FuzzParsePackages(f *testing.F) {
	f.Add("Package: linux-image-6.1.0-1-cloud-amd64\nVersion: 1\nSize: 1\nSHA256: " + strings.Repeat("a", 64) + "\n\n")
	f.Add(" x\n:\nPackage:\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		packages, err := ParsePackages(strings.NewReader(text), func(string) bool { return true })
		if err != nil {
			return
		}
		for _, p := range packages {
			if len(p.SHA256) != 64 {
				t.Errorf("got a package with SHA256 %q, want 64 characters", p.SHA256)
			}
		}
		Candidates("fuzz", packages)
	})
}
