// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// Options say what is proposed.
type Options struct {
	// Scope are the trees that the rules are about: absolute, clean paths.
	Scope []string
	// Events are those that were watched: the default is applied to each of them, whether
	// it was observed or not, and to no other.
	Events []abi.Event
	Level  Level
	// Default is what becomes of what was not observed: rules.Audit, or rules.Deny.
	Default rules.Action
	// Starter is the program that started what was observed: whoever starts it the next
	// time is another one, so requests of it are allowed to all. Empty: nothing is known.
	Starter string
	// Disk is where generalisations are counted; not used by None.
	Disk Disk
	// Header are lines for the top of the file.
	Header []string
}

// Proposal is a rule file with what a reviewer has to know.
type Proposal struct {
	Source      []byte // the file
	Rules       int    // that allow something observed
	Requests    uint64 // that they allow
	Prices      []Price
	Uncounted   []string // patterns that were not made because their price could not be counted, each with why
	Unexpressed []Unexpressed
}

// Propose returns rules that allow every request that was observed, but those in
// Unexpressed. The error says that there is no such file: the options are not whole, or
// there is more than a rule file can hold.
func Propose(o *Observed, opt Options) (*Proposal, error) {
	if err := opt.check(); err != nil {
		return nil, fmt.Errorf("proposing rules: %w", err)
	}
	p := &Proposal{}
	shapes := p.generalise(&opt, minimise(p.shapes(o, opt.Starter)))
	slices.SortStableFunc(shapes, func(a, b *shape) int {
		return cmp.Or(slices.Compare(a.sets[events], b.sets[events]), slices.Compare(a.sets[exes], b.sets[exes]),
			slices.Compare(a.sets[objects], b.sets[objects]), strings.Compare(a.key(), b.key()))
	})
	for {
		ids := nameShapes(shapes)
		p.Source = opt.write(shapes, ids)
		rs, err := rules.Load("the proposal", p.Source, rules.Options{})
		if err != nil {
			return nil, fmt.Errorf("proposing rules: %w", err)
		}
		// What another rule allows already, once it was generalised, is said once.
		idle := map[string]bool{}
		for _, id := range rs.Idle() {
			idle[id] = true
		}
		kept := slices.Clone(shapes)[:0]
		for i, s := range shapes {
			if !idle[ids[i]] {
				kept = append(kept, s)
			}
		}
		if len(kept) == len(shapes) {
			p.finish(shapes, ids)
			return p, nil
		}
		shapes = kept
	}
}

func (opt *Options) check() error {
	var errs []error
	if len(opt.Scope) == 0 || slices.ContainsFunc(opt.Scope, func(s string) bool { return !isPath(s) }) {
		errs = append(errs, errors.New("the scope has to be absolute, clean paths"))
	}
	if len(opt.Events) == 0 {
		errs = append(errs, errors.New("there is no event"))
	}
	if !slices.Contains(Levels, string(opt.Level)) {
		errs = append(errs, fmt.Errorf("the level is one of %s", strings.Join(Levels, ", ")))
	}
	if opt.Level != None && opt.Disk == nil {
		errs = append(errs, errors.New("without a disk nothing can be generalised"))
	}
	if opt.Default != rules.Audit && opt.Default != rules.Deny {
		errs = append(errs, errors.New("the default is audit or deny"))
	}
	return errors.Join(errs...)
}

// shapes returns a shape for each kind of request, those of one path with the access of
// all of them, in an order that does not depend on chance.
func (p *Proposal) shapes(o *Observed, starter string) []*shape {
	unfit := map[string]uint64{}
	byKey := map[string]*shape{}
	for f, n := range o.counts {
		anyExe := starter != "" && f.Exe == starter
		if why := f.unfit(anyExe); why != "" {
			unfit[why] += n
			continue
		}
		p.Requests += n
		access := f.Access
		f.Access = 0
		s := shapeOf(&f, n, anyExe)
		k := s.key()
		if old := byKey[k]; old != nil {
			old.access |= access
			old.count += n
			continue
		}
		s.access = access
		byKey[k] = s
	}
	for _, why := range slices.Sorted(maps.Keys(unfit)) {
		p.Unexpressed = append(p.Unexpressed, Unexpressed{why, unfit[why]})
	}
	var out []*shape
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[k])
	}
	return out
}

// generalise makes shapes wider as far as the level lets it.
func (p *Proposal) generalise(opt *Options, shapes []*shape) []*shape {
	level := opt.Level
	if level == None {
		return shapes
	}
	for _, s := range shapes {
		s.sets[gids] = nil
		if level == High {
			s.sets[uids] = nil
		}
	}
	shapes = merge(shapes, exes)
	shapes = merge(shapes, objects)
	g := &generaliser{budget: level.budget(), counter: counter{opt.Disk, countedInAll}, scope: opt.Scope, uncounted: map[string]error{}}
	var twoPaths, others []*shape
	for _, s := range shapes {
		e, _ := abi.ParseEvent(s.sets[events][0])
		if slices.Contains(pathDetail, e) {
			twoPaths = append(twoPaths, s)
		} else {
			others = append(others, s)
		}
	}
	// From one temporary name to one of few: the names of both sides, whichever with which.
	for _, s := range twoPaths {
		s.pairs = s.product()
	}
	twoPaths = merge(twoPaths, objects, details)
	for _, s := range twoPaths {
		if more := s.product() - s.pairs; more > 0 {
			s.prices = append(s.prices, Price{Pattern: "each path with each detail", Observed: s.pairs, Unobserved: more, Of: "pairs"})
		}
		s.generalise(g, details)
	}
	shapes = append(others, twoPaths...)
	for _, s := range shapes {
		s.generalise(g, objects)
		if level == High {
			s.networks()
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(g.uncounted)) {
		p.Uncounted = append(p.Uncounted, printable(fmt.Sprintf("%s: %v", pattern, g.uncounted[pattern])))
	}
	return minimise(shapes)
}

// product returns how many pairs of an object and a detail the lists allow.
func (s *shape) product() uint64 { return uint64(len(s.sets[objects])) * uint64(len(s.sets[details])) }

// generalise makes fewer patterns of the paths in a list.
func (s *shape) generalise(g *generaliser, list int) {
	var paths []string
	var out set
	for _, text := range s.sets[list] {
		if p := decodePattern(text); p.form == isLiteral && isPath(p.text) && p.text != "/" {
			paths = append(paths, p.text)
		} else {
			out = append(out, text)
		}
	}
	items, prices := g.paths(paths)
	for _, it := range items {
		out = append(out, it.encode())
	}
	s.sets[list] = union(out, nil)
	s.prices = append(s.prices, prices...)
}

// networks makes networks of the addresses.
func (s *shape) networks() {
	e, _ := abi.ParseEvent(s.sets[events][0])
	high := catalogue.Of(e).Arg("addr_high")
	if high < 0 {
		return
	}
	nets, prices := networks(s.sets[args+high])
	s.sets[args+high] = nets
	s.prices = append(s.prices, prices...)
}

// finish fills in what the reviewer is told beside the file.
func (p *Proposal) finish(shapes []*shape, ids []string) {
	p.Rules = len(shapes)
	for i, s := range shapes {
		for _, price := range s.prices {
			price.Rule = ids[i]
			p.Prices = append(p.Prices, price)
		}
	}
}

// nameShapes gives each rule an id: what is done, by which program, and a number.
func nameShapes(shapes []*shape) []string {
	used := map[string]int{}
	var ids []string
	for _, s := range shapes {
		by := "anyone"
		if len(s.sets[exes]) > 0 {
			exe := s.sets[exes][0]
			by = exe[strings.LastIndexByte(exe, '/')+1:]
		}
		stem := word(s.sets[events][0], 24) + "-" + word(by, 24)
		used[stem]++
		ids = append(ids, fmt.Sprintf("%s-%d", stem, used[stem]))
	}
	return ids
}

// word makes a text fit for an id: at most n of a-z 0-9 . _ and at least one.
func word(s string, n int) string {
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < n; i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' {
			b.WriteByte(c)
		}
	}
	return cmp.Or(b.String(), "x")
}
