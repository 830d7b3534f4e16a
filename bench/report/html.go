// SPDX-License-Identifier: Apache-2.0

package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

// HTML writes the page of some runs. It has no script and loads nothing: plots are inline SVG, in the
// colours of the reader's light or dark mode.
func HTML(w io.Writer, runs []*Run) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"inline": func(p *Plot) (template.HTML, error) {
			text, err := p.inline()
			return template.HTML(text), err // ours: its texts are escaped by the drawing
		},
		"class": func(outcome string) string {
			return map[string]string{Holds: "holds", DoesNotHold: "fails"}[outcome] + map[bool]string{true: "open"}[outcome == CannotTell]
		},
		// A sign besides the colour, for who does not see it.
		"mark": func(outcome string) string {
			return map[string]string{Holds: "✓", DoesNotHold: "✗", CannotTell: "?"}[outcome]
		},
		"less": func(a, b int) int { return a - b },
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("BUG: the page's template: %w", err)
	}
	if err := page.Execute(w, runs); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}
