// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// forgeable names the rules that let somebody through by a path alone, where everything else
// is refused. Who may make a user namespace has a mount namespace of his own in it, and can
// mount any file of the scope at that path.
//
// Sets that do not refuse by default are left out: there another name is enough to get around a
// refusal, and no forgery is needed.
func (l *linter) forgeable() {
	rs := l.rs
	if !rs.fallback.Verdict.Action.Refuses() || len(rs.scope.Cgroups) > 0 || rs.noNamespaces() {
		return
	}
	var exes, objects []int32
	for i := range rs.all {
		switch i := int32(i); {
		case !l.lets(i) || l.looksAt(i, abi.FieldUID|abi.FieldGID|abi.FieldCgroup):
		case rs.all[i].match.exe.kind != noTexts:
			exes = append(exes, i)
		case l.knownContent(i):
		case rs.all[i].match.path.kind != noTexts && rs.about[i].events&setOf(abi.EventOpen, abi.EventExec) != 0 && len(rs.scope.Mounts) == 0:
			objects = append(objects, i)
		}
	}
	const (
		how  = " and nothing else: whoever may make a user namespace can mount another file there"
		hint = "if such users are not trusted, add "
		or   = "subject.cgroup, or refuse userns_create to everybody, with a scope that has all programs in it"
	)
	if exes != nil {
		l.note(exes, "the rule knows who acts by the path of the program, subject.exe,"+how, hint+or)
	}
	if objects != nil {
		l.note(objects, "the rule knows what may be opened or executed by its path, object.path,"+how, hint+"object.sha256 or "+or)
	}
}

// lets reports whether rule i makes requests go on.
func (l *linter) lets(i int32) bool {
	a := l.rs.thens[l.rs.all[i].then].Verdict.Action
	return a == Allow || a == Audit
}

// looksAt reports whether rule i asks for one of the facts.
func (l *linter) looksAt(i int32, facts abi.Fields) bool {
	m := &l.rs.all[i]
	w := l.rs.whens[m.when]
	return m.match.has&facts != 0 || w != nil && w.fields&facts != 0
}

// knownContent reports whether rule i asks for a content of the object, which no other name changes.
// Its owner tells little: of root's files there are many, and each can be mounted at any name.
func (l *linter) knownContent(i int32) bool {
	// Whoever may write to a file can give it an fs-verity digest, but not that of another one.
	v := l.rs.contents[l.rs.all[i].match.content].verity
	return l.looksAt(i, abi.FieldDigest) || v != nil && !v.any && !v.none
}

// noNamespaces reports whether nobody may make a user namespace, but for those that a rule
// knows by their user, group or cgroup. It has to be asked of every program.
func (rs *RuleSet) noNamespaces() bool {
	s := &rs.scope
	if len(s.Exes)+len(s.Mounts)+len(s.ProcessTrees) > 0 || len(s.Paths) > 0 && !slices.Contains(s.Paths, "/") {
		return false
	}
	const e = abi.EventUserNSCreate
	if !slices.Contains(rs.Events(), e) {
		return false
	}
	for i := range rs.all { // the lists have no rule behind one that counts at times
		m := &rs.all[i]
		if !rs.about[i].events.has(e) {
			continue
		}
		refuses := rs.thens[m.then].Verdict.Action.Refuses()
		if !refuses && (m.match.has&(abi.FieldUID|abi.FieldGID|abi.FieldCgroup) == 0) {
			return false
		}
		if refuses && m.match.has == 0 && m.not == 0 && m.when == 0 && rs.timedRule(int32(i)) == nil {
			return true
		}
	}
	return rs.fallback.Verdict.Action.Refuses()
}
