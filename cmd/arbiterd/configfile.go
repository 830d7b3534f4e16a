// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readConfig reads the file into cfg; an empty path is the default one, which need
// not be there.
func readConfig(cfg *config, path string) error {
	required := path != ""
	if !required {
		path = defaultConfigPath
	}
	b, err := os.ReadFile(path)
	if !required && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the configuration: %w; create it, or give another with --config", err)
	case err != nil:
		return fmt.Errorf("reading the configuration: %w; give a file with --config that %s may read", err, "uid "+fmt.Sprint(os.Getuid()))
	}
	cfg.File = path
	if err := decodeConfig(cfg, b); err != nil {
		return fmt.Errorf("reading the configuration %s:\n%w\nthe keys are in docs/operations.md", path, err)
	}
	return nil
}

// decodeConfig decodes one YAML document; what it says leaves the rest of cfg alone.
func decodeConfig(cfg *config, text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var errs []error
	switch err := dec.Decode(cfg); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		errs = append(errs, plainYAML(err))
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		errs = append(errs, fmt.Errorf("line %d: a second document begins: keep one, and take the line --- out", more.Line))
	}
	return errors.Join(errs...)
}

var (
	wrongKind  = regexp.MustCompile("^(line \\d+): cannot unmarshal (!!\\w+)(?: `(.*)`)? into (\\S+)$")
	wrongKey   = regexp.MustCompile(`^(line \d+): field (.*) not found in type (\S+)$`)
	repeatKey  = regexp.MustCompile(`^(line \d+): field (.*) already set in type \S+$`)
	yamlKinds  = map[string]string{"!!str": "a text", "!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!map": "a mapping", "!!seq": "a list", "!!null": "nothing", "!!timestamp": "a date"}
	wantedKind = map[string]string{
		"string": "a text, in quotes if need be", "int": "a whole number", "uint32": "a number from 0 to 4294967295", "float64": "a number",
		"bool": "true or false", "[]int": "a list like [2, 3]", "[]uint32": "a list like [0, 1000]",
		"int64": "a whole number", "main.access": "lists like {uids: [0], gids: []}", "main.scanner": "keys like {clamd: /run/clamav/clamd.ctl}", "main.config": "lines like backend: auto",
	}
)

// plainYAML says what the YAML package says without the names of Go's types.
func plainYAML(err error) error {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, text := range list.Errors {
		if m := wrongKind.FindStringSubmatch(text); m != nil && yamlKinds[m[2]] != "" && wantedKind[m[4]] != "" {
			what := yamlKinds[m[2]]
			if m[3] != "" {
				what = fmt.Sprintf("%q", m[3])
			}
			text = fmt.Sprintf("%s: %s does not fit here: write %s", m[1], what, wantedKind[m[4]])
		} else if m := wrongKey.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%s: there is no key %q", m[1], m[2])
			switch m[3] {
			case "main.access":
				text += " here: write uids or gids"
			case "main.scanner":
				text += " here: write clamd, timeout, connections, max_size or max_age"
			}
		} else if m := repeatKey.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%s: the key %q is there twice: keep one", m[1], m[2])
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}
