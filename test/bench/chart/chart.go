package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// Point is a value, and between what most samples lie. All are above 0.
type Point struct{ X, Y, Low, High float64 }

// Line is some points with a name.
type Line struct {
	Name   string
	Points []Point
}

// Chart is lines over named axes.
type Chart struct {
	Title, X, Y string
	Lines       []Line
}

// The size of the picture and of the frame in it, in pixels.
const (
	width, height       = 760, 420
	left, right         = 80, 520
	top, bottom         = 50, 360
	legend              = 540
	marker              = 4
	tickLength          = 5
	headroom            = 1.3 // of the axis above the greatest value, and below the least
	labelBelow, rowOfIt = 18, 22
)

// colours of lines, told apart by those who do not see all colours (Okabe and Ito).
var colours = []string{"#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// scale maps values of an axis to pixels.
type scale struct{ least, most, from, to float64 }

func (s scale) at(v float64) float64 {
	return s.from + (s.to-s.from)*math.Log(v/s.least)/math.Log(s.most/s.least)
}

// decades are the powers of ten on the axis.
func (s scale) decades() (out []float64) {
	for e := math.Ceil(math.Log10(s.least)); e <= math.Log10(s.most); e++ {
		out = append(out, math.Pow(10, e))
	}
	return out
}

func (c Chart) scales() (x, y scale, err error) {
	var xs, ys []float64
	for _, l := range c.Lines {
		for _, p := range l.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y, p.Low, p.High)
		}
	}
	if len(xs) == 0 || slices.Min(xs) <= 0 || slices.Min(ys) <= 0 {
		return x, y, fmt.Errorf("draw %q: a logarithmic axis needs points, all above 0", c.Title)
	}
	x = scale{slices.Min(xs) / headroom, slices.Max(xs) * headroom, left, right}
	y = scale{slices.Min(ys) / headroom, slices.Max(ys) * headroom, bottom, top}
	return x, y, nil
}

// SVG writes the picture.
func (c Chart) SVG(w io.Writer) error {
	x, y, err := c.scales()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="15">%s</text>`+"\n", left, top/2, html.EscapeString(c.Title))
	c.axes(&b, x, y)
	for i, l := range c.Lines {
		l.draw(&b, x, y, i)
	}
	b.WriteString("</svg>\n")
	_, err = io.WriteString(w, b.String())
	return err
}

func (c Chart) axes(b *strings.Builder, x, y scale) {
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#444"/>`+"\n", left, top, bottom, right)
	for _, v := range x.decades() {
		fmt.Fprintf(b, `<path d="M%.1f %dv%d" stroke="#444"/><text x="%.1[1]f" y="%[4]d" text-anchor="middle">%[5]s</text>`+"\n",
			x.at(v), bottom, tickLength, bottom+labelBelow, number(v))
	}
	for _, v := range y.decades() {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y.at(v), right, left-2*tickLength, y.at(v)+marker, number(v))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+right)/2, bottom+2*rowOfIt, html.EscapeString(c.X))
	fmt.Fprintf(b, `<text transform="translate(%d %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", labelBelow, (top+bottom)/2, html.EscapeString(c.Y))
}

func (l Line) draw(b *strings.Builder, x, y scale, i int) {
	colour := colours[i%len(colours)]
	var path strings.Builder
	for j, p := range l.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x.at(p.X), y.at(p.Y))
	}
	fmt.Fprintf(b, `<g stroke="%s" fill="%[1]s"><path d="%s" fill="none" stroke-width="2"/>`, colour, path.String())
	for _, p := range l.Points {
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f"/><circle cx="%.1[1]f" cy="%.1[4]f" r="%[5]d"/>`, x.at(p.X), y.at(p.Low), y.at(p.High), y.at(p.Y), marker)
	}
	at := top + rowOfIt*i
	fmt.Fprintf(b, `<path d="M%d %dh%d" stroke-width="2"/></g><text x="%d" y="%d">%s</text>`+"\n",
		legend, at, rowOfIt, legend+rowOfIt+2*marker, at+marker, html.EscapeString(l.Name))
}

// number writes a power of ten as people read it.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
