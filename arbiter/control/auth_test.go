// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// methodsOf returns the full names of all methods that are served.
func methodsOf(s *Server) []string {
	var methods []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, "/"+service+"/"+m.Name)
		}
	}
	return slices.Sorted(slices.Values(methods))
}

// tryMethod calls any method with an empty message and returns the error of its
// first answer; most will not like the message.
func tryMethod(ctx context.Context, conn *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	// When the stream has ended already, RecvMsg tells why.
	stream.SendMsg(&emptypb.Empty{})
	stream.CloseSend()
	return stream.RecvMsg(&emptypb.Empty{})
}

// mayCall are the lists of the authorisation tests.
func mayCall(c *Config, _ *RulesConfig) {
	c.Admin = AccessList{UIDs: append(c.Admin.UIDs, 1001), GIDs: []uint32{2001}}
	c.ReadOnly = AccessList{UIDs: []uint32{65534}, GIDs: []uint32{2002}}
	c.CallsPerSecond = -1
}

// TestAuthorisation calls every method as several users.
func TestAuthorisation(t *testing.T) {
	f := newFixture(t, mayCall, nil)
	f.push(ruleFile("a"))
	writing := map[string]bool{
		controlv1.RulesService_Push_FullMethodName:     true,
		controlv1.RulesService_PushFile_FullMethodName: true,
		controlv1.RulesService_EditSet_FullMethodName:  true,
		controlv1.RulesService_Rollback_FullMethodName: true,
		controlv1.RulesService_Confirm_FullMethodName:  true,
		controlv1.RulesService_Revert_FullMethodName:   true,
		controlv1.RulesService_Lock_FullMethodName:     true,

		controlv1.ShadowService_Start_FullMethodName:   true,
		controlv1.ShadowService_Stop_FullMethodName:    true,
		controlv1.ShadowService_Promote_FullMethodName: true,
		controlv1.CanaryService_Promote_FullMethodName: true,
		controlv1.CanaryService_Abort_FullMethodName:   true,

		controlv1.MaintenanceService_Hold_FullMethodName:  true,
		controlv1.LifecycleService_Replace_FullMethodName: true,
	}
	methods := methodsOf(f.server)
	for m := range writing {
		if !slices.Contains(methods, m) {
			t.Errorf("%s is not served", m)
		}
	}
	// More groups than fit into the first try of asking for them.
	manyGroups := []uint32{2001}
	for g := range uint32(100) {
		manyGroups = append(manyGroups, 5000+g)
	}
	for _, tt := range []struct {
		name        string
		uid, gid    int
		groups      []uint32
		read, write bool
	}{
		{"root", 0, 0, nil, true, true},
		{"admin by uid", 1001, 3000, nil, true, true},
		{"admin by primary group", 1002, 2001, nil, true, true},
		{"admin by another group", 1002, 3000, []uint32{3001, 2001}, true, true},
		{"admin by one of many groups", 1002, 3000, manyGroups, true, true},
		{"read-only by uid", 65534, 65534, nil, true, false},
		{"read-only by group", 1002, 3000, []uint32{2002}, true, false},
		{"nobody's friend", 1003, 3000, []uint32{3001}, false, false},
		{"root's group is not root", 1003, 0, []uint32{0}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dialAs(t, f.socket, tt.uid, tt.gid, tt.groups...)
			for _, m := range methods {
				err := tryMethod(f.ctx(), conn, m)
				keys, allowed := []string{KeyAdminUIDs, KeyAdminGIDs}, tt.write
				switch {
				case isHealth(m):
					allowed = true
				case !writing[m]:
					keys, allowed = append(keys, KeyReadOnlyUIDs, KeyReadOnlyGIDs), tt.read
				}
				if code := status.Code(err); allowed {
					if code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.Unavailable {
						t.Errorf("%s: got %v, want it to be allowed", m, err)
					}
					continue
				}
				wantStatus(t, err, codes.PermissionDenied, append(keys, fmt.Sprintf("uid %d may not call", tt.uid), m[1:],
					"configuration", "restart arbiterd", "call as root")...)
				if text := status.Convert(err).Message(); writing[m] && strings.Contains(text, "read_only") {
					t.Errorf("%s: %q names the read-only list, which would not help", m, text)
				}
			}
		})
	}
	if epoch := f.engine.Rules().Epoch(); epoch != 1 {
		t.Errorf("epoch %d is in force, want 1", epoch)
	}
}

// TestAuthorisationOfAProcess has another process of another user call, and wants
// the log to tell which one was refused.
func TestAuthorisationOfAProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only root can start a process as somebody else")
	}
	f := newFixture(t, mayCall, nil)
	for _, tt := range []struct {
		uid         uint32
		read, write codes.Code
	}{
		{0, codes.OK, codes.OK},
		{65534, codes.OK, codes.PermissionDenied},
		{1003, codes.PermissionDenied, codes.PermissionDenied},
	} {
		before := f.engine.Rules()
		c := startChild(t, "call", f.socket, &syscall.Credential{Uid: tt.uid, Gid: tt.uid})
		if got := c.line(); got != tt.read.String() {
			t.Errorf("uid %d reads: got %s, want %v", tt.uid, got, tt.read)
		}
		got := c.line()
		if code, _, _ := strings.Cut(got, " "); code != tt.write.String() {
			t.Errorf("uid %d writes: got %s, want %v", tt.uid, got, tt.write)
		}
		if tt.write == codes.OK {
			continue
		}
		if !strings.Contains(got, KeyAdminUIDs) {
			t.Errorf("uid %d writes: got %q, want it to name %s", tt.uid, got, KeyAdminUIDs)
		}
		if f.engine.Rules() != before {
			t.Errorf("uid %d changed the rules", tt.uid)
		}
		if want := fmt.Sprintf("uid=%d pid=%d", tt.uid, c.Process.Pid); !strings.Contains(f.log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, f.log)
		}
	}
}

// TestAuthorizeUnknownCaller: what did not come over the unix socket is nobody.
func TestAuthorizeUnknownCaller(t *testing.T) {
	ctx := grpc.NewContextWithServerTransportStream(t.Context(), methodStream{method: "/any"})
	_, err := authorizer{}.authorize(ctx)
	wantStatus(t, err, codes.Unauthenticated, "unix socket")
	_, err = authorizer{}.authorize(t.Context())
	wantStatus(t, err, codes.Internal, "method")
}

// methodStream is a call of one method.
type methodStream struct {
	grpc.ServerTransportStream
	method string
}

func (m methodStream) Method() string { return m.method }

// TestReadOnlyMethodsExist: a method that was renamed would be closed silently.
func TestReadOnlyMethodsExist(t *testing.T) {
	f := newFixture(t, nil, nil)
	methods := methodsOf(f.server)
	for _, m := range slices.Sorted(maps.Keys(readOnlyMethods)) {
		if !slices.Contains(methods, m) {
			t.Errorf("%s is not served", m)
		}
	}
}
