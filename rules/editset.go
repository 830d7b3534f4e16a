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
	list, err := findSet(src, edit.Name)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(src, []byte("\n"))
	keep := func(value string) bool { return !edit.Replace && !slices.Contains(edit.Remove, value) }
	have := map[string]bool{}
	gone := map[int]bool{} // lines, from 0
	for i, n := range list.Content {
		if value := scalar(n); n.Kind == yaml.ScalarNode && keep(value) {
			have[value] = true
			continue
		} else if n.Kind != yaml.ScalarNode && !edit.Replace {
			continue
		}
		end := lastLine(n)
		if i+1 < len(list.Content) && list.Content[i+1].Line <= end {
			return nil, fmt.Errorf("set %s: two of its values share line %d: give each a line of its own", edit.Name, end)
		}
		for l := n.Line - 1; l < end; l++ {
			gone[l] = true
		}
	}
	if !edit.Replace {
		for _, value := range edit.Remove {
			if !slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && scalar(n) == value }) {
				return nil, fmt.Errorf("set %s: it has no value %s: see arbiterctl rules sets get %s", edit.Name, quote(value), edit.Name)
			}
		}
	}
	last := list.Content[len(list.Content)-1]
	indent := strings.Repeat(" ", list.Column-1)
	var out bytes.Buffer
	for i, line := range lines {
		if !gone[i] {
			out.Write(line)
		}
		if i != lastLine(last)-1 {
			continue
		}
		if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
			out.WriteByte('\n')
		}
		for _, value := range edit.Add {
			if !have[value] {
				have[value] = true
				fmt.Fprintf(&out, "%s- %s\n", indent, yamlText(value))
			}
		}
	}
	return out.Bytes(), nil
}

// findSet returns the list of a set.
func findSet(src []byte, name string) (*yaml.Node, error) {
	frame := src
	if cutFrame, items := cut(src); len(items) > 0 {
		frame = cutFrame
	}
	var doc yaml.Node
	if err := decode(yaml.NewDecoder(bytes.NewReader(frame)), &doc); err != nil {
		return nil, fmt.Errorf("set %s: %w", name, err)
	}
	in := func(n *yaml.Node, key string) *yaml.Node {
		for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
		return nil
	}
	list := in(in(doc.Content[0], "sets"), name)
	switch {
	case list == nil:
		return nil, fmt.Errorf("set %s: %w", quote(name), ErrNoSet)
	case list.Kind != yaml.SequenceNode || list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0:
		return nil, fmt.Errorf("set %s: it is not written as a list with a line for each value: write it so, and push the file once", name)
	}
	return list, nil
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
	list, err := findSet(src, name)
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
