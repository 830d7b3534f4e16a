// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testArchive is a Debian archive of one suite, played by a shell script in the place of apt-get.
type testArchive struct {
	dir  string
	deb  string // the one package
	pkg  Package
	said []string
}

func newTestArchive(t *testing.T, version string) *testArchive {
	t.Helper()
	for _, p := range []string{"dpkg-deb", "xz"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("the program " + p + " is not installed")
		}
	}
	a := &testArchive{dir: t.TempDir()}
	release := strings.TrimSuffix(version, "-1") + "-cloud-amd64"
	name := "linux-image-" + release
	tree := filepath.Join(a.dir, "tree")
	ko := filepath.Join(tree, "lib/modules", release, "kernel/fs/a-b.ko")
	write(t, filepath.Join(tree, "DEBIAN/control"),
		fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n", name, version))
	write(t, filepath.Join(tree, "boot/config-"+release), "CONFIG_X=y\n")
	write(t, filepath.Join(tree, "boot/vmlinuz-"+release), "image of "+version)
	write(t, ko, "module")
	if out, err := exec.CommandContext(t.Context(), "xz", ko).CombinedOutput(); err != nil {
		t.Fatalf("xz: %v: %s", err, out)
	}
	a.deb = filepath.Join(a.dir, name+"_"+version+"_amd64.deb")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-b", tree, a.deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	sum, err := sumFile(a.deb)
	if err != nil {
		t.Fatal(err)
	}
	a.pkg = Package{Name: name, Version: version, Size: 1, SHA256: sum}
	a.serve(t, a.pkg.SHA256)
	return a
}

// serve plays apt-get with an index that gives this checksum for the package. Only the suite sid is served.
func (a *testArchive) serve(t *testing.T, sum string) {
	t.Helper()
	index := filepath.Join(a.dir, "Packages")
	write(t, index, fmt.Sprintf("Package: %s\nVersion: %s\nSize: 1\nSHA256: %s\n", a.pkg.Name, a.pkg.Version, sum))
	fakeProgram(t, "apt-get", `
echo "$*" >> `+a.dir+`/calls
case "$*" in
*/sources/*.list*)
	case "$*" in */sources/sid.list*) ;; *) echo "E: not served" >&2; exit 100;; esac;;
esac
case "$*" in
*update*) ;;
*RELEASE*) echo 'sid file:/archive/'; echo 'nodistro file:/other/';;
*indextargets*) echo `+index+`;;
*download*) cp `+a.deb+` .;;
esac
`)
}

func (a *testArchive) store(t *testing.T, dir string) *Store {
	return &Store{Dir: dir, Logf: func(format string, args ...any) {
		a.said = append(a.said, fmt.Sprintf(format, args...))
		t.Logf(format, args...)
	}}
}

func (a *testArchive) wantSaid(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(a.said, "\n"); !strings.Contains(got, want) {
		t.Errorf("told to the user: got %q, want %q in it", got, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantImage(t *testing.T, k *Kernel, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(k.Image()); err != nil || string(got) != want {
		t.Errorf("image: got %q, %v; want %q", got, err, want)
	}
}

func TestStoreFetchesOnceAndKeeps(t *testing.T) {
	a := newTestArchive(t, "6.1.5-1")
	dir := t.TempDir()
	k, err := a.store(t, dir).Resolve(t.Context(), "6.1")
	wantImage(t, k, err, "image of 6.1.5-1")
	a.wantSaid(t, "left out: suite bookworm: apt-get: exit status 100: E: not served")
	if got, want := k.Series(), "6.1"; got != want {
		t.Errorf("series: got %q, want %q", got, want)
	}
	calls, err := os.ReadFile(filepath.Join(a.dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}

	k, err = a.store(t, dir).Resolve(t.Context(), SeriesNewest)
	wantImage(t, k, err, "image of 6.1.5-1")
	again, err := os.ReadFile(filepath.Join(a.dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(calls) {
		t.Errorf("apt-get for a kernel that is there: got calls\n%s\nwant none", again[len(calls):])
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: got %q, %v; want nothing", left, err)
	}
}

func TestStoreRefusesAWrongChecksum(t *testing.T) {
	a := newTestArchive(t, "6.1.5-1")
	a.serve(t, strings.Repeat("0", 64))
	dir := t.TempDir()
	_, err := a.store(t, dir).Resolve(t.Context(), "6.1")
	var wrong *ChecksumError
	if !errors.As(err, &wrong) || wrong.Got != a.pkg.SHA256 {
		t.Fatalf("got %v, want a ChecksumError with the package's own sum", err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "6.1*")); len(found) != 0 {
		t.Errorf("kept: got %q, want nothing", found)
	}
}

func TestStoreFetchesADamagedKernelAgain(t *testing.T) {
	a := newTestArchive(t, "6.1.5-1")
	dir := t.TempDir()
	k, err := a.store(t, dir).Resolve(t.Context(), "6.1")
	wantImage(t, k, err, "image of 6.1.5-1")
	write(t, k.Image(), "something else")

	offline := a.store(t, dir)
	offline.Offline = true
	_, err = offline.Resolve(t.Context(), "6.1")
	var wrong *ChecksumError
	if !errors.As(err, &wrong) {
		t.Errorf("offline: got %v, want a ChecksumError", err)
	}
	k, err = a.store(t, dir).Resolve(t.Context(), "6.1")
	wantImage(t, k, err, "image of 6.1.5-1")
	a.wantSaid(t, "damaged")
}

func TestStoreWithoutTheArchiveUsesTheCache(t *testing.T) {
	a := newTestArchive(t, "6.1.5-1")
	dir := t.TempDir()
	k, err := a.store(t, dir).Resolve(t.Context(), "6.1")
	wantImage(t, k, err, "image of 6.1.5-1")

	f := func(name string, change func(x *index), wantSaid string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			fakeProgram(t, "apt-get", "case \"$*\" in *RELEASE*) echo sid file:/archive/;; *) echo 'E: no route' >&2; exit 100;; esac\n")
			a.said = nil
			path := filepath.Join(dir, "index.json")
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { write(t, path, string(old)) })
			var x index
			if err := json.Unmarshal(old, &x); err != nil {
				t.Fatal(err)
			}
			change(&x)
			b, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, string(b))
			s := a.store(t, dir)
			for range 2 {
				k, err := s.Resolve(t.Context(), "6.1")
				wantImage(t, k, err, "image of 6.1.5-1")
			}
			a.wantSaid(t, wantSaid)
			if n := strings.Count(strings.Join(a.said, "\n"), "asking the Debian archive"); n > 1 {
				t.Errorf("asked the archive %d times, want at most once", n)
			}
		})
	}
	f("the index is old", func(x *index) { x.Checked = time.Now().Add(-2 * indexAge) },
		"the Debian archive could not be asked for kernels")
	f("a newer kernel cannot be fetched", func(x *index) {
		c := x.Kernels[0]
		c.Version, c.Release = "6.1.6-1", "6.1.6-cloud-amd64"
		x.Kernels = append(x.Kernels, c)
	}, "using 6.1.5-cloud-amd64 from the cache: downloading")
	f("the series has left the suites", func(x *index) { x.Kernels[0].Version = "7.0-1" },
		"using 6.1.5-cloud-amd64 from the cache: no suite has a kernel of series 6.1")
}

func TestStoreWithNothingSaysWhatToDo(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Offline: true, Logf: t.Logf}
	_, err := s.Resolve(t.Context(), "6.1")
	if err == nil || !strings.Contains(err.Error(), "vmrun fetch 6.1") {
		t.Errorf("got %v, want an error that says to run vmrun fetch 6.1", err)
	}
}

func TestStoreUnpacksAModule(t *testing.T) {
	a := newTestArchive(t, "6.1.5-1")
	s := a.store(t, t.TempDir())
	k, err := s.Resolve(t.Context(), "6.1")
	if err != nil {
		t.Fatal(err)
	}
	file, err := k.module(t.Context(), "a_b") // a-b.ko.xz in the package
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "module" {
		t.Errorf("module: got %q, %v; want it unpacked", got, err)
	}
	files, err := s.Modules(t.Context(), k, []string{"none"})
	if err != nil || len(files) != 0 {
		t.Errorf("a module that is not there: got %q, %v; want it left out", files, err)
	}
	a.wantSaid(t, "has no module none: taken for built in")
}

// The real apt-get refuses a suite that nobody signed, whatever the machine's own configuration says.
func TestAptRefusesAnUnsignedSuite(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("the program apt-get is not installed")
	}
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	write(t, filepath.Join(repo, "dists/sid/Release"), "Origin: Debian\nSuite: sid\nCodename: sid\nComponents: main\nArchitectures: amd64\n")
	write(t, filepath.Join(repo, "dists/sid/main/binary-amd64/Packages"), "")
	write(t, filepath.Join(dir, "machine.list"), "deb file:"+repo+" sid main\n")
	write(t, filepath.Join(dir, "machine.conf"),
		`Dir::Etc::main "/dev/null"; Acquire::AllowInsecureRepositories "true"; APT::Get::AllowUnauthenticated "true";`+
			"\nDir::Etc::sourcelist \""+dir+"/machine.list\";\nDir::Etc::sourceparts \""+dir+"/none\";\n")
	t.Setenv("APT_CONFIG", filepath.Join(dir, "machine.conf"))

	s := &Store{Dir: filepath.Join(dir, "cache"), Logf: t.Logf}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &apt{dir: filepath.Join(s.Dir, "apt")}
	sources, err := a.sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.setUp(); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources {
		if src.suite != "sid" {
			continue
		}
		if !strings.Contains(src.line, "file:"+repo) {
			t.Fatalf("source: got %q, want the test's repository", src.line)
		}
		if _, err := a.update(t.Context(), src); err == nil || !strings.Contains(err.Error(), "not signed") {
			t.Errorf("got %v, want an error that says it is not signed", err)
		}
		return
	}
	t.Errorf("sources: got %v, want sid among them", sources)
}

func TestDefaultDir(t *testing.T) {
	home, clone := t.TempDir(), t.TempDir()
	write(t, filepath.Join(clone, "go.mod"), "")
	f := func(name, arbiter, xdg, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", home)
			t.Setenv("ARBITER_CACHE", arbiter)
			t.Setenv("XDG_CACHE_HOME", xdg)
			if got := DefaultDir(filepath.Join(clone, "a/b")); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	f("no cache folder", "", "", clone+"/.cache/kernels")
	f("a relative XDG_CACHE_HOME does not count", "", "x", clone+"/.cache/kernels")
	f("XDG_CACHE_HOME", "", "/x", "/x/arbiter/kernels")
	f("ARBITER_CACHE comes first", "/a", "/x", "/a/kernels")
	write(t, filepath.Join(home, ".cache/x"), "")
	f("the user's cache folder", "", "", home+"/.cache/arbiter/kernels")
}
