// Package report says how a measurement compares with its goal.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Goal is what a value has to be.
type Goal struct {
	Bound   float64 `json:"bound"`
	AtLeast bool    `json:"at_least,omitempty"` // otherwise at most
}

// AtMost is the goal of a value that should be small.
func AtMost(bound float64) Goal { return Goal{Bound: bound} }

// AtLeast is the goal of a value that should be large.
func AtLeast(bound float64) Goal { return Goal{Bound: bound, AtLeast: true} }

// Met reports whether a value meets the goal.
func (g Goal) Met(value float64) bool {
	if g.AtLeast {
		return value >= g.Bound
	}
	return value <= g.Bound
}

func (g Goal) String() string {
	if g.AtLeast {
		return fmt.Sprintf(">=%g", g.Bound)
	}
	return fmt.Sprintf("<=%g", g.Bound)
}

// Side is what one of the two sides took: a figure for each run.
type Side struct {
	Name string    `json:"name"`
	Unit string    `json:"unit"`
	Runs []float64 `json:"runs"`
}

// Row is one measurement.
type Row struct {
	Name      string   `json:"name"`
	What      string   `json:"what"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit,omitempty"` // "" for a ratio
	Goal      Goal     `json:"goal"`
	Pass      bool     `json:"pass"`
	Transport string   `json:"transport"`
	Rows      string   `json:"rows_per_transaction"`
	Cores     int      `json:"cores"`
	Ours      Side     `json:"ours"`
	Theirs    *Side    `json:"theirs,omitempty"`
	Notes     []string `json:"notes,omitempty"`
	Commit    string   `json:"commit,omitempty"`  // of the code that was measured
	Machine   string   `json:"machine,omitempty"` // that it was measured on: rows are kept from run to run
}

// Median returns the middle of values, of an even number the lower one.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// Compare makes a row of a ratio, ours by theirs: the median of the ratios of the runs.
func Compare(name, what string, goal Goal, ours, theirs Side) Row {
	ratios := make([]float64, len(ours.Runs))
	for i := range ratios {
		ratios[i] = ours.Runs[i] / theirs.Runs[i]
	}
	r := Row{Name: name, What: what, Goal: goal, Value: Median(ratios), Ours: ours, Theirs: &theirs}
	r.Pass = goal.Met(r.Value)
	return r
}

// Absolute makes a row of the median of our own figures.
func Absolute(name, what string, goal Goal, ours Side) Row {
	v := Median(ours.Runs)
	return Row{Name: name, What: what, Goal: goal, Value: v, Unit: ours.Unit, Pass: goal.Met(v), Ours: ours}
}

// Worst makes a row of the largest of our own figures.
func Worst(name, what string, goal Goal, ours Side) Row {
	v := slices.Max(ours.Runs)
	return Row{Name: name, What: what, Goal: goal, Value: v, Unit: ours.Unit, Pass: goal.Met(v), Ours: ours}
}

// In says how a row was measured.
func (r Row) In(transport, rows string, cores int, notes ...string) Row {
	r.Transport, r.Rows, r.Cores, r.Notes = transport, rows, cores, notes
	return r
}

// Verdict is pass or FAIL.
func (r Row) Verdict() string {
	if r.Pass {
		return "pass"
	}
	return "FAIL"
}

// Print writes a row: a line with name, value, goal and verdict, and what is behind it.
func (r Row) Print(w io.Writer) error {
	unit := r.Unit
	if unit != "" {
		unit = " " + unit
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %9.3f%-5s %8s  %s\n", r.Name, r.Value, unit, r.Goal, r.Verdict())
	fmt.Fprintf(&b, "    %s (%s, %s rows a transaction, %d cores)\n", r.What, r.Transport, r.Rows, r.Cores)
	for _, s := range []*Side{&r.Ours, r.Theirs} {
		if s != nil {
			fmt.Fprintf(&b, "    %s: %.4g %s of %s\n", s.Name, Median(s.Runs), s.Unit, figures(s.Runs))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "    %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func figures(runs []float64) string {
	text := make([]string, len(runs))
	for i, f := range runs {
		text[i] = fmt.Sprintf("%.4g", f)
	}
	return "[" + strings.Join(text, " ") + "]"
}
