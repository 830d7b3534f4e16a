// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The suites that kernels are looked for in, in the repository that the machine's own Debian suite comes from, and in
// its security sibling. A suite that is not served (any more) is left out. No suite with release candidates is here.
var (
	mainSuites = []string{
		"bookworm", "bookworm-updates", "bookworm-backports",
		"trixie", "trixie-updates", "trixie-backports",
		"sid",
	}
	securitySuites = []string{"bookworm-security", "trixie-security"}
)

// debianKeyrings are the names that the package debian-archive-keyring has for its keyring.
var debianKeyrings = []string{
	"/usr/share/keyrings/debian-archive-keyring.pgp",
	"/usr/share/keyrings/debian-archive-keyring.gpg",
}

// aptTimeout bounds one run of apt-get, which fetches one index or one kernel.
const aptTimeout = 3 * time.Minute

// apt asks the machine's apt for kernels: its mirrors, proxies, credentials and keyrings, but lists of our own, so that
// nothing of the machine's state is changed and no root is needed. apt verifies the signature of each suite and refuses
// a suite without one; it verifies each index by the suite, and each package by the index.
type apt struct {
	dir string // of our own; lists, sources and configuration are below
}

// aptConfig is read after the machine's own configuration, so it has the last word.
const aptConfig = `// Written by vmrun.
Dir::Etc::sourceparts "%[1]s/none";
Dir::Etc::preferences "%[1]s/none/file";
Dir::Etc::preferencesparts "%[1]s/none";
Dir::State "%[1]s/state";
Dir::State::Lists "%[1]s/state/lists";
Dir::State::status "%[1]s/state/status";
Dir::Cache "%[1]s/cache";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
APT::Get::List-Cleanup "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
`

// source is one suite and the line of sources.list that names it.
type source struct{ suite, line string }

// sources finds the Debian repositories in the machine's apt configuration and makes a line for each candidate suite.
func (a *apt) sources(ctx context.Context) ([]source, error) {
	// Without ReleaseInfo=false apt tells nothing of a suite before the first `apt-get update` of the machine.
	out, err := runIn(ctx, "", "apt-get", "-o", "APT::Get::IndexTargets::ReleaseInfo=false",
		"indextargets", "--format", "$(RELEASE) $(REPO_URI)")
	if err != nil {
		return nil, fmt.Errorf("asking apt for its repositories: %w", err)
	}
	// With Debian's keyring only Debian's keys count; without it, those that the machine trusts.
	options := "arch=amd64"
	for _, keyring := range debianKeyrings {
		if _, err := os.Stat(keyring); err == nil {
			options += " signed-by=" + keyring
			break
		}
	}
	var found []source
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) != 2 {
			continue
		}
		suites := mainSuites
		switch release := strings.TrimSuffix(f[0], "/"); {
		case strings.HasSuffix(release, "-security"):
			suites = securitySuites
		case !slices.Contains(mainSuites, release) && !slices.Contains([]string{"stable", "testing", "unstable", "forky"}, release):
			continue
		}
		for _, suite := range suites {
			s := source{suite: suite, line: fmt.Sprintf("deb [%s] %s %s main\n", options, f[1], suite)}
			if !slices.ContainsFunc(found, func(o source) bool { return o.suite == suite }) {
				found = append(found, s)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no Debian repository in the machine's apt configuration; give a kernel with -image, or use a cache that has one")
	}
	return found, nil
}

// setUp writes the private configuration.
func (a *apt) setUp() error {
	for _, d := range []string{"none", "sources", "state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return fmt.Errorf("setting up apt: %w", err)
		}
	}
	for name, text := range map[string]string{"apt.conf": fmt.Sprintf(aptConfig, a.dir), "state/status": ""} {
		if err := writeFile(filepath.Join(a.dir, name), []byte(text)); err != nil {
			return fmt.Errorf("setting up apt: %w", err)
		}
	}
	return nil
}

// get runs apt-get with the private configuration and one suite.
func (a *apt) get(ctx context.Context, workDir, suite string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	list := filepath.Join(a.dir, "sources", suite+".list")
	args = append([]string{"-q", "-c", filepath.Join(a.dir, "apt.conf"), "-o", "Dir::Etc::sourcelist=" + list}, args...)
	return runIn(ctx, workDir, "apt-get", args...)
}

// update refreshes the index of a suite and returns the kernels in it.
func (a *apt) update(ctx context.Context, s source) ([]Candidate, error) {
	if err := writeFile(filepath.Join(a.dir, "sources", s.suite+".list"), []byte(s.line)); err != nil {
		return nil, err
	}
	if _, err := a.get(ctx, "", s.suite, "update"); err != nil {
		return nil, err
	}
	name, err := a.get(ctx, "", s.suite, "indextargets", "--format", "$(FILENAME)", "Identifier: Packages")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(strings.TrimSpace(string(name)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packages, err := ParsePackages(f, kernelPackage)
	if err != nil {
		return nil, err
	}
	return Candidates(s.suite, packages), nil
}

// download fetches a package into dir, checks it against the index entry once more, and returns the file.
func (a *apt) download(ctx context.Context, dir, suite string, p Package) (string, error) {
	if _, err := a.get(ctx, dir, suite, "download", p.Name+"="+p.Version); err != nil {
		return "", fmt.Errorf("downloading %s: %w", p.Name, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, p.Name+"_*.deb"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("downloading %s: apt left %d files where one was expected (%v)", p.Name, len(files), err)
	}
	if err := checkFile(files[0], p.SHA256); err != nil {
		return "", err
	}
	return files[0], nil
}

// runIn runs a program and returns its output; its error holds the end of what it complained about.
func runIn(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("%w; vmrun needs the packages apt, dpkg and xz-utils to fetch kernels", err)
		}
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		if n := len(lines); n > 3 {
			lines = lines[n-3:]
		}
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.Join(lines, "; "))
	}
	return stdout.Bytes(), nil
}
