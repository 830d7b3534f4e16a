// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// attributes reads the attributes of one rule of fapolicyd.
type attributes struct {
	*fapolicydReader
	rule              *rule
	inObject          bool
	subjects, objects int
}

// unknownHere is why an attribute has no equal in a rule file.
var unknownHere = map[string]string{
	"auid":       "the login uid, which who has none can choose, is not taken over; subject.loginuid compares it",
	"sessionid":  "sessions are numbered anew at each boot, and not taken over; subject.session compares them",
	"pid":        "process ids are not compared here; name the program by exe",
	"ppid":       "process ids are not compared here; scope and rules can name a process tree by its program",
	"comm":       "the name of a process, which it can change itself, is not compared here; name the program by exe",
	"pattern":    "patterns of how a program starts are not told here",
	"trust":      "there is no trust database here; the files of a trust file can be allowed by path and digest, in the place of this rule",
	"ftype":      "it is a type of libmagic, which tells more apart than object.format does",
	"exe_type":   "it is a type of libmagic, which tells more apart than object.format does",
	"device":     "devices are not compared here; the scope can name a mount point",
	"exe_device": "devices are not compared here; the scope can name a mount point",
}

// read reads name=value into the rule. The message, when there is one, says that fapolicyd would
// not take it.
func (a *attributes) read(text string, colons bool) (message, hint string) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Sprintf("%s has no =", quote(text)), "write name=value"
	}
	object := a.inObject
	switch name {
	case "auid", "uid", "gid", "sessionid", "pid", "ppid", "pattern", "comm", "exe":
		if object {
			return fmt.Sprintf("%s is of the subject", name), "write it before the colon"
		}
	case "exe_dir", "exe_type", "exe_device":
		if colons {
			return fmt.Sprintf("%s is of the old way of rules, without a colon", name), "write " + map[string]string{"exe_dir": "dir", "exe_type": "ftype", "exe_device": "device"}[name] + " before the colon"
		}
	case "path", "filehash", "sha256hash":
		if colons && !object {
			return fmt.Sprintf("%s is of the object", name), "write it behind the colon"
		}
		object = true
	case "dir", "device", "ftype", "trust":
		object = object || !colons
	default:
		return fmt.Sprintf("unknown attribute %s", quote(name)), "fapolicyd.rules(5) lists them"
	}
	if object {
		a.objects++
	} else {
		a.subjects++
	}
	vs, why, message := a.values(name, value)
	switch {
	case message != "":
		return message, "define it above, or name the file that defines it before this one"
	case why != "":
		a.rule.miss(bare(text) + ": " + why)
		return "", ""
	case name == "ftype" && object && slices.Contains(vs, "any"):
		return "", ""
	case unknownHere[name] != "":
		a.rule.miss(bare(text) + ": " + unknownHere[name])
		return "", ""
	}
	c := &a.rule.match
	switch name {
	case "uid", "gid":
		a.numbers(name, vs)
	case "exe":
		a.patterns(&c.exe, text, vs, fapolicydPath)
	case "path":
		a.patterns(&c.path, text, vs, fapolicydPath)
	case "exe_dir":
		a.patterns(&c.exe, text, directories(vs), fapolicydDir)
	case "dir":
		if object {
			a.patterns(&c.path, text, directories(vs), fapolicydDir)
		} else {
			a.patterns(&c.exe, text, directories(vs), fapolicydDir)
		}
	case "filehash", "sha256hash":
		a.digests(text, vs)
	}
	return "", ""
}

// values returns the values of an attribute, those of a set if it names one. why says that
// they are not known, message that the set is not defined.
func (a *attributes) values(name, value string) (vs []string, why, message string) {
	if !strings.HasPrefix(value, "%") {
		vs = values(value)
	} else {
		set, defined := a.sets[value]
		if !defined && strings.HasSuffix(value, "%") {
			return nil, "it is a place that the package's build fills in; write the path there", ""
		}
		if !defined {
			return nil, "", fmt.Sprintf("the set %s is not defined", quote(value))
		}
		vs = set
	}
	if len(vs) == 0 {
		return nil, "it has no value and so matches nothing", ""
	}
	bytes := 0
	for _, v := range vs {
		bytes += len(v)
	}
	a.spend(bytes)
	return vs, "", ""
}

// patterns adds values as patterns, which are combined with those of an earlier attribute: the rule is
// left out when there are any, because both must hold.
func (a *attributes) patterns(to *[]pattern, text string, vs []string, read func(string) (pattern, string)) {
	if len(*to) > 0 {
		a.rule.miss(bare(text) + ": a rule here has one list of paths for its subject and one for its object, not two that both must hold")
		return
	}
	for _, v := range vs {
		p, why := read(v)
		if why != "" {
			a.rule.miss(fmt.Sprintf("%s: %s %s", bare(text), quote(v), why))
			return
		}
		*to = append(*to, p)
	}
}

// fapolicydPath is a value of exe and path.
func fapolicydPath(v string) (pattern, string) {
	if v == "untrusted" {
		return pattern{}, "is a matter of the trust database, which there is none of here"
	}
	if glob, ok := strings.CutPrefix(v, "glob:"); ok {
		return fnmatchGlob(glob)
	}
	return exactly(v)
}

// fapolicydDir is a value of dir, which is compared with the beginning of the text of the path:
// without a / at its end it is about more than a directory.
func fapolicydDir(v string) (pattern, string) {
	if v == "untrusted" {
		return pattern{}, "is a matter of the trust database, which there is none of here"
	}
	return beginning(v)
}

// directories puts in what the two names of many directories stand for, in fapolicyd.rules(5).
func directories(vs []string) []string {
	exec := []string{"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/usr/libexec/"}
	var out []string
	for _, v := range vs {
		switch v {
		case "execdirs":
			out = append(out, exec...)
		case "systemdirs":
			out = append(append(out, exec...), "/etc/")
		default:
			out = append(out, v)
		}
	}
	return out
}

// numbers adds uids or gids. fapolicyd compares them with every id that the process has.
func (a *attributes) numbers(name string, vs []string) {
	to, lookup := &a.rule.match.uid, a.UserID
	if name == "gid" {
		to, lookup = &a.rule.match.gid, a.GroupID
		narrower := "a rule here compares one group, fapolicyd all that the process is in"
		if a.rule.verdict.denies() {
			a.rule.miss("gid: " + narrower)
			return
		}
		a.rule.changed = append(a.rule.changed, "gid: "+narrower+": less is allowed")
		a.rule.narrower = true
	}
	if len(*to) > 0 {
		a.rule.miss(name + ": it is given twice")
		return
	}
	for _, v := range vs {
		n, err := strconv.ParseUint(v, 10, 32)
		id := uint32(n)
		if err != nil {
			known := false
			if lookup != nil {
				id, known = lookup(v)
			}
			if !known {
				a.rule.miss(fmt.Sprintf("%s=%s: the number of the name is not known on this machine; write it there", name, bare(v)))
				return
			}
			a.findOnce(Note, a.rule.place, "%s %s is %d, by this machine", name, bare(v), id)
		}
		if id > largestID {
			a.rule.miss(fmt.Sprintf("%s=%s: there is no such id", name, bare(v)))
			return
		}
		*to = append(*to, span{id, id})
	}
	*to = joined(*to)
	if name == "uid" && a.rule.verdict.denies() {
		a.findOnce(Note, a.rule.place, "uid: the real and the effective id are compared, not the saved one and that of the file system")
	} else if name == "uid" {
		a.findOnce(Note, a.rule.place, "uid: the real id is compared; fapolicyd from 2.0 on allows by any id that the process has")
	}
}

// digests adds digests of the object.
func (a *attributes) digests(text string, vs []string) {
	if len(a.rule.match.sha256) > 0 {
		a.rule.miss(bare(text) + ": it is given twice")
		return
	}
	for _, v := range vs {
		hex, ok := digest(v)
		if !ok {
			a.rule.miss(bare(text) + ": it is no sha256, and no other digest is compared here")
			return
		}
		a.rule.match.sha256 = append(a.rule.match.sha256, hex)
	}
}
