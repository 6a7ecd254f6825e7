// Package chart draws lines into an SVG file, both axes logarithmic: just what the
// benchmarks need.
package chart
