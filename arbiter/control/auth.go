// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// The keys of the daemon's configuration that hold the lists; refusals name them.
const (
	KeyAdminUIDs    = "admin.uids"
	KeyAdminGIDs    = "admin.gids"
	KeyReadOnlyUIDs = "read_only.uids"
	KeyReadOnlyGIDs = "read_only.gids"
)

// AccessList is a set of callers: a uid, or a gid that is the caller's primary
// or one of its supplementary groups.
type AccessList struct{ UIDs, GIDs []uint32 }

func (l AccessList) has(who caller) bool {
	return slices.Contains(l.UIDs, who.uid) || slices.Contains(l.GIDs, who.gid) ||
		slices.ContainsFunc(who.groups, func(g uint32) bool { return slices.Contains(l.GIDs, g) })
}

// readOnlyMethods change nothing. What is neither here nor a method of
// reflection needs admin, so a method that somebody adds and forgets is closed.
var readOnlyMethods = map[string]bool{
	controlv1.RulesService_Get_FullMethodName:     true,
	controlv1.RulesService_GetFile_FullMethodName: true,
	controlv1.RulesService_History_FullMethodName: true,
	controlv1.RulesService_Explain_FullMethodName: true,
	controlv1.EventsService_Watch_FullMethodName:  true,
	controlv1.StatusService_Get_FullMethodName:    true,
	controlv1.ShadowService_Get_FullMethodName:    true,
	controlv1.RefusalsService_Mine_FullMethodName: true,
	controlv1.CanaryService_Get_FullMethodName:    true,
}

func isReadOnly(method string) bool {
	return readOnlyMethods[method] || strings.HasPrefix(method, "/grpc.reflection.")
}

// isHealth reports whether a method is of the health service, which everybody
// who can open the socket may ask.
func isHealth(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// needsAuth selects the calls that are authorised.
func needsAuth(_ context.Context, c interceptors.CallMeta) bool { return !isHealth(c.FullMethod()) }

// isOwn reports whether a method answers with what is the caller's own alone.
func isOwn(method string) bool { return method == controlv1.RefusalsService_Mine_FullMethodName }

// authorizer holds the two lists, and whether others may ask for what is their own.
type authorizer struct {
	admin, readOnly AccessList
	own             bool
}

// authorize is the auth interceptor's function.
func (a authorizer) authorize(ctx context.Context) (context.Context, error) {
	method, ok := grpc.Method(ctx)
	if !ok {
		return nil, status.Error(codes.Internal, "authorising a call: its method is not known")
	}
	who, ok := callerOf(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the caller's uid is not known: call over the unix socket")
	}
	if who.uid == 0 || a.admin.has(who) || isReadOnly(method) && a.readOnly.has(who) || a.own && isOwn(method) {
		return ctx, nil
	}
	uids, gids := KeyAdminUIDs, KeyAdminGIDs
	if isReadOnly(method) {
		uids, gids = KeyReadOnlyUIDs+" or "+uids, KeyReadOnlyGIDs+" or "+gids
	}
	return nil, status.Errorf(codes.PermissionDenied,
		"uid %d may not call %s: add it to %s, or one of its groups to %s, in arbiterd's configuration and restart arbiterd; or call as root",
		who.uid, strings.TrimPrefix(method, "/"), uids, gids)
}
