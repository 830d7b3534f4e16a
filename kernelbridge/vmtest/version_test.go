// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os/exec"
	"testing"
)

// versionCases are in the words of dpkg --compare-versions.
var versionCases = []struct{ a, relation, b string }{
	{"6.1.192-2", "eq", "6.1.192-2"},
	{"6.1.192-1", "lt", "6.1.192-2"},
	{"6.1.9-1", "lt", "6.1.10-1"},
	{"6.12.1-1", "gt", "6.1.192-2"},
	{"7.3~rc7-1~exp1", "lt", "7.3-1"},
	{"7.3~rc7-1", "lt", "7.3.4-1~bpo13+1"},
	{"7.3.4-1~bpo13+1", "lt", "7.3.4-1"},
	{"6.12.90-2~bpo12+1", "gt", "6.12.90-1~bpo12+1"},
	{"6.12.115-2~deb12u1", "lt", "6.12.115-2"},
	{"1:1.0-1", "gt", "9.0-1"},
	{"0:1.0-1", "eq", "1.0-1"},
	{"1.0", "eq", "1.0-0"},
	{"1.0-1", "gt", "1.0"},
	{"1.0+b1", "gt", "1.0"},
	{"1.0a", "lt", "1.0+"},
	{"1.0a", "gt", "1.0"},
	{"1.0~~", "lt", "1.0~~a"},
	{"1.0~~a", "lt", "1.0~"},
	{"1.0~", "lt", "1.0"},
	{"1.001", "eq", "1.1"},
	{"1.0-1-2", "gt", "1.0-1-1"},
	{"6.12.115+deb13.1", "gt", "6.12.115+deb13"},
	{"99999999999999999999.1", "lt", "100000000000000000000.0"},
}

func TestCompareVersions(t *testing.T) {
	want := map[string]int{"lt": -1, "eq": 0, "gt": 1}
	for _, c := range versionCases {
		if got := CompareVersions(c.a, c.b); got != want[c.relation] {
			t.Errorf("CompareVersions(%q, %q): got %d, want %d", c.a, c.b, got, want[c.relation])
		}
		if got := CompareVersions(c.b, c.a); got != -want[c.relation] {
			t.Errorf("CompareVersions(%q, %q): got %d, want %d", c.b, c.a, got, -want[c.relation])
		}
	}
}

// The table above is held against the program whose order it claims to be.
func TestVersionCasesAreThoseOfDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("the program dpkg is not installed")
	}
	for _, c := range versionCases {
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", c.a, c.relation, c.b).Run(); err != nil {
			t.Errorf("dpkg --compare-versions %s %s %s: %v", c.a, c.relation, c.b, err)
		}
	}
}

func TestSeries(t *testing.T) {
	f := func(version, series string, want bool) {
		t.Helper()
		if got := inSeries(version, series); got != want {
			t.Errorf("inSeries(%q, %q): got %t, want %t", version, series, got, want)
		}
	}
	f("6.1.192-2", "6.1", true)
	f("6.12.118-1", "6.1", false)
	f("6.12.118-1", "6.12", true)
	f("6.12.118-1", "6.12.118", true)
	f("6.12.118-1", "6.12.11", false)
	f("7.3~rc7-1~exp1", "7.3", true)
	f("6.1.0-56-cloud-amd64", "6.1", true)
	f("6.12.118+deb13-cloud-amd64", "6.12", true)

	for version, want := range map[string]string{
		"6.12.118-1~deb12u1": "6.12", "7.3~rc7-1~exp1": "7.3", "1:7.10-1": "7.10", "8-1": "8",
	} {
		if got := seriesOf(version); got != want {
			t.Errorf("seriesOf(%q): got %q, want %q", version, got, want)
		}
	}
}
