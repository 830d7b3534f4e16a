// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strconv"
	"strings"
)

// sandbox are other unit settings that take paths away, or move them. They are named in the report;
// everything else in a unit is not about files that a program may use.
var sandbox = []string{
	"BindPaths", "BindReadOnlyPaths", "DynamicUser", "MountImages", "ExtensionDirectories", "ExtensionImages", "PrivateDevices", "PrivateTmp", "ProtectControlGroups",
	"ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ProcSubset", "TemporaryFileSystem",
}

// read reads a source line by line. A line with Name=value, outside of a path, is of a unit; one that begins with a
// path, of a list.
func (u *unitReader) read(s Source) {
	lines := strings.Split(string(s.Text), "\n")
	for i := 0; i < len(lines); i++ {
		at := place{s.Name, i + 1}
		line := strings.TrimRight(lines[i], "\r")
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' || trimmed[0] == '[' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || strings.ContainsAny(name, "/ \t") {
			u.listed(at, line)
			continue
		}
		for strings.HasSuffix(value, `\`) && i+1 < len(lines) {
			i++
			next := strings.TrimRight(lines[i], "\r")
			if first := strings.TrimSpace(next); first != "" && (first[0] == '#' || first[0] == ';') {
				continue // a comment between the lines
			}
			value = strings.TrimSuffix(value, `\`) + " " + next
		}
		u.assign(at, name, strings.TrimSpace(value))
	}
}

// listed reads a line of a plain list, which is one path.
func (u *unitReader) listed(at place, line string) {
	path := strings.TrimRight(line, " \t")
	switch {
	case u.Setting == "":
		u.problem(at.file, at.line, 1, "say which setting the lines are of, with --setting; they are "+strings.Join(settingNames(), ", "), "a path without a setting")
	case strings.TrimLeft(path, "-+") == "" || strings.TrimLeft(path, "-+")[0] != '/':
		u.problem(at.file, at.line, 1, "write an absolute path, or NAME=VALUE of a unit", "the line %s is no path", quote(path))
	default:
		u.path(at, u.Setting, path)
	}
}

// assign reads a setting of a unit. An empty value takes back what was listed before.
func (u *unitReader) assign(at place, name, value string) {
	s := settings[name]
	switch {
	case s == nothing && (name == "RootDirectory" || name == "RootImage") && strings.Trim(value, "/") != "":
		u.rooted = &at
		return
	case s == nothing && slices.Contains(sandbox, name) && value != "" && !slices.Contains([]string{"no", "false", "off", "0"}, strings.ToLower(value)):
		u.find(Lost, at, "", "%s=%s: it takes paths away as well, and is not read here; write them as ReadOnlyPaths= or InaccessiblePaths=", name, bare(value))
		return
	case s == nothing:
		return
	case value == "":
		delete(u.lists, s)
		return
	}
	words, why := unitWords(value)
	if why != "" {
		u.problem(at.file, at.line, 1, `put a path with blanks in double quotes, and write \\ for a backslash`, "the value of %s %s", name, why)
		return
	}
	for _, w := range words {
		u.path(at, name, w)
	}
}

// path adds one path of a setting. The - in front says that it may be missing, which a rule does not
// care about; the + that it begins in the root directory of the unit.
func (u *unitReader) path(at place, name, text string) {
	path := strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	source := name + "=" + text
	path, specifier := specified(path)
	if len(path) > 1 {
		path = strings.TrimRight(path, "/")
		if path == "" {
			path = "/"
		}
	}
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	why := unclean(path)
	if specifier {
		why = "has a specifier, which the manager fills in; write what it stands for"
	}
	if why != "" {
		r := rule{place: at, source: source, events: []string{"open"}, verdict: deny}
		r.miss(quote(text) + " " + why)
		u.emit(r)
		return
	}
	u.spend(len(source))
	u.lists[settings[name]] = append(u.lists[settings[name]], unitPath{at, source, path})
}

// specified replaces %% and reports whether there is another specifier.
func specified(s string) (string, bool) {
	rest := strings.ReplaceAll(s, "%%", "")
	return strings.ReplaceAll(s, "%%", "%"), strings.Contains(rest, "%")
}

// unitWords splits a value as systemd does: at blanks, with quotes of both kinds and C escapes.
func unitWords(s string) (words []string, why string) {
	for i := 0; i < len(s); {
		if s[i] == ' ' || s[i] == '\t' {
			i++
			continue
		}
		var b strings.Builder
		quote := byte(0)
		for ; i < len(s) && (quote != 0 || s[i] != ' ' && s[i] != '\t'); i++ {
			switch c := s[i]; {
			case c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case c == '\\':
				text, n := unitEscape(s[i+1:])
				if n == 0 {
					return nil, "has an escape that is unknown"
				}
				b.WriteString(text)
				i += n
			default:
				b.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, "has no closing quote"
		}
		words = append(words, b.String())
	}
	return words, ""
}

// unitEscape reads what follows a backslash, and returns how many bytes that is, 0 for what it does not know.
func unitEscape(s string) (text string, n int) {
	if s == "" {
		return "", 0
	}
	if i := strings.IndexByte(`abfnrtv\"'s`, s[0]); i >= 0 {
		return "\a\b\f\n\r\t\v\\\"' "[i : i+1], 1
	}
	if s[0] == 'x' && len(s) > 2 {
		if c, err := strconv.ParseUint(s[1:3], 16, 8); err == nil && c > 0 {
			return string([]byte{byte(c)}), 3
		}
	}
	return "", 0
}
