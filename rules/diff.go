// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"reflect"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
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
	// What is first and last in both is mostly all but a few rules of a large file.
	first, rest := 0, 0
	for first < min(before.Len(), after.Len()) && before.RuleID(int32(first)) == after.RuleID(int32(first)) {
		first++
	}
	for rest < min(before.Len(), after.Len())-first && before.RuleID(int32(before.Len()-1-rest)) == after.RuleID(int32(after.Len()-1-rest)) {
		rest++
	}
	oldPlace := map[string]int{} // of those between
	for i := first; i < before.Len()-rest; i++ {
		oldPlace[before.RuleID(int32(i))] = i
	}
	// Those in both keep their place if they are on a longest chain that is in
	// the same order on both sides.
	var common []int // old places in the new order
	kept := map[int]bool{}
	for i := first; i < after.Len()-rest; i++ {
		if place, ok := oldPlace[after.RuleID(int32(i))]; ok {
			common = append(common, place)
			kept[place] = true
		}
	}
	for i := first; i < before.Len()-rest; i++ {
		if !kept[i] {
			d.Removed = append(d.Removed, before.RuleID(int32(i)))
		}
	}
	unmoved := longestIncreasing(common)
	for i := range after.Len() {
		id := after.RuleID(int32(i))
		place, stays := i, true // in the first part
		switch {
		case i >= after.Len()-rest:
			place = i - after.Len() + before.Len()
		case i >= first:
			place, stays = oldPlace[id]
			if !stays {
				d.Added = append(d.Added, id)
				continue
			}
			stays = unmoved[place]
		}
		if !stays || before.sums[place] != after.sums[i] {
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

// textSums returns a hash of the text of each rule, comments and indentation left out. It
// tells texts apart for people, as Fingerprint does.
func textSums(source string, rules []about) []uint64 {
	begins := make([]int, 1, 1+strings.Count(source, "\n")+1) // of each line
	for at := 0; ; {
		n := strings.IndexByte(source[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
		begins = append(begins, at)
	}
	lines := len(begins)
	begins = append(begins, len(source))
	sums := make([]uint64, len(rules))
	var d xxhash.Digest
	for i := range rules {
		first, end := int(rules[i].line)-1, lines
		if i+1 < len(rules) {
			end = int(rules[i+1].line) - 1
		}
		// YAML knows line ends that are none here, and rules may share a line.
		first = min(max(first, 0), lines-1)
		end = min(max(end, first+1), lines)
		d.Reset()
		for n := first; n < end; n++ {
			line := source[begins[n]:begins[n+1]]
			if n > first && len(line) > 0 && !strings.ContainsAny(line[:1], " \t-#\r\n") {
				break // the next key of the file
			}
			if line = strings.TrimSpace(line); len(line) > 0 && line[0] != '#' {
				_, _ = d.WriteString(line) // never fails
				_, _ = d.WriteString("\n")
			}
		}
		sums[i] = d.Sum64()
	}
	return sums
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
