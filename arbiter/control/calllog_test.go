// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// logLines returns the lines of a level that have all parts.
func logLines(log, level string, parts ...string) (found []string) {
	for l := range strings.Lines(log) {
		all := strings.Contains(l, "level="+level+" ")
		for _, p := range parts {
			all = all && strings.Contains(l, p)
		}
		if all {
			found = append(found, l)
		}
	}
	return found
}

// TestCallLog: what an operator must know is logged, what happens every second
// is not, and nothing is longer than a few lines of a terminal.
func TestCallLog(t *testing.T) {
	f := newFixture(t, nil, nil)
	if err := f.getStatus(); err != nil {
		t.Fatal(err)
	}
	f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte("version: 2\n")})
	f.push(ruleFile("a"))
	f.applier.mu.Lock()
	f.applier.checkErr = errors.New("not here: " + strings.Repeat("long ", 100))
	f.applier.mu.Unlock()
	f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b"))})
	if _, err := grpc_health_v1.NewHealthClient(dialSocket(t, f.socket)).Check(f.ctx(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	watch, err := f.events.Watch(f.ctx(), &controlv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the server", f.startStop(testTimeout))
	log := f.log.String()
	for _, tt := range []struct {
		level string
		parts []string
	}{
		{"DEBUG", []string{"msg=call", "method=/arbiter.control.v1.StatusService/Get", "code=OK", "uid=", "pid=", "ms="}},
		{"INFO", []string{"method=/arbiter.control.v1.RulesService/Push", "code=InvalidArgument", "error="}},
		{"INFO", []string{"method=/arbiter.control.v1.RulesService/Push", "code=FailedPrecondition", "not here", "..."}},
		{"INFO", []string{"rules are in force", "epoch=1", "previous=0", "rules=1", "name=a.yaml", "reason=test"}},
		{"DEBUG", []string{"method=/grpc.health.v1.Health/Check", "code=OK"}},
		{"DEBUG", []string{"method=/arbiter.control.v1.EventsService/Watch", "code=Unavailable"}},
	} {
		if found := logLines(log, tt.level, tt.parts...); len(found) != 1 {
			t.Errorf("%d log lines of level %s have %q, want 1; the log:\n%s", len(found), tt.level, tt.parts, log)
		}
	}
	if found := logLines(log, "WARN"); len(found) != 0 {
		t.Errorf("warnings of what is no news for the operator: %q", found)
	}
	for l := range strings.Lines(log) {
		if len(l) > 450 {
			t.Errorf("a line has %d bytes: %s", len(l), l)
		}
	}
}
