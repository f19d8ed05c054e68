// Package rows holds the scenarios of the benchmarks: what is measured, against what, and the goals.
package rows

import (
	"context"
	"fmt"
	"path"
	"slices"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// Scenario prepares servers and archives once, and measures one or more rows with them.
type Scenario struct {
	Name string
	Rows []string // names of the rows that it can measure
	Run  func(ctx context.Context, b *Bench) error
}

// Bench is what a scenario works with.
type Bench struct {
	*lab.Stage
	Want func(row string) bool // whether a row was asked for
	Add  func(report.Row)
	Plot func(report.Point)
}

// WantAny reports whether one of the rows was asked for.
func (b *Bench) WantAny(rows ...string) bool { return slices.ContainsFunc(rows, b.Want) }

// All are the scenarios, in the order in which they run.
var All = []Scenario{
	drain, drainS3, stored, largeValues, live, durable,
	restoreCopy, physicalEvents, physicalBench, physicalLong, oneTable,
	follow, planYear, logDay, baseSnapshot, sizes,
}

// Matching returns a predicate of the names that one of the patterns (as of path.Match) takes; none: all.
func Matching(patterns []string) func(string) bool {
	return func(name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := path.Match(p, name)
			return ok && err == nil
		})
	}
}

const mib = 1 << 20

// pair gathers what both sides of a comparison take, run by run.
type pair struct{ ours, theirs []lab.Usage }

// interleave runs both sides in turn, and changes who begins.
func (b *Bench) interleave(ours, theirs func(run int) (lab.Usage, error)) (p pair, err error) {
	for run := range b.Runs {
		for side := range 2 {
			measure, into, name := ours, &p.ours, "ours"
			if (side+run)%2 == 1 {
				measure, into, name = theirs, &p.theirs, "theirs"
			}
			u, err := measure(run)
			if err != nil {
				return p, err
			}
			b.Logf("  run %d %s: %.2f s, CPU %.2f s, memory %d MiB", run+1, name, u.Wall.Seconds(), u.CPU.Seconds(), u.Memory/mib)
			*into = append(*into, u)
		}
	}
	return p, nil
}

// walsenders says what the walsenders of both sides took.
func (p pair) walsenders() string {
	used := func(usages []lab.Usage) float64 {
		return report.Median(side("", "", usages, func(u lab.Usage) float64 { return u.Walsender.Seconds() }).Runs)
	}
	return fmt.Sprintf("%.2f s for us, %.2f s for the other", used(p.ours), used(p.theirs))
}

func wall(name string, usages []lab.Usage) report.Side {
	return side(name, "s", usages, func(u lab.Usage) float64 { return u.Wall.Seconds() })
}

func cpu(name string, usages []lab.Usage) report.Side {
	return side(name, "CPU s", usages, func(u lab.Usage) float64 { return u.CPU.Seconds() })
}

func memory(name string, usages []lab.Usage) report.Side {
	return side(name, "MiB", usages, func(u lab.Usage) float64 { return float64(u.Memory) / mib })
}

func side(name, unit string, usages []lab.Usage, figure func(lab.Usage) float64) report.Side {
	s := report.Side{Name: name, Unit: unit}
	for _, u := range usages {
		s.Runs = append(s.Runs, figure(u))
	}
	return s
}
