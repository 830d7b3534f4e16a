// SPDX-License-Identifier: Apache-2.0

package importer

import "strings"

// token is one word of a fapolicyd rule, its quotes removed.
type token struct {
	column int // from 1, bytes
	text   string
}

// lexFapolicyd splits a line at blanks. Double quotes hide blanks where a value begins, that is behind
// = and a comma; in them a backslash makes a quote or a backslash ordinary. The message, when there
// is one, says what is wrong with the token that begins at the column.
func lexFapolicyd(line string) (tokens []token, column int, message, hint string) {
	for i := 0; i < len(line); {
		if line[i] == ' ' {
			i++
			continue
		}
		at := i
		var b strings.Builder
		quotes := false
		for ; i < len(line) && (quotes || line[i] != ' '); i++ {
			c := line[i]
			switch {
			case quotes && c == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
				i++
				b.WriteByte(line[i])
			case quotes && c == '"':
				quotes = false
				if i+1 < len(line) && line[i+1] != ' ' && line[i+1] != ',' {
					return nil, i + 2, "there is something behind the closing quote", "put the whole value between the quotes"
				}
			case !quotes && c == '"' && i > at && (line[i-1] == '=' || line[i-1] == ','):
				quotes = true
			case !quotes && c == '\t':
				return nil, i + 1, "a tab separates nothing here", "write a blank"
			default:
				b.WriteByte(c)
			}
		}
		if quotes {
			return nil, at + 1, "the value has no closing quote", `close it with "`
		}
		tokens = append(tokens, token{at + 1, b.String()})
	}
	return tokens, 0, "", ""
}

// values splits the value of an attribute at its commas.
func values(s string) []string {
	var out []string
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}
