// Command bench measures Tidemark from outside: the built programs, real servers, and beside them what
// else does the same. It prints each figure with its goal.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"tidemark/bench/lab"
	"tidemark/bench/plot"
	"tidemark/bench/report"
	"tidemark/bench/rows"
	"tidemark/internal/testserver/postgres"
)

type options struct {
	rows, out, docs, bin string
	runs                 int
	scale                float64
	strict, list, render bool
}

func main() {
	var o options
	flag.StringVar(&o.rows, "rows", "", "measure only rows that one of these patterns matches, such as 'drain*,follow-1' (default: all)")
	flag.IntVar(&o.runs, "runs", 3, "runs of each side of a comparison")
	flag.Float64Var(&o.scale, "scale", 1, "multiplies every size: 0.1 for a quick look")
	flag.StringVar(&o.out, "out", "bench/results.json", "where the results go, beside those of earlier runs for rows that this one leaves out; \"\" for nowhere")
	flag.StringVar(&o.docs, "docs", "", "folder of performance.md and performance.svg, to put the results into")
	flag.BoolVar(&o.render, "render", false, "measure nothing: only put what -out holds into -docs")
	flag.StringVar(&o.bin, "bin", "", "folder of archiver and restorer (default: they are built)")
	flag.BoolVar(&o.strict, "strict", false, "exit with 1 if a goal was missed")
	flag.BoolVar(&o.list, "list", false, "list the rows and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missed, err := run(ctx, o)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(2)
	case missed && o.strict:
		stop()
		os.Exit(1)
	}
}

// run measures what was asked for, and tells whether a goal was missed. An error says what could not be measured.
func run(ctx context.Context, o options) (missed bool, err error) {
	want := wanted(o.rows)
	if o.list {
		for _, s := range rows.All {
			fmt.Println(strings.Join(s.Rows, "\n"))
		}
		return false, nil
	}
	if o.render {
		return false, render(o)
	}
	l, done, err := open(ctx, o)
	if err != nil {
		return false, err
	}
	defer done()
	results := describe(o)
	for _, s := range rows.All {
		if !slices.ContainsFunc(s.Rows, want) || ctx.Err() != nil {
			continue
		}
		if err := measure(ctx, l, s, want, &results); err != nil {
			l.Logf("%s was not measured: %v", s.Name, err)
			results.Failed = append(results.Failed, fmt.Sprintf("%s: %v", s.Name, err))
		}
	}
	return finish(o, results)
}

func wanted(patterns string) func(string) bool {
	if patterns == "" {
		return rows.Matching(nil)
	}
	return rows.Matching(strings.Split(patterns, ","))
}

func open(ctx context.Context, o options) (*lab.Lab, func(), error) {
	l := &lab.Lab{Bin: o.bin, Runs: o.runs, Scale: o.scale, Logf: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
	}}
	if l.Bin != "" {
		return l, func() {}, nil
	}
	var err error
	if l.Bin, err = lab.Build(ctx); err != nil {
		return nil, nil, err
	}
	return l, func() { os.RemoveAll(l.Bin) }, nil
}

func measure(ctx context.Context, l *lab.Lab, s rows.Scenario, want func(string) bool, results *report.Results) (err error) {
	l.Logf("%s", s.Name)
	stage, err := l.Stage()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := stage.Close(); err == nil {
			err = cerr
		}
	}()
	return s.Run(ctx, &rows.Bench{
		Stage: stage, Want: want,
		Add: func(r report.Row) {
			if want(r.Name) {
				r.Commit, r.Machine = results.Commit, results.Machine
				results.Rows = append(results.Rows, r)
				_ = r.Print(os.Stdout)
			}
		},
		Plot: func(p report.Point) { results.Sizes = append(results.Sizes, p) },
	})
}

func describe(o options) report.Results {
	r := report.Results{Began: time.Now().UTC(), Cores: runtime.NumCPU(), Machine: machine(), Scale: o.scale, Runs: o.runs}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	if b, err := postgres.FindBinaries(""); err == nil {
		if out, err := exec.Command(b.Path("postgres"), "--version").Output(); err == nil {
			r.Postgres = strings.TrimSpace(string(out))
		}
	}
	return r
}

// machine names the processor where the system tells.
func machine() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value) + ", " + runtime.GOOS + "/" + runtime.GOARCH
			}
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}

// finish prints the table, and writes what is kept.
func finish(o options, results report.Results) (missed bool, err error) {
	results.Seconds = time.Since(results.Began).Seconds()
	fmt.Printf("\n%-28s %14s %8s\n", "name", "value", "goal")
	for _, r := range results.Rows {
		fmt.Printf("%-28s %9.3f %-4s %8s  %s\n", r.Name, r.Value, r.Unit, r.Goal, r.Verdict())
		missed = missed || !r.Pass
	}
	if err := keep(o, &results); err != nil {
		return missed, err
	}
	if len(results.Failed) > 0 {
		return missed, fmt.Errorf("not measured:\n%s", strings.Join(results.Failed, "\n"))
	}
	return missed, nil
}

// keep writes the results where they were asked for.
func keep(o options, results *report.Results) error {
	if o.out == "" {
		return nil
	}
	if earlier, err := report.Load(o.out); err == nil && o.rows != "" {
		var names []string
		for _, s := range rows.All {
			names = append(names, s.Rows...)
		}
		results.Keep(earlier, names)
	}
	if err := results.Save(o.out); err != nil || o.docs == "" {
		return err
	}
	return render(o)
}

// render puts the results that were kept into the documentation.
func render(o options) error {
	results, err := report.Load(o.out)
	if err != nil {
		return err
	}
	if len(results.Sizes) > 0 {
		if err := plot.Write(filepath.Join(o.docs, "performance.svg"), results.Sizes); err != nil {
			return err
		}
	}
	return results.WriteTable(filepath.Join(o.docs, "performance.md"))
}
