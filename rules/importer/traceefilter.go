// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// traceeFilter is one filter of a scope or a rule: a name, an operator, values of which one is enough.
type traceeFilter struct {
	text   string
	scope  bool // of the policy's scope
	name   string
	op     string // = != < <= > >=, empty for a name alone
	values []string
}

// filter reads a filter; blanks in it mean nothing.
func (p *traceePolicy) filter(n *yaml.Node) (traceeFilter, bool) {
	f := traceeFilter{text: strings.ReplaceAll(n.Value, " ", "")}
	i := strings.IndexAny(f.text, "=!<>")
	if i < 0 {
		f.name = f.text
		return f, true
	}
	f.name = f.text[:i]
	rest := f.text[i:]
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">"} {
		if value, ok := strings.CutPrefix(rest, op); ok && f.name != "" && value != "" {
			f.op, f.values = op, strings.Split(value, ",")
			return f, true
		}
	}
	if f.name == "" && rest != "!" {
		f.name = rest // !container
		return f, true
	}
	p.bad(n, "write NAME=VALUE, or != < <= > >=", "the filter %s has no value, or no operator", quote(n.Value))
	return f, false
}

// traceeEvent is what becomes of an event of Tracee.
type traceeEvent struct {
	here []string
	// path is the data field with the path of the object as the kernel has it, if there is one.
	path string
	// call says that it is a system call and no check in the kernel.
	call bool
	// after says that the program that acts is the new one already.
	after bool
}

// traceeConditions collects the filters of one rule. Filters of one name are put together as
// Tracee does, those of different names must all match.
type traceeConditions struct {
	*rule
	event                                      traceeEvent
	path, notPath, exe, notExe, newExe, notNew []pattern
	scopeUIDs, uids                            []traceeFilter // which must both pass
}

// traceeUnknown says why a filter has no equal here.
var traceeUnknown = map[string]string{
	"comm": "the name of a process, which it can change itself, is not compared here; use executable", "processName": "the name of a process, which it can change itself, is not compared here; use executable",
	"retval": "it is decided before the call returns", "tree": "a process tree is named by its program here, in the scope or by subject.process_tree", "follow": "a process tree is named by its program here, in the scope or by subject.process_tree",
	"container": "containers are named by their cgroup here", "not-container": "containers are named by their cgroup here", "!container": "containers are named by their cgroup here",
}

// add takes one filter.
func (c *traceeConditions) add(f traceeFilter) {
	name := f.name
	if data, ok := strings.CutPrefix(name, "args."); ok {
		name = "data." + data // as older versions call them
	}
	switch {
	case f.scope && name == "uid":
		c.scopeUIDs = append(c.scopeUIDs, f)
	case !f.scope && (name == "uid" || name == "userId"):
		c.uids = append(c.uids, f)
	case f.scope && slices.Contains([]string{"executable", "exec", "binary", "bin"}, name):
		c.program(f)
	case name == "data."+c.event.path && c.event.path != "":
		c.texts(f, &c.path, &c.notPath, traceePath)
	case name == "data.cap" && c.here("capable"):
		c.caps(f)
	case traceeUnknown[name] != "":
		c.miss(bare(f.text) + ": " + traceeUnknown[name])
	case strings.HasPrefix(name, "data."):
		c.miss(bare(f.text) + ": this field is not compared here, or is not what the kernel has")
	default:
		c.miss(bare(f.text) + ": it is not compared here")
	}
}

func (c *traceeConditions) here(event string) bool { return slices.Contains(c.event.here, event) }

// program takes a filter on the program. After an exec that is the new one, which is the object here.
func (c *traceeConditions) program(f traceeFilter) {
	switch {
	case c.event.after:
		c.texts(f, &c.newExe, &c.notNew, traceeExact)
	case c.event.call && c.here("exec"):
		c.miss(bare(f.text) + ": of this call it is not known whether the program before or behind it is meant; use sched_process_exec or security_bprm_check")
	default:
		c.texts(f, &c.exe, &c.notExe, traceeExact)
	}
}

// texts takes a filter on a text.
func (c *traceeConditions) texts(f traceeFilter, is, not *[]pattern, read func(string) (pattern, string)) {
	to := is
	switch f.op {
	case "=":
	case "!=":
		to = not
	default:
		c.miss(bare(f.text) + ": texts are compared with = and !=")
		return
	}
	for _, v := range f.values {
		p, why := read(v)
		if why != "" {
			c.miss(bare(f.text) + ": " + quote(v) + " " + why)
			return
		}
		*to = append(*to, p)
	}
}

// traceePath reads a value of a data field: a * at its ends stands for any text.
func traceePath(v string) (pattern, string) {
	switch head, tail := strings.HasPrefix(v, "*"), strings.HasSuffix(v, "*"); {
	case strings.Trim(v, "*") == "":
		return pattern{}, "is no value that Tracee takes"
	case head && tail:
		return containing(v[1 : len(v)-1])
	case tail:
		return beginning(v[:len(v)-1])
	case head:
		return ending(v[1:])
	}
	return exactly(v)
}

// traceeExact reads a path of a program.
func traceeExact(v string) (pattern, string) {
	if strings.Contains(v, ":") {
		return pattern{}, "names a mount namespace, which is not compared here"
	}
	return exactly(v)
}

// caps takes a filter on the capability.
func (c *traceeConditions) caps(f traceeFilter) {
	if f.op != "=" || len(c.match.capability) > 0 {
		c.miss(bare(f.text) + ": capabilities are compared with one =")
		return
	}
	for _, v := range f.values {
		n, err := rules.ParseArg(abi.EventCapable, "capability", v)
		if err != nil {
			c.miss(bare(f.text) + ": " + quote(v) + " is no capability")
			return
		}
		c.match.capability = append(c.match.capability, strconv.FormatUint(n, 10))
	}
}

// settle puts the filters together into the rule.
func (c *traceeConditions) settle() {
	for _, fs := range [][]traceeFilter{c.scopeUIDs, c.uids} {
		if len(fs) == 0 {
			continue
		}
		spans, why := traceeIDs(fs)
		if why == "" && c.match.uid != nil {
			if spans = inBoth(spans, c.match.uid); len(spans) == 0 {
				why = "no id passes the filters of both scope and rule"
			}
		}
		if why != "" {
			c.miss("uid: " + why)
			break
		}
		c.match.uid = spans
	}
	if len(c.newExe)+len(c.notNew) > 0 {
		if len(c.path)+len(c.notPath) > 0 {
			c.miss("executable: a rule here has one list of paths for its object, not two that both must hold")
		}
		c.path, c.notPath = c.newExe, c.notNew
	}
	for _, both := range [][2][]pattern{{c.path, c.notPath}, {c.exe, c.notExe}} {
		if len(both[0]) > 0 && len(both[1]) > 0 {
			c.miss("= and != of one name: what Tracee makes of both is not said here")
		}
	}
	if len(c.notPath) > 0 && len(c.notExe) > 0 {
		c.miss("!= of two names: a rule here cannot exclude one and the other, write two rules")
	}
	c.match.path, c.match.exe = c.path, c.exe
	c.not.path, c.not.exe = c.notPath, c.notExe
}

// traceeIDs puts numeric filters together: an id that is named by = passes, one named by != does not,
// then < and > decide, of several the widest. Filters that say != alone mean all the others.
func traceeIDs(fs []traceeFilter) ([]span, string) {
	var is, not []span
	var above, below []uint64
	for _, f := range fs {
		for _, v := range f.values {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || n > largestID {
				return nil, quote(v) + " is no id"
			}
			id := span{uint32(n), uint32(n)}
			switch f.op {
			case "!=":
				not = append(not, id)
			case "=":
				is = append(is, id)
			case ">", ">=":
				above = append(above, n)
			case "<", "<=":
				below = append(below, n)
			default:
				return nil, "the filter has no operator"
			}
			if f.op == ">=" || f.op == "<=" {
				is = append(is, id)
			}
		}
	}
	lowest, end := uint64(0), uint64(largestID)+1
	if len(above) > 0 {
		lowest = slices.Min(above) + 1
	}
	if len(below) > 0 {
		end = slices.Max(below)
	}
	if named := len(above)+len(below) > 0; (named || len(is) == 0) && lowest < end {
		is = append(is, inBoth([]span{{uint32(lowest), uint32(end - 1)}}, others(not))...)
	}
	if is = joined(is); len(is) == 0 {
		return nil, "no id passes all the filters"
	}
	return is, ""
}
