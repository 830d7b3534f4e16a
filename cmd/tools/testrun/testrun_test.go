// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream is what go test -json prints for one package with a passing test, a
// skipped one and a failing one.
const stream = `{"Action":"start","Package":"m/p"}
{"Action":"run","Package":"m/p","Test":"TestGood"}
{"Action":"output","Package":"m/p","Test":"TestGood","Output":"noise of the good\n"}
{"Action":"attr","Package":"m/p","Test":"TestGood","Key":"seen","Value":"the moon rose"}
{"Action":"pass","Package":"m/p","Test":"TestGood/part","Elapsed":61}
{"Action":"pass","Package":"m/p","Test":"TestGood","Elapsed":62.04}
{"Action":"output","Package":"m/p","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}
{"Action":"output","Package":"m/p","Test":"TestSkip","Output":"    p_test.go:9: needs the moon\n"}
{"Action":"output","Package":"m/p","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"m/p","Test":"TestSkip"}
{"Action":"output","Package":"m/p","Test":"TestBad","Output":"    p_test.go:12: got 1, want 2\n"}
{"Action":"fail","Package":"m/p","Test":"TestBad"}
{"Action":"output","Package":"m/p","Output":"FAIL\n"}
{"Action":"output","Package":"m/p","Output":"FAIL\tm/p\t0.1s\n"}
{"Action":"fail","Package":"m/p"}
`

func collect(t *testing.T, text, allow string, strict bool) ([]outcome, string) {
	t.Helper()
	var w bytes.Buffer
	c := newCollector(&w, false)
	if err := c.read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	var allowed []allowance
	if allow != "" {
		name := filepath.Join(t.TempDir(), "skips")
		if err := os.WriteFile(name, []byte(allow), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if allowed, err = readAllowed(name); err != nil {
			t.Fatal(err)
		}
	}
	out := c.finish("unit", allowed, strict)
	report(&w, "unit", out)
	return out, w.String()
}

func TestReport(t *testing.T) {
	_, text := collect(t, stream, "", false)
	for _, want := range []string{"SEEN    the moon rose\n", "got 1, want 2", "FAIL\tm/p\t0.1s\n", "SKIPPED needs the moon\n        m/p.TestSkip\n", "SLOW    62.0 s m/p.TestGood\n", "unit: 2 passed, 1 failed, 1 skipped\n", "FAILED m/p.TestBad"} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q, got:\n%s", want, text)
		}
	}
	if strings.Contains(text, "s m/p.TestGood/part") || strings.Contains(text, "s m/p.TestBad") {
		t.Errorf("a part of a test, or a quick one, is among the slow:\n%s", text)
	}
	if strings.Contains(text, "noise of the good") {
		t.Errorf("output of a passed test is shown:\n%s", text)
	}
}

// A guest that died is booted again: each test counts once, and one that failed has failed.
func TestRunAgain(t *testing.T) {
	const again = `{"Action":"pass","Package":"m/p","Test":"TestGood"}
{"Action":"fail","Package":"m/p","Test":"TestBad"}
{"Action":"pass","Package":"m/p","Test":"TestGood"}
{"Action":"pass","Package":"m/p","Test":"TestBad"}
{"Action":"pass","Package":"m/p","Test":"TestLast"}
`
	if out, text := collect(t, again, "", true); count(out) != (totals{2, 1, 0}) {
		t.Errorf("got %+v, want two passed and one failed\n%s", count(out), text)
	}
}

func TestStrictSkips(t *testing.T) {
	f := func(name, allow string, strict bool, want totals) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			out, text := collect(t, stream, allow, strict)
			if got := count(out); got != want {
				t.Errorf("got %+v, want %+v\n%s", got, want, text)
			}
		})
	}
	f("not strict", "", false, totals{2, 1, 1})
	f("strict, nothing allowed", "", true, totals{2, 2, 0})
	f("strict, allowed", `unit | m/p\.TestSkip | the moon | - | nobody has it`, true, totals{2, 1, 1})
	f("strict, allowed in another phase", `race | m/p\.TestSkip | the moon | - | nobody has it`, true, totals{2, 2, 0})
	f("strict, other reason", `unit | m/p\.TestSkip | the sun | - | nobody has it`, true, totals{2, 2, 0})
}

func TestPackageFailures(t *testing.T) {
	const broken = `{"ImportPath":"m/p","Action":"build-output","Output":"p.go:1:1: syntax error\n"}
{"ImportPath":"m/p","Action":"build-fail"}
{"Action":"output","Package":"m/p","Output":"FAIL\tm/p [build failed]\n"}
{"Action":"fail","Package":"m/p","FailedBuild":"m/p"}
`
	const crashed = `{"Action":"run","Package":"m/p","Test":"TestHang"}
{"Action":"output","Package":"m/p","Test":"TestHang","Output":"panic: test timed out\n"}
{"Action":"output","Package":"m/p","Output":"FAIL\tm/p\t9s\n"}
{"Action":"fail","Package":"m/p"}
`
	f := func(name, text, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			out, got := collect(t, text, "", false)
			if c := count(out); c.failed != 1 {
				t.Errorf("got %d failures, want 1", c.failed)
			}
			if !strings.Contains(got, want) {
				t.Errorf("report lacks %q, got:\n%s", want, got)
			}
		})
	}
	f("build", broken, "syntax error")
	f("time-out", crashed, "panic: test timed out")
}

func TestSettle(t *testing.T) {
	owed := outcome{Phase: "unit", Package: "m/p", Test: "TestX", Action: "skip", Owed: "vm"}
	f := func(name string, other outcome, unpaid int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			if got := settle([]outcome{owed, other}); len(got) != unpaid {
				t.Errorf("got %d unpaid skips, want %d: %v", len(got), unpaid, got)
			}
		})
	}
	f("passed there", outcome{Phase: "vm-6.1", Package: "m/p", Test: "TestX", Action: "pass"}, 0)
	f("skipped there too", outcome{Phase: "vm-6.1", Package: "m/p", Test: "TestX", Action: "skip"}, 1)
	f("another test passed", outcome{Phase: "vm-6.1", Package: "m/p", Test: "TestY", Action: "pass"}, 1)
	f("passed elsewhere", outcome{Phase: "race", Package: "m/p", Test: "TestX", Action: "pass"}, 1)
}

func TestBadAllowance(t *testing.T) {
	for _, line := range []string{"unit | x | y | -", "unit | ( | y | - | why", "unit |  | y | - | why"} {
		if a, err := parseAllowance(line); err == nil {
			t.Errorf("parseAllowance(%q) = %+v, want an error", line, a)
		}
	}
}
