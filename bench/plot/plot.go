// Package plot draws throughput and memory over size.
package plot

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"tidemark/bench/report"
)

// The picture: two panels beside each other.
const (
	width, height = 880, 330
	panelWidth    = 330
	panelHeight   = 220
	top           = 50
)

// series is a line of a panel.
type series struct {
	name, color string
	dash        bool
	value       func(report.Point) float64
}

// panel is one diagram: sizes on a logarithmic axis, values from zero.
type panel struct {
	left   float64
	title  string
	unit   string
	series []series
}

var panels = []panel{
	{60, "throughput", "thousand events a second", []series{
		{"archiver", "#1f6fb4", false, func(p report.Point) float64 { return rate(p.Events, p.ArchiveSeconds) }},
		{"pg_recvlogical", "#888888", true, func(p report.Point) float64 { return rate(p.Events, p.ReferenceSeconds) }},
		{"restorer", "#c2571a", false, func(p report.Point) float64 { return rate(p.Events, p.RestoreSeconds) }},
	}},
	{500, "resident memory at most", "MiB", []series{
		{"archiver", "#1f6fb4", false, func(p report.Point) float64 { return float64(p.ArchiveMemory) / (1 << 20) }},
		{"restorer", "#c2571a", false, func(p report.Point) float64 { return float64(p.RestoreMemory) / (1 << 20) }},
	}},
}

func rate(events int, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(events) / seconds / 1000
}

// Write draws the points into an SVG file.
func Write(path string, points []report.Point) error {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b report.Point) int { return a.Events - b.Events })
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for _, p := range panels {
		p.draw(&b, points)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func (p panel) draw(b *strings.Builder, points []report.Point) {
	most := 0.0
	for _, s := range p.series {
		for _, pt := range points {
			most = max(most, s.value(pt))
		}
	}
	step := niceStep(most)
	most = math.Max(step, math.Ceil(most/step)*step)
	low, high := math.Log10(float64(points[0].Events)), math.Log10(float64(points[len(points)-1].Events))
	if high == low {
		high++
	}
	x := func(events int) float64 {
		return p.left + (math.Log10(float64(events))-low)/(high-low)*panelWidth
	}
	y := func(v float64) float64 { return top + panelHeight - v/most*panelHeight }
	fmt.Fprintf(b, `<text x="%.0f" y="20" font-weight="bold">%s</text><text x="%.0f" y="36" fill="#555">%s</text>`+"\n", p.left, p.title, p.left, p.unit)
	for v := 0.0; v <= most+step/2; v += step {
		fmt.Fprintf(b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%g</text>`+"\n",
			p.left, p.left+panelWidth, y(v), y(v), p.left-6, y(v)+4, v)
	}
	for _, pt := range points {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(pt.Events), top+panelHeight+18, short(pt.Events))
	}
	for i, s := range p.series {
		s.draw(b, points, x, y)
		at := p.left + float64(i)*120
		fmt.Fprintf(b, `<line x1="%.0f" x2="%.0f" y1="%d" y2="%d" stroke="%s" stroke-width="2"%s/><text x="%.0f" y="%d">%s</text>`+"\n",
			at, at+18, height-20, height-20, s.color, dashes(s.dash), at+23, height-16, s.name)
	}
}

func (s series) draw(b *strings.Builder, points []report.Point, x func(int) float64, y func(float64) float64) {
	var path []string
	for _, pt := range points {
		if v := s.value(pt); v > 0 {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(pt.Events), y(v)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(pt.Events), y(v), s.color)
		}
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, " "), s.color, dashes(s.dash))
}

func dashes(on bool) string {
	if on {
		return ` stroke-dasharray="5 4"`
	}
	return ""
}

// niceStep is 1, 2 or 5 times a power of ten, for four to eight lines.
func niceStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, f := range []float64{5, 2} {
		if most/(f*power) >= 4 {
			return f * power
		}
	}
	return power
}

// short writes 10000 as 10k.
func short(n int) string {
	switch {
	case n >= 1e6 && n%1e6 == 0:
		return fmt.Sprintf("%dM", n/1e6)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	default:
		return fmt.Sprint(n)
	}
}
