// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules"
)

// digestRules allow programs, and opens of the file plain, by their content.
func digestRules(t *testing.T, dir string) string {
	t.Helper()
	sum := func(name string) string {
		content, err := os.ReadFile(dir + "/tree/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return fmt.Sprintf(`version: 1
default: allow
on_fail: deny
deadline: 10s
scope: {paths: [%[1]q]}
rules:
  - id: known-programs
    events: [exec]
    object: {sha256: [%[2]s, %[3]s]}
    verdict: allow
  - id: no-others
    events: [exec]
    verdict: deny
  - id: known-plain
    events: [open]
    object: {path: %[4]q, sha256: %[3]s}
    verdict: allow
  - id: no-other-plain
    events: [open]
    object: {path: %[4]q}
    verdict: {deny: EPERM}
`, dir+"/tree", sum("good"), sum("plain"), dir+"/tree/plain")
}

// change appends to a file of the tree, or with nothing cuts the last byte off.
func (d *runs) change(name, more string) {
	d.t.Helper()
	path := d.tree + "/" + name
	if more == "" {
		st, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, st.Size()-1)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(more); err != nil {
		d.t.Fatal(err)
	}
}

// Programs are allowed by what is in them: a changed copy is refused, the original runs, and
// one that is changed while the rules are in force is refused from then on.
func TestDigestsEndToEnd(t *testing.T) {
	dir := newTree(t)
	if inGuest() {
		t.Skip("an emulated CPU does not hash a program of this size within the wait of a task that polls")
	}
	d := startDaemon(t, dir)
	d.push(digestRules(t, dir))
	events := d.watch()
	d.soon(0, "good")
	d.soon(0, "bad") // the same content under another name
	d.change("bad", "x")
	d.soon(unix.EPERM, "bad")
	d.await(events, "exec deny no-others "+d.tree+"/bad")
	d.soon(0, "good")
	d.change("good", "x")
	d.soon(unix.EPERM, "good")
	d.change("good", "")
	d.soon(0, "good")
	c := d.status().KernelCounters
	if c["digest.hashed"]+c["digest.hits"] < 5 {
		t.Errorf("counters %v, want every exec among what was hashed or remembered", c)
	}
	d.stop()
}

// The same for what is opened.
func TestDigestsOfOpens(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	text := digestRules(t, dir)
	d.push(text[:strings.Index(text, "  - id: known-programs")] + text[strings.Index(text, "  - id: known-plain"):])
	events := d.watch()
	d.soon(0, "good", d.tree+"/plain")
	d.change("plain", "y")
	d.soon(unix.EPERM, "good", d.tree+"/plain")
	d.await(events, "open deny no-other-plain "+d.tree+"/plain")
	d.change("plain", "")
	d.soon(0, "good", d.tree+"/plain")
	d.stop()
}

// What cannot be hashed gets the failure verdict, for a reason of its own.
func TestDigestOfLargeFile(t *testing.T) {
	dir := newTree(t)
	config := dir + "/config.yaml"
	if err := os.WriteFile(config, []byte("digest_max_size: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "--config", config)
	text := digestRules(t, dir)
	d.push(text[:strings.Index(text, "  - id: known-programs")] + text[strings.Index(text, "  - id: known-plain"):])
	d.soon(0, "good", d.tree+"/plain")
	d.change("plain", "y")
	d.soon(unix.EPERM, "good", d.tree+"/plain")
	if s := d.status(); s.Counters.Failed["no_digest"] == 0 || s.KernelCounters["digest.unknown.too_big"] == 0 {
		t.Errorf("failed %v, %v; want no_digest, and too_big", s.Counters.Failed, s.KernelCounters)
	}
	d.stop()
}

func TestContentWarnings(t *testing.T) {
	const byFormat = "rules: [{id: a, events: [exec], object: {format: elf}, verdict: deny}]\n"
	const byDigest = "rules: [{id: a, events: [exec], object: {sha256: " + "0000000000000000000000000000000000000000000000000000000000000000" + "}, verdict: deny}]\n"
	for _, tc := range []struct {
		name  string
		text  string
		bound time.Duration
		want  []string
	}{
		{"no digest", "default: deny\n", time.Millisecond, nil},
		{"open", "default: deny\n" + byDigest, time.Minute, []string{"set on_fail: deny"}},
		{"closed", "default: deny\non_fail: deny\n" + byDigest, time.Minute, nil},
		{"closed and short", "default: deny\non_fail: deny\n" + byDigest, 5 * time.Millisecond, []string{"hash some 4 MiB"}},
		{"a format", "default: deny\n" + byFormat, time.Millisecond, []string{"object.format: a file whose first bytes cannot be read"}},
		{"a format, closed", "default: deny\non_fail: deny\n" + byFormat, time.Millisecond, nil},
		{"open and short", "default: deny\n" + byDigest, 100 * time.Millisecond, []string{"set on_fail: deny", "hash some 97 MiB"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rs, err := rules.Load("f.yaml", []byte("version: 1\nscope: {paths: [/]}\n"+tc.text), rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := contentWarnings(rs, true, tc.bound)
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("warning %q lacks %q", got[i], want)
				}
			}
		})
	}
}
