// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// whenFact is a variable of the expressions.
type whenFact struct {
	name   string
	typ    *types.Type
	op     whenOp // reads it
	access abi.Access
	arg    string   // name of the number, for those of args
	with   eventSet // events that have it
	field  abi.Fields
}

// addrType is the type of args.addr: it is no number and no text, and has inNet alone.
var addrType = types.NewOpaqueType("address")

const everyEvent = ^eventSet(0)

// whenFacts lists the facts, those of args aside. What no bit of abi.Fields stands for (the
// process id, comm) is not among them: verdicts are kept for all requests that agree in the fields, and would be wrong for some.
var whenFacts = []whenFact{
	{name: "event", typ: types.StringType, op: whenEvent, with: everyEvent},
	{name: "object.path", typ: types.StringType, op: whenPath, with: withObject, field: abi.FieldPath},
	{name: "object.owner", typ: types.UintType, op: whenOwner, with: withFile, field: abi.FieldAttributes},
	{name: "object.group", typ: types.UintType, op: whenGroup, with: withFile, field: abi.FieldAttributes},
	{name: "object.size", typ: types.UintType, op: whenFileSize, with: withFile, field: abi.FieldSize},
	{name: "detail", typ: types.StringType, op: whenDetail, with: withDetail, field: abi.FieldDetail},
	{name: "subject.exe", typ: types.StringType, op: whenExe, with: everyEvent, field: abi.FieldExe},
	{name: "subject.uid", typ: types.UintType, op: whenUID, with: everyEvent, field: abi.FieldUID},
	{name: "subject.euid", typ: types.UintType, op: whenEUID, with: everyEvent, field: abi.FieldUID},
	{name: "subject.gid", typ: types.UintType, op: whenGID, with: everyEvent, field: abi.FieldGID},
	{name: "subject.egid", typ: types.UintType, op: whenEGID, with: everyEvent, field: abi.FieldGID},
}

// allWhenFacts returns the facts by name.
func allWhenFacts() map[string]*whenFact {
	all := slices.Clone(whenFacts)
	for _, a := range accessNames {
		all = append(all, whenFact{name: "access." + a.name, typ: types.BoolType, op: whenAccess, access: a.bit, with: withAccess, field: abi.FieldAccess})
	}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		for _, a := range catalogue.Of(e).Args {
			all = append(all, whenFact{name: "args." + a.Name, typ: types.UintType, op: whenArg, arg: a.Name, field: abi.FieldArgs})
		}
	}
	all = append(all, whenFact{name: "args." + addrName, typ: addrType, op: whenAddr, arg: addrName, field: abi.FieldArgs})
	byName := make(map[string]*whenFact, len(all))
	for i := range all {
		f := &all[i]
		if f.arg != "" && byName[f.name] == nil {
			f.with = withArg(f.arg)
		}
		if byName[f.name] == nil {
			byName[f.name] = f
		}
	}
	return byName
}

// absent are names that people look for, and why there is no such fact.
var absent = map[string]string{
	"subject.comm":         "a task chooses its comm itself, so it says nothing; use subject.exe",
	"subject.pid":          "verdicts are kept for all requests that look alike, whatever their pid; use subject.exe or subject.uid",
	"subject.cgroup":       "write subject: {cgroup: ...} beside when",
	"subject.loginuid":     "write subject: {loginuid: ...} beside when",
	"subject.session":      "write subject: {session: ...} beside when",
	"subject.capabilities": "write subject: {capabilities: {any: ...}} beside when",
	"subject.process_tree": "write subject: {process_tree: ...} beside when",
	"object.mode":          "write object: {mode: {any: ...}} beside when; args.mode is the one of create, mkdir, mknod and chmod",
	"object.uid":           "write object.owner; args.uid is the new one of chown",
	"object.gid":           "write object.group; args.gid is the new one of chown",
	"access":               "write access.read, access.write, access.append, access.truncate or access.create",
	"args":                 "write args. and the name of a number",
	"object":               "write object.path, object.owner, object.group or object.size",
	"subject":              "write subject.exe, subject.uid, subject.gid, subject.euid or subject.egid",
}

// factHint says what to write instead of a name that is no fact.
func (l *whenLanguage) factHint(name string, about eventSet) string {
	for _, n := range [...]string{name, "subject." + name} {
		if why := absent[strings.ToLower(n)]; why != "" {
			return why
		}
	}
	var names []string
	for n, f := range l.facts {
		if about&^f.with == 0 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if _, last, _ := strings.Cut(n, "."); last == name { // uid for subject.uid
			return "did you mean " + n + "?"
		}
	}
	if near := suggest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "the facts are " + strings.Join(names, ", ")
}
