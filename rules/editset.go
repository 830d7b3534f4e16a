// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// SetEdit changes the values of a set. Values are texts, as they are written in a rule file.
type SetEdit struct {
	Name string
	// Replace takes all values out before Add.
	Replace     bool
	Add, Remove []string
}

// EditSet returns a rule file with one of its sets changed, and every other byte as it was,
// comments among them. Values that are there already are not added again. The error says what to
// do next. Whether the file is right is for Parse to say.
func EditSet(src []byte, edit SetEdit) ([]byte, error) {
	if oddBreaks(src) {
		return nil, fmt.Errorf("set %s: the file has line breaks that are none to most editors: push it without them", edit.Name)
	}
	frame, err := readFrame(src)
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", edit.Name, err)
	}
	list, err := findSet(frame, edit.Name)
	if err != nil {
		return nil, err
	}
	remove := map[string]bool{} // those that are found become false
	for _, value := range edit.Remove {
		remove[value] = true
	}
	have := map[string]bool{}
	var want []string      // the values that the set is to have
	gone := map[int]bool{} // lines, from 0
	for i, n := range list.Content {
		value := spelled(n)
		_, taken := remove[value]
		if taken = taken || edit.Replace; !taken {
			have[value] = true
			want = append(want, value)
			continue
		}
		remove[value] = false
		end := lastLine(n)
		if i+1 < len(list.Content) && list.Content[i+1].Line <= end {
			return nil, fmt.Errorf("set %s: two of its values share line %d: give each a line of its own", edit.Name, end)
		}
		for l := n.Line - 1; l < end; l++ {
			gone[l] = true
		}
	}
	for _, value := range edit.Remove {
		if remove[value] && !edit.Replace {
			return nil, fmt.Errorf("set %s: it has no value %s: see arbiterctl rules sets get %s", edit.Name, quote(value), edit.Name)
		}
	}
	last := lastLine(list.Content[len(list.Content)-1]) - 1
	indent := strings.Repeat(" ", list.Column-1)
	var out bytes.Buffer
	for i, line := range bytes.SplitAfter(src, []byte("\n")) {
		if !gone[i] {
			out.Write(line)
		}
		if i != last {
			continue
		}
		if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
			out.WriteByte('\n')
		}
		for _, value := range edit.Add {
			if !have[value] {
				have[value] = true
				want = append(want, value)
				fmt.Fprintf(&out, "%s- %s\n", indent, yamlText(value))
			}
		}
	}
	if !edited(src, out.Bytes(), frame, edit.Name, want) {
		return nil, fmt.Errorf("set %s: it is written so that it cannot be changed line by line: change the file, and push it", edit.Name)
	}
	return out.Bytes(), nil
}

// edited reports whether after is before with other values in one set, and nothing else: where a
// value ends is not always to be seen from its nodes.
func edited(before, after []byte, frame *yaml.Node, name string, want []string) bool {
	got, err := readFrame(after)
	if err != nil {
		return false
	}
	list, err := findSet(got, name)
	if err != nil {
		n := valueOf(valueOf(got, "sets"), name)
		return len(want) == 0 && (n == nil || n.ShortTag() == "!!null") // which the push refuses
	}
	var values []string
	for _, n := range list.Content {
		values = append(values, spelled(n))
	}
	was, _ := findSet(frame, name)
	keep := was.Content
	was.Content, list.Content = nil, nil
	same := spelled(frame) == spelled(got) && slices.Equal(values, want)
	was.Content = keep
	_, oldRules, _ := cut(before)
	_, newRules, _ := cut(after)
	return same && len(oldRules) == len(newRules) && (len(oldRules) == 0 ||
		bytes.Equal(before[oldRules[0].from:oldRules[len(oldRules)-1].end], after[newRules[0].from:newRules[len(newRules)-1].end]))
}

// spelled returns what a node says, positions, styles and comments left out: the text of a
// value, else its parts.
func spelled(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return scalar(n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", n.Kind, n.ShortTag())
	for _, c := range n.Content {
		s := spelled(c)
		fmt.Fprintf(&b, " %s %d:%s", c.ShortTag(), len(s), s)
	}
	return b.String()
}

// readFrame reads a rule file, without its rules where they are many and nothing that looks like
// its sets is in a text of theirs.
func readFrame(src []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if frame, items, key := cut(src); len(items) > 0 && !oddBreaks(src) {
		err := decode(yaml.NewDecoder(bytes.NewReader(frame)), &doc)
		if err == nil && rulesOn(doc.Content[0], key) && noneTwice(doc.Content[0]) {
			return doc.Content[0], nil
		}
	}
	if err := decode(yaml.NewDecoder(bytes.NewReader(src)), &doc); err != nil {
		return nil, err
	}
	return doc.Content[0], nil
}

// noneTwice reports whether each key of a file is there once.
func noneTwice(root *yaml.Node) bool {
	seen := map[string]bool{}
	for i := 0; i < len(root.Content); i += 2 {
		key := root.Content[i].Value
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return true
}

// findSet returns the list of a set.
func findSet(root *yaml.Node, name string) (*yaml.Node, error) {
	list := valueOf(valueOf(root, "sets"), name)
	switch {
	case list == nil:
		return nil, fmt.Errorf("set %s: %w", quote(name), ErrNoSet)
	case list.Kind != yaml.SequenceNode || list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0:
		return nil, fmt.Errorf("set %s: it is not written as a list with a line for each value: write it so, and push the file once", name)
	}
	return list, nil
}

// valueOf returns what a mapping has under a key, nil for nothing.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// ErrNoSet is wrapped by the error about a set that the file does not have.
var ErrNoSet = errors.New("the rules in force have no set of this name: see arbiterctl rules sets list")

// scalar returns the text that a value is.
func scalar(n *yaml.Node) string {
	if n.ShortTag() == "!!binary" {
		if raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), "")); err == nil {
			return string(raw)
		}
	}
	return n.Value
}

// lastLine returns the last line of a value, as far as its nodes tell.
func lastLine(n *yaml.Node) int {
	line := n.Line
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line += strings.Count(n.Value, "\n")
	}
	for _, c := range n.Content {
		line = max(line, lastLine(c))
	}
	return line
}

// yamlText writes a text as a value on a line of its own.
func yamlText(s string) string {
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "!!binary " + base64.StdEncoding.EncodeToString([]byte(s))
	case s != "" && !strings.EqualFold(s, "null") && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" && s[0] != '-':
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// SetValues returns the values of a set in a rule file, those that are no texts as they are
// written there.
func SetValues(src []byte, name string) ([]string, error) {
	root, err := readFrame(src)
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", name, err)
	}
	list, err := findSet(root, name)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(src, []byte("\n"))
	var out []string
	for _, n := range list.Content {
		if n.Kind == yaml.ScalarNode {
			out = append(out, scalar(n))
			continue
		}
		text := bytes.Join(lines[n.Line-1:lastLine(n)], nil)
		out = append(out, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(text)), "-")))
	}
	return out, nil
}
