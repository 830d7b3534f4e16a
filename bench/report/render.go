// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Plot is a plot that has not been drawn yet.
type Plot struct {
	Name  string // of its files, without an ending
	Title string
	X, Y  string // what is on the axes
	Note  string // how to read it, a sentence
	Facts string // the machine and the day, printed below: a plot is copied without its page

	percentile bool // X is 1/(1-q), labelled in per cent
	points     bool // the values are marked
	loose      bool // and not joined by a line
	lines      []line
}

// line is one line of a plot; without a name it is not in the legend.
type line struct {
	name   string
	points plotter.XYs
	style  draw.LineStyle
}

const (
	plotWidth  = 470 * vg.Length(1) // without the legend
	plotHeight = 330 * vg.Length(1)
	margin     = 10 * vg.Length(1)
	footer     = 16 * vg.Length(1) // for the facts
	pngDPI     = 144               // twice the size of a screen's point
)

// unboxed is a plotter that asks for no room around its marks: that is taken from the axes, at all sides.
type unboxed struct{ plot.Plotter }

// thumbnail is a line of the legend.
type thumbnail struct {
	style draw.LineStyle
	glyph *draw.GlyphStyle
	loose bool // the mark alone
}

// Thumbnail draws the line, and its mark in the middle.
func (t thumbnail) Thumbnail(c *draw.Canvas) {
	y := c.Center().Y
	if !t.loose {
		c.StrokeLine2(t.style, c.Min.X, y, c.Max.X, y)
	}
	if t.glyph != nil {
		c.DrawGlyph(*t.glyph, vg.Point{X: c.Center().X, Y: y})
	}
}

// layout returns how to paint the plot, and how large it is.
func (p *Plot) layout() (paint func(draw.Canvas), w, h vg.Length, err error) {
	pl := newPlot(p.Title, p.X, p.Y)
	g := plotter.NewGrid()
	g.Vertical, g.Horizontal = grid, grid
	pl.Add(g)

	legend := plot.NewLegend()
	legend.TextStyle = textStyle(10)
	legend.TextStyle.Color = color.Black
	legend.Left, legend.Top = true, true
	legend.ThumbnailWidth, legend.Padding = 26, 4
	var widest vg.Length
	var entries []line
	for i, l := range p.lines {
		drawn, err := plotter.NewLine(logarithms(l.points))
		if err != nil {
			return nil, 0, 0, fmt.Errorf("plotting %s: %w", p.Name, err)
		}
		drawn.LineStyle = l.style
		if !p.loose {
			pl.Add(drawn)
		}
		if p.points {
			marks, err := plotter.NewScatter(logarithms(l.points))
			if err != nil {
				return nil, 0, 0, fmt.Errorf("plotting %s: %w", p.Name, err)
			}
			marks.GlyphStyle = glyphStyle(i)
			pl.Add(unboxed{marks})
		}
		if l.name != "" {
			entries = append(entries, p.lines[i])
			widest = max(widest, legend.TextStyle.Width(l.name))
		}
	}
	for _, l := range p.inOrder(entries) {
		t := thumbnail{style: l.style, loose: p.loose}
		if p.points {
			i := slices.IndexFunc(p.lines, func(o line) bool { return o.name == l.name })
			s := glyphStyle(i)
			t.glyph = &s
		}
		legend.Add(l.name, t)
	}
	p.scale(pl)
	side := widest + legend.ThumbnailWidth + 24
	w = plotWidth + side + 2*margin
	h = max(plotHeight, vg.Length(len(entries))*(legend.TextStyle.Height("x")+10)+50) + 2*margin + footer
	facts := textStyle(8)
	return func(c draw.Canvas) {
		inner := draw.Crop(c, margin, -margin, margin, -margin)
		inner.FillText(facts, inner.Min, p.Facts)
		inner = draw.Crop(inner, 0, 0, footer, 0)
		pl.Draw(draw.Crop(inner, 0, -side, 0, 0))
		legend.Draw(draw.Crop(inner, inner.Max.X-inner.Min.X-side+16, 0, 0, -26))
	}, w, h, nil
}

// scale sets the axes to the values of the lines.
func (p *Plot) scale(pl *plot.Plot) {
	xmin, xmax, ymin, ymax := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, l := range p.lines {
		for _, v := range l.points {
			xmin, xmax, ymin, ymax = min(xmin, v.X), max(xmax, v.X), min(ymin, v.Y), max(ymax, v.Y)
		}
	}
	set := func(a *plot.Axis, from, to float64, ticks plot.Ticker) {
		a.Min, a.Max, a.Tick.Marker = math.Log10(from), math.Log10(to), logTicks{ticks}
	}
	from, to := widen(ymin, ymax)
	set(&pl.Y, from, to, timeTicks())
	if p.percentile {
		set(&pl.X, 1, xmax, percentileTicks{})
		return
	}
	from, to = widen(xmin, xmax)
	set(&pl.X, from, to, countTicks())
}

// inOrder puts the entries of the legend in the order in which the lines lie above each other.
func (p *Plot) inOrder(entries []line) []line {
	slices.SortStableFunc(entries, func(a, b line) int {
		switch va, vb := middle(a.points), middle(b.points); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return 0
	})
	return entries
}

// middle is the value at the median of a percentile curve, or at the end of a line.
func middle(xy plotter.XYs) float64 {
	for _, p := range xy {
		if p.X >= 2 {
			return p.Y
		}
	}
	return xy[len(xy)-1].Y
}

// SVG writes the plot on white, as a file of its own.
func (p *Plot) SVG(w io.Writer) error {
	text, err := p.svg(color.White)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("writing %s: %w", p.Name, err)
	}
	return nil
}

// inline returns the plot for a page: without a background, in the colour of the page's text.
func (p *Plot) inline() (string, error) {
	text, err := p.svg(nil)
	if err != nil {
		return "", err
	}
	_, text, _ = strings.Cut(text, "-->\n")
	return strings.NewReplacer("stroke:#000000", "stroke:currentColor", "<svg ", `<svg fill="currentColor" role="img" `).Replace(text), nil
}

func (p *Plot) svg(background color.Color) (string, error) {
	paint, width, height, err := p.layout()
	if err != nil {
		return "", err
	}
	c := vgsvg.New(width, height)
	dc := draw.New(c)
	if background != nil {
		dc.SetColor(background)
		dc.Fill(dc.Rectangle.Path())
	}
	paint(dc)
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("drawing %s: %w", p.Name, err)
	}
	// The fonts of the same widths on other systems, and a name for who cannot see it.
	text := strings.ReplaceAll(b.String(), "font-family:Liberation Sans", "font-family:'Liberation Sans',Arimo,Arial,Helvetica,sans-serif")
	head, body, ok := strings.Cut(text, "xlink\">\n")
	if !ok {
		return "", fmt.Errorf("drawing %s: the plotting library writes another head of an SVG", p.Name)
	}
	return head + "xlink\">\n<title>" + html.EscapeString(p.Title) + "</title>\n" + body, nil
}

// PNG writes the plot on white, at 144 dots per inch.
func (p *Plot) PNG(w io.Writer) error {
	paint, width, height, err := p.layout()
	if err != nil {
		return err
	}
	c := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(pngDPI))
	paint(draw.New(c))
	if _, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(w); err != nil {
		return fmt.Errorf("writing %s: %w", p.Name, err)
	}
	return nil
}
