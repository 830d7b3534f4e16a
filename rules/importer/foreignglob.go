// SPDX-License-Identifier: Apache-2.0

package importer

import "strings"

// fnmatchGlob reads a pattern of fnmatch(3) with FNM_PATHNAME and FNM_PERIOD: no wildcard
// matches a /, nor a period with which a component begins.
func fnmatchGlob(p string) (pattern, string) {
	var b strings.Builder
	steps := 0
	put := func(glob string, n int) {
		b.WriteString(glob)
		steps += n
	}
	start := true // of a component
	for p != "" {
		c := p[0]
		switch c {
		case '*', '?':
			rest := strings.TrimLeft(p, "*?")
			run := p[:len(p)-len(rest)]
			p = rest
			ones := strings.Count(run, "?")
			many := ""
			if ones < len(run) {
				many = "*"
			}
			switch {
			case !start:
				put(strings.Repeat("?", ones)+many, ones+1)
			case ones > 0:
				put("[!.]"+strings.Repeat("?", ones-1)+many, ones+1)
			case p == "" || p[0] == '/' || p[0] == '.' || strings.HasPrefix(p, `\.`):
				// Something must be there: no component is empty, and a period that
				// follows would be the one that it begins with.
				put("[!.]*", 2)
			case p[0] == '[':
				return pattern{}, "has a bracket right behind a * with which a component begins"
			default:
				put("{[!.]*,}", 5)
			}
			start = false
			continue
		case '[':
			if k, rest, closed := parseClass(p[1:], "!^", true); closed {
				inside := p[1 : len(p)-len(rest)]
				if strings.Contains(inside, "[:") || strings.Contains(inside, "[.") || strings.Contains(inside, "[=") {
					return pattern{}, "has a named class of characters, which locales read differently"
				}
				if why := k.strange(); why != "" {
					return pattern{}, why
				}
				if strings.Contains(inside, "/") {
					return pattern{}, "has a / between brackets"
				}
				without := ""
				if start {
					without = "."
				}
				g := k.glob(without)
				if g == "" {
					return pattern{}, "has a bracket that no character matches"
				}
				put(g, 1)
				p, start = rest, false
				continue
			}
		case '\\':
			if len(p) == 1 {
				return pattern{}, "ends in a backslash"
			}
			p = p[1:]
			c = p[0]
		}
		put(escaped(p[:1]), 1)
		p, start = p[1:], c == '/'
	}
	return finished(b.String(), steps)
}

// kernelGlob reads a pattern of the kernel's glob_match(), in which wildcards match a / as
// any other character.
func kernelGlob(p string) (pattern, string) {
	var b strings.Builder
	steps := 0
	put := func(glob string, n int) {
		b.WriteString(glob)
		steps += n
	}
	if strings.HasPrefix(p, "*") {
		p = strings.TrimLeft(p, "*")
		if p != "" && (p[0] == '?' || p[0] == '[') {
			return pattern{}, "has a wildcard right behind the * with which it begins"
		}
		put("/**", 5)
	} else if !strings.HasPrefix(p, "/") {
		return pattern{}, "begins with neither / nor *, as no path does"
	}
	slash := false
	for p != "" {
		c := p[0]
		switch c {
		case '*':
			p = strings.TrimLeft(p, "*")
			if slash && strings.HasPrefix(p, "/") {
				put("?**", 2) // not /**/, which would match no directory as well
			} else {
				put("**", 1)
			}
			slash = false
			continue
		case '?':
			put("{?,/}", 5)
			p, slash = p[1:], false
			continue
		case '[':
			if k, rest, closed := parseClass(p[1:], "!", false); closed {
				if why := k.strange(); why != "" {
					return pattern{}, why
				}
				g := k.glob("")
				switch {
				case g == "" && k.has('/'):
					put("/", 1)
				case g == "":
					return pattern{}, "has a bracket that no character matches"
				case k.has('/'):
					put("{"+g+",/}", 5)
				default:
					put(g, 1)
				}
				p, slash = rest, g == ""
				continue
			}
		case '\\':
			if len(p) == 1 {
				return pattern{}, "ends in a backslash"
			}
			p = p[1:]
			c = p[0]
		}
		put(escaped(p[:1]), 1)
		p, slash = p[1:], c == '/'
	}
	return finished(b.String(), steps)
}
