// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/content"
	"github.com/arbiterd/arbiter/kernelbridge/content/clamdtest"
)

// real starts clamd, with lines for its clamd.conf.
func real(t *testing.T, dir string, conf ...string) *clamdtest.Real {
	t.Helper()
	r, err := clamdtest.Start(dir, conf...)
	if errors.Is(err, clamdtest.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// What the fake says, and what the client takes for granted, is what clamd does.
func TestRealClamd(t *testing.T) {
	dir := t.TempDir()
	r := real(t, dir, "MaxFileSize 1M", "AlertExceedsMax yes")
	c := New(Options{Socket: r.Socket, Timeout: 20 * time.Second})
	found := func(step string, fd int, want string) {
		t.Helper()
		if got, err := c.Scan(t.Context(), fd); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", step, got, err, want)
		}
	}
	clean, infected := holding(t, "text"), holding(t, "x"+clamdtest.Marker+"y")
	found("clean", clean, "")
	found("empty", holding(t, ""), "")
	found("infected", infected, clamdtest.Found)
	if _, err := unix.Seek(infected, 0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	found("infected, at its end", infected, clamdtest.Found)
	if edition, err := c.Edition(t.Context()); err != nil || !strings.HasPrefix(edition, "ClamAV ") {
		t.Errorf("edition %q, %v", edition, err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if got, err := c.Scan(t.Context(), int(folder.Fd())); !errors.Is(err, errUnscanned) || got != "" {
		t.Errorf("a directory: got %q, %v", got, err)
	}
	if got, err := c.Scan(t.Context(), holding(t, strings.Repeat("x", 2<<20))); !errors.Is(err, errUnscanned) || !strings.Contains(err.Error(), exceeded) || got != "" {
		t.Errorf("beyond a limit: got %q, %v", got, err)
	}
	r.Close()
	if got, err := c.Scan(t.Context(), infected); !errors.Is(err, content.ErrUnavailable) || got != "" {
		t.Errorf("gone: got %q, %v", got, err)
	}
	real(t, dir, "MaxFileSize 1M")
	for end := time.Now().Add(20 * time.Second); c.Problem() != "" && time.Now().Before(end); {
		c.Scan(t.Context(), clean)
		<-time.After(time.Millisecond)
	}
	found("back again", infected, clamdtest.Found)
	// Why there is scanner.max_size, and why a file is read before it is scanned.
	found("beyond a limit, without AlertExceedsMax", holding(t, clamdtest.Marker+strings.Repeat("x", 2<<20)), "")
	unreadable, err := os.OpenFile(filepath.Join(dir, "infected"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unreadable.Close()
	if _, err := unreadable.WriteString(clamdtest.Marker); err != nil {
		t.Fatal(err)
	}
	found("a descriptor that nothing can be read by", int(unreadable.Fd()), "")
}

// Why scanner.timeout has to be below MaxScanTime, scanner.max_size not above MaxScanSize, and why
// AlertExceedsMax is to be set: clamd says OK of what it has not read to its end.
func TestRealLimits(t *testing.T) {
	fd := holding(t, strings.Repeat("x", 20<<20)+clamdtest.Marker)
	for _, limit := range []string{"MaxScanTime 1", "MaxScanSize 1M"} {
		scan := func(conf ...string) (string, error) {
			r := real(t, t.TempDir(), conf...)
			defer r.Close()
			return New(Options{Socket: r.Socket, Timeout: 20 * time.Second}).Scan(t.Context(), fd)
		}
		if got, err := scan(limit); err != nil || got != "" {
			t.Errorf("%s: got %q, %v; it no longer calls clean what it has not read", limit, got, err)
		}
		if got, err := scan(limit, "AlertExceedsMax yes"); !errors.Is(err, errUnscanned) || !strings.Contains(err.Error(), exceeded+"."+strings.Fields(limit)[0]) || got != "" {
			t.Errorf("%s, with AlertExceedsMax: got %q, %v", limit, got, err)
		}
	}
}
