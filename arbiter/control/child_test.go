// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// The environment of a child process: which of children it is, and its socket.
const (
	childEnv       = "ARBITER_TEST_CHILD"
	childSocketEnv = "ARBITER_TEST_SOCKET"
)

// children are the other processes of the tests. What they print on stdout is
// for the parent; they end when their stdin does.
var children = map[string]func(socket string) error{
	"listen": childListens,
	"call":   childCalls,
}

// runChild is the main function of a child.
func runChild(name string) (code int) {
	if err := children[name](os.Getenv(childSocketEnv)); err != nil {
		fmt.Fprintf(os.Stderr, "child %s: %v\n", name, err)
		return 1
	}
	return 0
}

// childListens is a daemon that has the socket until it is killed.
func childListens(socket string) error {
	if _, err := Listen(SocketConfig{Path: socket}); err != nil {
		return err
	}
	fmt.Println("listening")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// childCalls makes a reading and a writing call and prints what came of them.
func childCalls(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = controlv1.NewStatusServiceClient(conn).Get(ctx, &controlv1.StatusServiceGetRequest{})
	fmt.Println(status.Code(err))
	_, err = controlv1.NewRulesServiceClient(conn).Push(ctx, &controlv1.PushRequest{Source: []byte(ruleFile("child"))})
	fmt.Println(status.Code(err), status.Convert(err).Message())
	return nil
}

// child is a running child process.
type child struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Scanner
}

// startChild starts one of children, as another user when cred is not nil. It is
// killed at the end of the test at the latest.
func startChild(t *testing.T, name, socket string, cred *syscall.Credential) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	// By this name another user may execute it, whoever may enter its folder.
	c := &child{Cmd: exec.CommandContext(ctx, "/proc/self/exe"), t: t}
	c.Env = append(os.Environ(), childEnv+"="+name, childSocketEnv+"="+socket)
	c.Dir, c.Stderr = "/", os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		c.Wait()
	})
	return c
}

// line returns the next line that the child prints.
func (c *child) line() string {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatalf("the child ended without the line: %v", c.lines.Err())
	}
	return strings.TrimSpace(c.lines.Text())
}

// kill ends the child as a crash would.
func (c *child) kill() {
	c.t.Helper()
	if err := c.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		c.t.Fatalf("the child ended with %v, want killed", err)
	}
}
