package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG(t *testing.T) {
	c := Chart{Title: "a < b", X: "rules", Y: "packets/s", Lines: []Line{
		{"one", []Point{{10, 1e5, 9e4, 2e5}, {1000, 1e5, 9e4, 2e5}}},
		{"two & three", []Point{{10, 100, 90, 110}}},
	}}
	var b strings.Builder
	if err := c.SVG(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v\n%s", err, &b)
		}
	}
	for what, want := range map[string]int{"<circle": 3, "a &lt; b": 1, "two &amp; three": 1, ">100k<": 1, ">1k<": 2, "NaN": 0, "%!": 0} {
		if got := strings.Count(b.String(), what); got != want {
			t.Errorf("%q is there %d times, want %d:\n%s", what, got, want, &b)
		}
	}
}

// A point lies where its axes have it: higher values further up and to the right.
func TestScales(t *testing.T) {
	s := scale{least: 1, most: 100, from: 0, to: 200}
	for v, want := range map[float64]float64{1: 0, 10: 100, 100: 200} {
		if got := s.at(v); got < want-0.01 || got > want+0.01 {
			t.Errorf("%g is at %g, want %g", v, got, want)
		}
	}
}

func TestSVGRefuses(t *testing.T) {
	for name, lines := range map[string][]Line{"nothing": nil, "zero": {{"x", []Point{{X: 10, Y: 0, Low: 0, High: 1}}}}} {
		if err := (Chart{Lines: lines}).SVG(io.Discard); err == nil {
			t.Errorf("%s was drawn on a logarithmic axis", name)
		}
	}
}
