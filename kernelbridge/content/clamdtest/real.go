// SPDX-License-Identifier: Apache-2.0

package clamdtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// EnvRoot names the folder that packages with clamd were unpacked into, which is looked for in
// PATH otherwise; see scripts/scan.
const EnvRoot = "ARBITER_CLAMD_ROOT"

// ErrNone: clamd is not there.
var ErrNone = errors.New("clamd is not installed: run scripts/scan, which fetches it, or install clamav-daemon")

// Real is clamd itself, with the one signature of Marker.
type Real struct {
	Socket string
	cmd    *exec.Cmd
	ended  chan struct{} // closed
}

// startFor is how long clamd may take to listen. With one signature it takes half a second.
const startFor = 30 * time.Second

// Start runs clamd in a folder of its own, with lines for clamd.conf, and returns when it
// listens. It wraps ErrNone when there is none.
func Start(dir string, conf ...string) (*Real, error) {
	cmd, err := command()
	if err != nil {
		return nil, err
	}
	r := &Real{Socket: filepath.Join(dir, "ctl"), ended: make(chan struct{})}
	text := fmt.Sprintf("LocalSocket %s\nDatabaseDirectory %s\nTemporaryDirectory %s\nForeground yes\n", r.Socket, filepath.Join(dir, "db"), dir)
	for _, line := range conf {
		text += line + "\n"
	}
	signature := fmt.Sprintf("Arbiter.Test-1:0:*:%x\n", Marker)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "db"), 0o755), os.WriteFile(filepath.Join(dir, "db", "arbiter.ndb"), []byte(signature), 0o644),
		os.WriteFile(filepath.Join(dir, "clamd.conf"), []byte(text), 0o644)); err != nil {
		return nil, fmt.Errorf("configuring clamd: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("configuring clamd: %w", err)
	}
	defer log.Close()
	cmd.Args = append(cmd.Args, "--config-file="+filepath.Join(dir, "clamd.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting clamd: %w", err)
	}
	r.cmd = cmd
	go func() {
		defer close(r.ended)
		cmd.Wait()
	}()
	return r, r.await(filepath.Join(dir, "log"))
}

// await returns when clamd listens.
func (r *Real) await(log string) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	late := time.After(startFor)
	for {
		if c, err := net.Dial("unix", r.Socket); err == nil {
			return c.Close()
		}
		select {
		case <-look.C:
			continue
		case <-late:
		case <-r.ended:
		}
		r.Close()
		said, _ := os.ReadFile(log)
		return fmt.Errorf("clamd does not listen; it says: %s", said)
	}
}

// Close ends clamd and waits for it. It can be called twice.
func (r *Real) Close() {
	r.cmd.Process.Kill()
	<-r.ended
	os.Remove(r.Socket)
}

func command() (*exec.Cmd, error) {
	root := os.Getenv(EnvRoot)
	if root == "" {
		for _, name := range []string{"clamd", "/usr/sbin/clamd"} {
			if program, err := exec.LookPath(name); err == nil {
				return exec.Command(program), nil
			}
		}
		return nil, ErrNone
	}
	libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil || len(libraries) != 1 {
		return nil, fmt.Errorf("looking for the libraries of clamd below %s: got %v, %v", root, libraries, err)
	}
	cmd := exec.Command(filepath.Join(root, "usr/sbin/clamd"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries[0])
	return cmd, nil
}
