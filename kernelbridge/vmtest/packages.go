// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Package is one stanza of a Debian package index, as far as it is needed here.
type Package struct {
	Name    string
	Version string
	Depends string `json:",omitempty"`
	Size    int64  // bytes of the .deb
	SHA256  string // of the .deb, lower-case hex
}

// ParsePackages reads a Packages file and returns the stanzas whose name keep wants, in the order of the file. A kept
// stanza without a usable checksum is an error, because without one nothing of it could be trusted.
func ParsePackages(r io.Reader, keep func(name string) bool) ([]Package, error) {
	var (
		all  []Package
		p    Package
		want bool
		line int
	)
	end := func() error {
		defer func() { p, want = Package{}, false }()
		if !want {
			return nil
		}
		if len(p.SHA256) != 64 || p.Version == "" {
			return fmt.Errorf("reading the package index: line %d: %s has no version or no SHA256", line, p.Name)
		}
		all = append(all, p)
		return nil
	}
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), 4<<20) // a Depends or Provides line can be long
	for s.Scan() {
		line++
		text := s.Text()
		if text == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		key, value, ok := strings.Cut(text, ":")
		if !ok || text[0] == ' ' || text[0] == '\t' {
			continue // a continuation: none of the fields used here has one
		}
		value = strings.TrimSpace(value)
		if key == "Package" {
			p.Name, want = value, keep(value)
			continue
		}
		if !want {
			continue
		}
		switch key {
		case "Version":
			p.Version = value
		case "Depends":
			p.Depends = value
		case "SHA256":
			p.SHA256 = strings.ToLower(value)
		case "Size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("reading the package index: line %d: size of %s: %w", line, p.Name, err)
			}
			p.Size = n
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("reading the package index: line %d: %w", line, err)
	}
	return all, end()
}

// Candidate is one kernel that a suite offers.
type Candidate struct {
	Release string  // what uname -r will say, such as 6.12.118+deb13-cloud-amd64
	Version string  // of the package
	Suite   string  // where it was found
	Image   Package // holds vmlinuz
	Modules Package // holds the modules; the same as Image in older kernels
}

// Series is the first two numbers of the kernel's version.
func (c Candidate) Series() string { return seriesOf(c.Version) }

var (
	imageName = regexp.MustCompile(`^linux-image-([0-9]+\.[0-9].*-cloud-amd64)(-unsigned)?$`)
	partName  = regexp.MustCompile(`^linux-(image|binary|modules)-[0-9]+\.[0-9].*-cloud-amd64(-unsigned)?$`)
)

// kernelPackage tells which packages a Candidate can be made of.
func kernelPackage(name string) bool { return partName.MatchString(name) }

// Candidates finds the kernels among a suite's packages. Up to 7.0 or so the image package holds everything; later ones
// are empty and depend on linux-binary-X and linux-modules-X of the same version. Packages that only depend on another
// image are names for "the current one" and are left out. A signed image is preferred to its -unsigned twin.
func Candidates(suite string, packages []Package) []Candidate {
	type key struct{ name, version string }
	byName := map[key]Package{}
	for _, p := range packages {
		byName[key{p.Name, p.Version}] = p
	}
	var found []Candidate
	taken := map[key]bool{}
	signedFirst := slices.SortedStableFunc(slices.Values(packages), func(a, b Package) int {
		return len(imageName.FindString(a.Name)) - len(imageName.FindString(b.Name))
	})
	for _, p := range signedFirst {
		m := imageName.FindStringSubmatch(p.Name)
		if m == nil || strings.Contains(p.Depends, "linux-image-") {
			continue
		}
		release := m[1]
		if taken[key{release, p.Version}] {
			continue
		}
		c := Candidate{Release: release, Version: p.Version, Suite: suite, Image: p, Modules: p}
		if strings.Contains(p.Depends, "linux-binary-"+release) {
			var okBinary, okModules bool
			c.Image, okBinary = byName[key{"linux-binary-" + release, p.Version}]
			c.Modules, okModules = byName[key{"linux-modules-" + release, p.Version}]
			if !okBinary || !okModules {
				continue // the suite is in the middle of an update
			}
		}
		taken[key{release, p.Version}] = true
		found = append(found, c)
	}
	return found
}

// SeriesNewest is the series name that stands for the highest version of all.
const SeriesNewest = "newest"

// Newest picks the highest version of a series, or of all for SeriesNewest. It returns a NoSeriesError when there is none.
func Newest(candidates []Candidate, series string) (Candidate, error) {
	var best Candidate
	for _, c := range candidates {
		if series != SeriesNewest && !inSeries(c.Version, series) {
			continue
		}
		if best.Version == "" || CompareVersions(c.Version, best.Version) > 0 {
			best = c
		}
	}
	if best.Version == "" {
		e := NoSeriesError{Series: series}
		for _, c := range candidates {
			if !slices.Contains(e.Have, c.Series()) {
				e.Have = append(e.Have, c.Series())
			}
		}
		slices.SortFunc(e.Have, CompareVersions)
		return Candidate{}, &e
	}
	return best, nil
}

// NoSeriesError says that no suite has a kernel of the series now, and which it could be instead.
type NoSeriesError struct {
	Series string
	Have   []string // in order of version
}

// Error implements error.
func (e *NoSeriesError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("no kernel of series %s is known; run 'vmrun fetch %s' where the Debian archive can be reached", e.Series, e.Series)
	}
	return fmt.Sprintf("no suite has a kernel of series %s; take one of %s, or newest", e.Series, strings.Join(e.Have, ", "))
}
