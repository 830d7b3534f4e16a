// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/rules"
)

// Limits of one Import: of what it reads, all its sources together, of the rule file that comes
// out, and of its rules. They are below those of a rule file: people read what was imported.
const (
	MaxSourceBytes = 8 << 20
	maxTextBytes   = 8 << 20
	maxRules       = 100_000
)

// Source is one file of another system.
type Source struct {
	Name string // for positions and ids
	Text []byte
}

// Options are what a source does not say.
type Options struct {
	// Paths and Cgroups are the scope of the rule file; one of them at least.
	Paths, Cgroups []string
	// Lockdown is for santa: an exec that no rule names is refused.
	Lockdown bool
	// Setting is for paths: the unit setting that lines with nothing but a path belong to.
	Setting string
	// UserID and GroupID return the number of a name; nil when names are not known.
	UserID, GroupID func(name string) (id uint32, ok bool)
}

// Level says how much a Finding weighs.
type Level uint8

// The levels.
const (
	// Lost is a rule, or a part of the policy, that is not in the rule file.
	Lost Level = iota
	// Changed is a rule that decides otherwise than its source in the cases named.
	Changed
	// Note is something that has no influence on what is allowed.
	Note
)

var levelNames = [...]string{Lost: "left out", Changed: "changed", Note: "note"}

// String returns the level as reports write it.
func (l Level) String() string { return levelNames[l] }

// Finding is one thing that the rule file does not say as its source did.
type Finding struct {
	File string // the name of the source, as it was given
	Line int    // from 1
	Level
	// Rule is the id of the rule concerned, empty when there is none. It stands in a comment
	// when the rule was left out.
	Rule string
	// Message is one line of printable ASCII.
	Message string
}

// Result is what Import returns.
type Result struct {
	// Rules is the text of the rule file.
	Rules []byte
	// Imported and LeftOut count rules; those left out are comments of the file.
	Imported, LeftOut int
	// Findings are in the order of the sources.
	Findings []Finding
}

// Complete reports whether everything was imported as it was meant.
func (r *Result) Complete() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level != Note })
}

// format reads the sources of one system.
type format struct {
	name string
	read func(*importer, []Source)
}

var formats = [...]format{
	{"fapolicyd", (*importer).fapolicyd},
	{"santa", (*importer).santa},
	{"esf", (*importer).esf},
	{"tracee", (*importer).tracee},
	{"paths", (*importer).paths},
}

// Formats returns the names of the formats.
func Formats() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Import reads sources of the named format, in their order. The error is rules.Problems when
// a source is not of its format or more than can be imported, and another one when the options are
// not. It may be called concurrently.
func Import(name string, sources []Source, o Options) (*Result, error) {
	i := slices.IndexFunc(formats[:], func(f format) bool { return f.name == name })
	if i < 0 {
		return nil, fmt.Errorf("unknown format %s; the formats are %s", quote(name), strings.Join(Formats(), ", "))
	}
	if err := o.check(name); err != nil {
		return nil, err
	}
	im := &importer{Options: o, format: name, once: map[string]int{}, ids: map[string]int{}}
	total := 0
	for _, s := range sources {
		if total += len(s.Text); total > MaxSourceBytes {
			im.problem(s.Name, 1, 1, "import the files one after another, each into a rule file of its own", "the sources have more than %d bytes", MaxSourceBytes)
			return nil, im.problems
		}
	}
	formats[i].read(im, sources)
	if len(im.problems) > 0 {
		return nil, im.problems
	}
	im.tellCounts()
	im.tellSuccessors()
	text := im.file(sources)
	if len(text) > maxTextBytes {
		im.tooMuch()
		return nil, im.problems
	}
	r := &Result{Rules: text, Findings: im.inOrder(sources)}
	for i := range im.rules {
		if im.rules[i].leftOut() {
			r.LeftOut++
		} else {
			r.Imported++
		}
	}
	return r, nil
}

// check reports what is wrong with the options.
func (o *Options) check(format string) error {
	if len(o.Paths)+len(o.Cgroups) == 0 {
		return fmt.Errorf("the scope is missing: name a directory, or / for the whole machine")
	}
	for _, p := range slices.Concat(o.Paths, o.Cgroups) {
		if why := unclean(p); why != "" {
			return fmt.Errorf("the scope %s %s", quote(p), why)
		}
	}
	for _, c := range o.Cgroups {
		if why := notCgroup(c); why != "" {
			return fmt.Errorf("the cgroup %s %s", quote(c), why)
		}
	}
	if o.Lockdown && format != "santa" {
		return fmt.Errorf("lockdown is a mode of santa, not of %s", format)
	}
	if o.Setting != "" && format != "paths" {
		return fmt.Errorf("settings are of the format paths, not of %s", format)
	}
	if o.Setting != "" && settings[o.Setting] == nothing {
		return fmt.Errorf("unknown setting %s; the settings are %s", quote(o.Setting), strings.Join(settingNames(), ", "))
	}
	return nil
}

// importer is one Import under way.
type importer struct {
	Options
	format   string
	rules    []rule
	findings []Finding
	problems rules.Problems
	once     map[string]int // of findings that stand for many: index by key
	counts   []int          // how many, by the index
	ids      map[string]int // how often each was wanted
	spent    int            // bytes of values in rules
	full     bool           // more than fits; reported
}

// problem reports that a source is not of its format.
func (im *importer) problem(file string, line, column int, hint, message string, args ...any) {
	const most = 1000 // nobody reads more before repairing the first
	if len(im.problems) < most {
		im.problems = append(im.problems, rules.Problem{File: file, Line: line, Column: column, Hint: hint, Message: fmt.Sprintf(message, args...)})
	}
}

// find adds a finding about a place.
func (im *importer) find(l Level, at place, rule, message string, args ...any) {
	im.findings = append(im.findings, Finding{File: at.file, Line: at.line, Level: l, Rule: rule, Message: fmt.Sprintf(message, args...)})
}

// findOnce adds a finding that is the same for many places: the first of them is named, and
// how many there are.
func (im *importer) findOnce(l Level, at place, message string, args ...any) {
	text := fmt.Sprintf(message, args...)
	i, seen := im.once[text]
	if !seen {
		i = len(im.findings)
		im.once[text] = i
		im.find(l, at, "", "%s", text)
	}
	for len(im.counts) <= i {
		im.counts = append(im.counts, 0)
	}
	im.counts[i]++
}

// tellCounts says in the findings that stand for many how many.
func (im *importer) tellCounts() {
	for i, n := range im.counts {
		if n > 1 {
			im.findings[i].Message += fmt.Sprintf(" (%d places, this is the first)", n)
		}
	}
}

// spend counts bytes of values that go into rules: a set of values that many rules name must not
// become more than memory holds. It reports whether there is room.
func (im *importer) spend(bytes int) bool {
	im.spent += bytes
	if im.spent > maxTextBytes {
		im.tooMuch()
	}
	return !im.full
}

func (im *importer) tooMuch() {
	if !im.full {
		im.full = true
		im.problem(im.format, 1, 1, "import the files one after another, each into a rule file of its own",
			"the rule file would have more than %d bytes or %d rules", maxTextBytes, maxRules)
	}
}

// emit adds a rule and reports what is left out of it. A rule that has no id gets one, which ends in
// digits; one that has brings its own, which must not.
func (im *importer) emit(r rule) {
	if len(im.rules) >= maxRules {
		im.tooMuch()
	}
	if im.full {
		return
	}
	if r.id == "" {
		r.id = im.id(r.place)
	}
	for _, why := range r.missing {
		im.find(Lost, r.place, r.id, "%s", why)
	}
	for _, how := range r.changed {
		im.find(Changed, r.place, r.id, "%s", how)
	}
	im.rules = append(im.rules, r)
}

// inOrder returns the findings in the order of the sources and their lines.
func (im *importer) inOrder(sources []Source) []Finding {
	index := map[string]int{}
	for i, s := range sources {
		if _, seen := index[s.Name]; !seen {
			index[s.Name] = i
		}
	}
	slices.SortStableFunc(im.findings, func(a, b Finding) int {
		if d := index[a.File] - index[b.File]; d != 0 {
			return d
		}
		return a.Line - b.Line
	})
	return im.findings
}
