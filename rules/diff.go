// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"reflect"
	"slices"
)

// Diff says by which rules two rule sets differ, by id in the order of the file, and by which
// sets of values, as @name.
type Diff struct {
	Added, Removed, Changed []string
	// Settings: default, deadline, on_fail, scope or events differ from those of a set
	// that was pushed.
	Settings bool
}

// Compare says how after differs from before, which may be nil. Equal fingerprints are no
// difference but of sets that no rule names; else rules are compared by their text, comments
// and indentation left out.
func Compare(before, after *RuleSet) Diff {
	var d Diff
	if before == nil {
		for i := range after.Len() {
			d.Added = append(d.Added, after.RuleID(int32(i)))
		}
		return d
	}
	d.compareSets(before, after)
	if before.Fingerprint() == after.Fingerprint() {
		return d
	}
	// Epoch 0 is what the daemon starts with when it has no rules: nobody set it.
	d.Settings = before.Epoch() != 0 && (before.Default() != after.Default() || !reflect.DeepEqual(before.Scope(), after.Scope()) ||
		!reflect.DeepEqual(before.Mute(), after.Mute()) ||
		!slices.Equal(before.Listed(), after.Listed()))
	oldTexts, newTexts := ruleTexts(before), ruleTexts(after)
	oldPlace := map[string]int{}
	for i := range before.Len() {
		id := before.RuleID(int32(i))
		oldPlace[id] = i
		if _, ok := newTexts[id]; !ok {
			d.Removed = append(d.Removed, id)
		}
	}
	// Those in both keep their place if they are on a longest chain that is in
	// the same order on both sides.
	var common []int // old places in the new order
	for i := range after.Len() {
		if place, ok := oldPlace[after.RuleID(int32(i))]; ok {
			common = append(common, place)
		}
	}
	unmoved := longestIncreasing(common)
	for i := range after.Len() {
		id := after.RuleID(int32(i))
		place, ok := oldPlace[id]
		switch {
		case !ok:
			d.Added = append(d.Added, id)
		case !unmoved[place] || oldTexts[id] != newTexts[id]:
			d.Changed = append(d.Changed, id)
		}
	}
	return d
}

// compareSets says how the sets of values differ, whatever their order.
func (d *Diff) compareSets(before, after *RuleSet) {
	was, is := setTexts(before), setTexts(after)
	for _, s := range before.Sets() {
		if _, ok := is[s.Name]; !ok {
			d.Removed = append(d.Removed, "@"+s.Name)
		}
	}
	for _, s := range after.Sets() {
		if old, ok := was[s.Name]; !ok {
			d.Added = append(d.Added, "@"+s.Name)
		} else if !slices.Equal(old, is[s.Name]) {
			d.Changed = append(d.Changed, "@"+s.Name)
		}
	}
}

// setTexts returns the values of each set, sorted.
func setTexts(rs *RuleSet) map[string][]string {
	if len(rs.Sets()) == 0 {
		return nil
	}
	root, err := readFrame(rs.Source())
	if err != nil {
		return nil // no: it has been read before
	}
	texts := map[string][]string{}
	for _, s := range rs.Sets() {
		texts[s.Name] = nil
		list := valueOf(valueOf(root, "sets"), s.Name)
		if list == nil {
			continue // no: it has been read before
		}
		for _, n := range list.Content {
			texts[s.Name] = append(texts[s.Name], spelled(n))
		}
		slices.Sort(texts[s.Name])
	}
	return texts
}

// ruleTexts returns the text of each rule by its id.
func ruleTexts(rs *RuleSet) map[string]string {
	lines := bytes.Split(rs.Source(), []byte{'\n'})
	texts := make(map[string]string, rs.Len())
	for i := range rs.Len() {
		first, end := rs.Line(int32(i))-1, len(lines)
		if i+1 < rs.Len() {
			end = rs.Line(int32(i+1)) - 1
		}
		first = min(max(first, 0), len(lines))
		end = min(max(end, first+1), len(lines)) // rules may share a line
		var text []byte
		for n, line := range lines[first:end] {
			if n > 0 && len(line) > 0 && !bytes.ContainsAny(line[:1], " \t-#\r") {
				break // the next key of the file
			}
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' {
				continue
			}
			text = append(append(text, line...), '\n')
		}
		texts[rs.RuleID(int32(i))] = string(text)
	}
	return texts
}

// longestIncreasing returns the members of a longest increasing subsequence of
// distinct numbers.
func longestIncreasing(numbers []int) map[int]bool {
	var tails []int // tails[n] is the index of the smallest end of a chain of n+1
	previous := make([]int, len(numbers))
	for i, number := range numbers {
		n, _ := slices.BinarySearchFunc(tails, number, func(t, want int) int { return numbers[t] - want })
		previous[i] = -1
		if n > 0 {
			previous[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	members := make(map[int]bool, len(tails))
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = previous[i] {
			members[numbers[i]] = true
		}
	}
	return members
}
