// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// workDaemon is an arbiterd whose scope is the tree of a work.
type workDaemon struct {
	cmd     *exec.Cmd
	log     bytes.Buffer
	ended   chan error
	metrics string // address
}

// startWorkDaemon starts the program on the backend with DaemonRules rules about the tree, and
// returns when they are in force, which it tries. It is called on the thread that sees the
// tree, and the daemon ends with that thread at the latest.
func startWorkDaemon(ctx context.Context, program, backend, dir, tree string) (*workDaemon, error) {
	probe := filepath.Join(tree, "secrets", "0000.key")
	if err := writeFiles(filepath.Dir(probe), map[string]string{filepath.Base(probe): ""}); err != nil {
		return nil, err
	}
	d, err := startArbiterd(ctx, program, dir, backend, RuleSet(DaemonRules, tree))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(tryDaemon(probe), os.RemoveAll(filepath.Dir(probe))); err != nil {
		return nil, d.fail(err)
	}
	return d, nil
}

// startArbiterd starts the program with the rules, which are in force when it returns. Its
// files are in dir. It ends with the calling thread. The end of ctx ends the wait.
func startArbiterd(ctx context.Context, program, dir, backend string, rules []byte) (*workDaemon, error) {
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("backend: %s\nsocket: %s\nstate_dir: %s\nrules: %s\nmetrics: %s\n", backend, filepath.Join(dir, "socket"), filepath.Join(dir, "state"), filepath.Join(dir, "rules.yaml"), metrics)
	if countsInstructions() {
		config += "spin_for: -1ns\n" // a worker that polls keeps those from running whom it waits for
	}
	if err := writeFiles(dir, map[string]string{"arbiterd.yaml": config, "rules.yaml": string(rules)}); err != nil {
		return nil, err
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listening for the daemon: %w", err)
	}
	defer notify.Close()
	defer context.AfterFunc(ctx, func() { notify.Close() })()
	d := &workDaemon{metrics: metrics, cmd: exec.Command(program, "--config", filepath.Join(dir, "arbiterd.yaml")), ended: make(chan error, 1)}
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	d.cmd.Stderr = &limitedWriter{&d.log, 64 << 10}
	d.cmd.WaitDelay = time.Second
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w", err)
	}
	go func() {
		d.ended <- d.cmd.Wait()
		notify.Close() // nobody waits for its word any more
	}()
	if err := awaitWord(notify, "READY=1"); err != nil {
		return nil, d.fail(err)
	}
	return d, nil
}

// fail ends the daemon and says what it wrote.
func (d *workDaemon) fail(err error) error {
	err = errors.Join(err, d.close())
	if said := strings.TrimSpace(d.log.String()); said != "" {
		err = fmt.Errorf("%w\nit wrote: %s", err, said)
	}
	return err
}

// tryDaemon opens a file that the first rule of RuleSet is about.
func tryDaemon(path string) error {
	f, err := os.Open(path)
	if err == nil {
		err = f.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("trying the daemon: opening %s: got %v, want it refused", path, err)
	}
	return nil
}

// awaitWord waits for a word of the protocol of sd_notify(3).
func awaitWord(notify *net.UnixConn, word string) error {
	if err := notify.SetReadDeadline(time.Now().Add(slowStart)); err != nil {
		return fmt.Errorf("bounding the wait: %w", err)
	}
	b := make([]byte, 4096)
	for {
		n, err := notify.Read(b)
		if err != nil {
			return fmt.Errorf("waiting for the daemon: %w", err)
		}
		for line := range strings.Lines(string(b[:n])) {
			if strings.TrimSpace(line) == word {
				return nil
			}
		}
	}
}

func (d *workDaemon) close() error { return stopDaemon(d.cmd, d.ended) }
