// SPDX-License-Identifier: Apache-2.0

package report

import (
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/arbiterd/arbiter/bench"
)

// palette is that of Okabe and Ito without its black and yellow: it can be told apart with every kind of
// colour blindness, and each is seen on white and on nearly black. Those with the least contrast on white
// come last, and the grey is what baselines have.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xB2, 0xff}, // blue
	color.RGBA{0xD5, 0x5E, 0x00, 0xff}, // vermilion
	color.RGBA{0x00, 0x9E, 0x73, 0xff}, // green
	color.RGBA{0xCC, 0x79, 0xA7, 0xff}, // purple
	color.RGBA{0xE6, 0x9F, 0x00, 0xff}, // orange
	color.RGBA{0x56, 0xB4, 0xE9, 0xff}, // sky
	color.RGBA{0x8C, 0x8C, 0x8C, 0xff}, // grey
}

const grey = 6 // the place in palette

// dashes tell lines of one colour apart, and lines apart for who sees no colour.
var dashes = [][]vg.Length{nil, {6, 3}, {1.5, 2.5}, {8, 3, 1.5, 3}, {3, 3}}

// lineStyle returns the look of line i: colours first, then dashes.
func lineStyle(i int) draw.LineStyle {
	return draw.LineStyle{Color: palette[i%len(palette)], Width: 1.6, Dashes: dashes[i/len(palette)%len(dashes)]}
}

// glyphs mark points, a shape for each colour.
var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.CrossGlyph{}}

func glyphStyle(i int) draw.GlyphStyle {
	return draw.GlyphStyle{Color: palette[i%len(palette)], Radius: 3.2, Shape: glyphs[i%len(glyphs)]}
}

// grid is drawn behind the data, in a grey that is faint on white and on black.
var grid = draw.LineStyle{Color: color.NRGBA{0x80, 0x80, 0x80, 0x50}, Width: 0.5}

func textStyle(size vg.Length) text.Style {
	return text.Style{Color: color.Black, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size), Handler: plot.DefaultTextHandler}
}

// newPlot returns an empty plot. Its axes are linear: what is drawn is the logarithms of the values, so that
// the library puts its labels into the middle of an axis.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = title
	p.Title.Padding = 8
	size := func(s *text.Style, size vg.Length) { s.Font = textStyle(size).Font }
	size(&p.Title.TextStyle, 13)
	for _, a := range []struct {
		axis *plot.Axis
		name string
	}{{&p.X, x}, {&p.Y, y}} {
		a.axis.Label.Text = a.name
		a.axis.Label.Padding = 4
		size(&a.axis.Label.TextStyle, 11)
		size(&a.axis.Tick.Label, 10)
		a.axis.Padding = 3
	}
	return p
}

// logTicks puts the ticks of values where their logarithms are.
type logTicks struct{ plot.Ticker }

// Ticks returns the ticks from min to max, which are logarithms.
func (l logTicks) Ticks(min, max float64) []plot.Tick {
	ticks := l.Ticker.Ticks(math.Pow(10, min), math.Pow(10, max))
	for i := range ticks {
		ticks[i].Value = math.Log10(ticks[i].Value)
	}
	return ticks
}

// logarithms returns the points as they are drawn.
func logarithms(xy plotter.XYs) plotter.XYs {
	out := make(plotter.XYs, len(xy))
	for i, p := range xy {
		out[i] = plotter.XY{X: math.Log10(p.X), Y: math.Log10(p.Y)}
	}
	return out
}

// percentileTicks are where a percentile plot is labelled: at 1/(1-q) for the quantile q.
type percentileTicks struct{}

// Ticks returns the percentiles up to max.
func (percentileTicks) Ticks(_, max float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 1, Label: "0%"}, {Value: 2, Label: "50%"}}
	label := "90"
	for v := 10.0; v <= max*1.001; v *= 10 {
		ticks = append(ticks, plot.Tick{Value: v, Label: label + "%"})
		switch label {
		case "90":
			label = "99"
		case "99":
			label = "99.9"
		default:
			label += "9"
		}
	}
	return ticks
}

// decadeTicks label the powers of ten with a text, and mark twice and five times them.
type decadeTicks struct{ label func(float64) string }

// Ticks returns the ticks from min to max.
func (d decadeTicks) Ticks(min, max float64) []plot.Tick {
	var ticks []plot.Tick
	narrow := max/min < 30 // too few powers of ten: the others are labelled as well
	for v := math.Pow(10, math.Floor(math.Log10(min)+1e-9)); v <= max*1.001; v *= 10 {
		for _, k := range []float64{1, 2, 5} {
			t := plot.Tick{Value: v * k}
			if k == 1 || narrow {
				t.Label = d.label(v * k)
			}
			if v*k >= min*0.999 && v*k <= max*1.001 {
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}

// roundZeros takes away the digits that say how well a figure is known: a tick is exact.
var roundZeros = strings.NewReplacer(".00 ", " ", ".0 ", " ")

func timeTicks() plot.Ticker {
	return decadeTicks{func(ns float64) string { return roundZeros.Replace(bench.Span(int64(math.Round(ns)))) }}
}

func countTicks() plot.Ticker {
	return decadeTicks{func(n float64) string { return thousands(int64(math.Round(n))) }}
}

// thousands prints a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// widen returns the decades, or their halves and fifths, around values from low to high, which are above 0.
func widen(low, high float64) (from, to float64) {
	steps := []float64{1, 2, 5, 10}
	decade := math.Pow(10, math.Floor(math.Log10(low)+1e-9))
	from = decade
	for _, s := range steps {
		if decade*s <= low*1.001 {
			from = decade * s
		}
	}
	decade = math.Pow(10, math.Floor(math.Log10(high)+1e-9))
	for _, s := range steps {
		if to = decade * s; to >= high*0.999 {
			break
		}
	}
	if to <= from {
		to = from * 10
	}
	return from, to
}
