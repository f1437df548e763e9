// Package chart draws lines as SVG, readable on light pages and on dark ones.
package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Chart is one picture.
type Chart struct {
	File  string // its name, such as "limit.svg"
	Title string
	X, Y  string  // what the axes show, with its unit
	LogX  bool    // each step along the X axis multiplies
	YFrom float64 // where the Y axis begins, if not at 0; what lies below is not shown
	Lines []Line
	// Limit is a value of Y that a dashed line marks; 0 = none.
	Limit     float64
	LimitName string
	Marks     []Mark
}

// Mark is something that happened at a value of X.
type Mark struct {
	X    float64
	Name string
}

// Line is a named series of points, in the order of X.
type Line struct {
	Name   string
	Points []Point
}

// Point is one figure.
type Point struct{ X, Y float64 }

// The picture's size and where the area of the lines lies in it. The legend is below.
const (
	width, top            = 760.0, 50.0
	left, right, areaHigh = 70.0, 20.0, 280.0
	legendRow, legendCol  = 22.0, 340.0
)

// colours are told apart by people who see few colours, and on both backgrounds; lines
// that use one again are dashed.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// style follows the reader's choice of a dark page.
const style = `
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.page { fill: #ffffff }
.grid { stroke: #d0d7de; stroke-width: 1 }
.limit { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 6 4 }
.mark { stroke: #8250df; stroke-width: 1.5 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .limit { stroke: #8b949e }
  .mark { stroke: #a371f7 }
}`

// WriteSVG draws the chart. A chart needs at least one point, and points above 0 if
// LogX is set.
func (c Chart) WriteSVG(w io.Writer) error {
	xs, ys, err := c.axes()
	if err != nil {
		return err
	}
	entries := len(c.Lines)
	if c.Limit != 0 {
		entries++
	}
	bottom := top + areaHigh
	high := bottom + 58 + legendRow*math.Ceil(float64(entries)/2)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`+"\n<style>%s\n</style>\n", width, high, escape(c.Title), style)
	fmt.Fprintf(&b, `<rect class="page" width="%.0f" height="%.0f"/>`+"\n", width, high)
	fmt.Fprintf(&b, `<text class="title" x="%.0f" y="24">%s</text>`+"\n", left, escape(c.Title))
	for _, v := range ys.ticks() {
		y := ys.at(v)
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %.1fH%.1f"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y, width-right, left-8, y+4, figure(v))
	}
	for _, v := range xs.ticks() {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", xs.at(v), bottom+20, figure(v))
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, bottom+40, escape(c.X))
	fmt.Fprintf(&b, `<text x="%.1f" y="42">%s</text>`+"\n", left, escape(c.Y))
	legend := func(i int, name, mark string) {
		x, y := left+legendCol*float64(i%2), bottom+62+legendRow*float64(i/2)
		fmt.Fprintf(&b, `<path %s d="M%.1f %.1fh24"/><text x="%.1f" y="%.1f">%s</text>`+"\n", mark, x, y-4, x+32, y, escape(name))
	}
	for _, m := range c.Marks {
		x := xs.at(m.X)
		fmt.Fprintf(&b, `<path class="mark" d="M%.1f %.1fV%.1f"/><text x="%.1f" y="%.1f">%s</text>`+"\n", x, top, bottom, x+5, top+14, escape(m.Name))
	}
	fmt.Fprintf(&b, `<clipPath id="area"><rect x="%.0f" y="%.0f" width="%.0f" height="%.0f"/></clipPath>`+"\n", left, top-1, width-left-right, areaHigh+2)
	// The first line is drawn last, over the others.
	for i, l := range slices.Backward(c.Lines) {
		fmt.Fprintf(&b, `<path %s clip-path="url(#area)" d="%s"/>`+"\n", mark(i), path(l.Points, xs, ys))
		legend(i, l.Name, mark(i))
	}
	if c.Limit != 0 {
		const dashes = `class="limit"`
		fmt.Fprintf(&b, `<path %s d="M%.1f %.1fH%.1f"/>`+"\n", dashes, left, ys.at(c.Limit), width-right)
		legend(len(c.Lines), c.LimitName, dashes)
	}
	b.WriteString("</svg>\n")
	_, err = io.WriteString(w, b.String())
	return err
}

func mark(i int) string {
	m := `class="line" stroke="` + colours[i%len(colours)] + `"`
	if i >= len(colours) {
		m += ` stroke-dasharray="2 3"`
	}
	return m
}

func path(points []Point, xs, ys axis) string {
	var b strings.Builder
	for i, p := range points {
		move := "L"
		if i == 0 {
			move = "M"
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", move, xs.at(p.X), ys.at(p.Y))
	}
	return b.String()
}

func escape(s string) string { return html.EscapeString(s) }

// figure shows a tick: 250, 1.5, 20 k, 10 M.
func figure(v float64) string {
	v += 0 // a minus before nothing goes away
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, " M"}, {1e3, " k"}} {
		if math.Abs(v) >= 10*unit.size || v == unit.size && unit.size > 1e3 {
			return strconv.FormatFloat(v/unit.size, 'g', 6, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
