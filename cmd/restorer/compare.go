package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"tidemark/internal/cli"
	"tidemark/internal/fault"
	"tidemark/pitr"
)

type compareCmd struct {
	targetFlags
	cli.Output
	With          string       `help:"The live database to compare with. PG* variables, service files and .pgpass work." placeholder:"DSN"`
	Table         cli.Patterns `help:"Only tables matching this pattern, such as public.orders or shop.* (repeatable)." placeholder:"PATTERN"`
	Apply         string       `help:"missing: put rows that the live tables lack back, in one transaction." enum:",missing" default:"" placeholder:"missing"`
	Scratch       string       `help:"Scratch database to restore the archive's side into; it must not exist, and is dropped in the end. Default: beside the live one." placeholder:"DSN"`
	AcceptInexact bool         `help:"Go past changes that the archive says it can't replay exactly."`
	Jobs          int          `help:"Connections that load and index in parallel." default:"4" placeholder:"4"`
	Limit         int          `help:"Rows to show of each table; 0 is all. JSON always has all." default:"20" placeholder:"20"`
}

// Help is shown by compare --help.
func (*compareCmd) Help() string {
	return `Restores the tables, as they were at the target, into a scratch database beside the live one, and compares row by row:
missing rows are in the archive alone, extra ones in the live table alone, different ones have the same key and other values. Rows are
matched by the primary key or another unique key; without one, by all their values. Exit code 8 says that something differs.

With --apply missing, missing rows are put back into the live tables: all in one transaction, or none. Foreign keys are checked, the
tables' own triggers don't fire, rows that are there stay as they are.

With -o json each differing row is an object of its own, and the last object is the summary.

Examples:

    restorer compare --with postgres://admin@db/shop --table public.orders --to-xid 771 --exclusive
    restorer compare --with postgres://admin@db/shop --table 'public.order*' --to-time now-70m --apply missing
    restorer compare --with service=shop --scratch postgres://admin@spare/scratch -o json | jq -c 'select(.kind == "missing") | .key'`
}

// Run compares and reports.
func (c *compareCmd) Run(ctx context.Context, env *cli.Env) error {
	if c.With == "" && os.Getenv("PGDATABASE") == "" && os.Getenv("PGSERVICE") == "" {
		return fault.New(fault.Usage, "give --with DSN, such as --with postgres://admin@db/shop", "no database to compare with was named")
	}
	target, err := c.target(env)
	if err != nil {
		return err
	}
	store, view, err := open(ctx, env, longPatience)
	if err != nil {
		return err
	}
	archive := pitr.NewArchive(store, view)
	plan, err := pitr.MakePlan(ctx, archive, target, time.Local)
	if err != nil {
		return err
	}
	show := &phases{env: env}
	out := bufio.NewWriter(env.Stdout)
	report, err := pitr.Compare(ctx, pitr.CompareOptions{
		Archive: archive, Plan: plan, With: c.With, Scratch: c.Scratch, Tables: c.Table, Jobs: c.Jobs, AcceptInexact: c.AcceptInexact, ApplyMissing: c.Apply == "missing",
		Row: c.row(out), Progress: show.show, Confirm: func(p *pitr.Plan) error { return p.WriteText(env.Stderr, time.Local) },
		Log: env.Log, Now: env.Now,
	})
	show.close()
	if err != nil {
		_ = out.Flush() // what was found before is worth showing
		return err
	}
	if err := c.print(out, report); err != nil {
		return err
	}
	if !report.Equal {
		return fault.New(fault.Finding, c.hint(report), "%s differs from the archive at %s", report.Database, report.Target.Describe(time.Local))
	}
	return nil
}

// hint says what can be done about what differs.
func (c *compareCmd) hint(r *pitr.CompareReport) string {
	missing := false
	for _, t := range r.Tables {
		missing = missing || t.Missing > t.PutBack && !t.OnlyArchive
	}
	if missing && c.Apply == "" {
		return "the same command with --apply missing puts missing rows back"
	}
	return "restorer restore --as-schema puts the archived rows beside the live ones"
}

// row prints a difference; nobody can read thousands of them, a program can.
func (c *compareCmd) row(out *bufio.Writer) func(pitr.RowDifference) error {
	if c.JSON() {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return func(d pitr.RowDifference) error { return encoder.Encode(d) }
	}
	table, shown := "", 0
	return func(d pitr.RowDifference) error {
		if d.Table != table {
			table, shown = d.Table, 0
		}
		shown++
		switch {
		case c.Limit == 0 || shown <= c.Limit:
			fmt.Fprintln(out, describeRow(d))
		case shown == c.Limit+1:
			fmt.Fprintf(out, "…          %s: more rows differ; --limit 0 or -o json shows all\n", d.Table)
		}
		return nil
	}
}

func describeRow(d pitr.RowDifference) string {
	s := fmt.Sprintf("%-10s %s", d.Kind, d.Table)
	if d.Count > 1 {
		s += fmt.Sprintf(" (%d times)", d.Count)
	}
	switch d.Kind {
	case pitr.RowMissing:
		return s + " " + d.Archive.String()
	case pitr.RowExtra:
		return s + " " + d.Live.String()
	}
	return s + " " + d.Key.String() + " archive: " + d.Archive.String() + " live: " + d.Live.String()
}

func (c *compareCmd) print(out *bufio.Writer, r *pitr.CompareReport) error {
	if c.JSON() {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(r); err != nil {
			return err
		}
		return out.Flush()
	}
	fmt.Fprintf(out, "%s compared with the archive at %s: reached LSN %s, %s\n\n", r.Database, r.Target.Describe(time.Local), r.ReachedLSN, cli.Moment(r.ReachedTime))
	table := cli.NewTable("table", ">archive", ">live", ">missing", ">different", ">extra", ">put back", "remarks")
	for _, t := range r.Tables {
		table.Row(t.Table, cli.Count(t.ArchiveRows), cli.Count(t.LiveRows), cli.Count(t.Missing), cli.Count(t.Different), cli.Count(t.Extra), cli.Count(t.PutBack), remarks(t))
	}
	if err := table.Write(out); err != nil {
		return err
	}
	for _, note := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", note)
	}
	return out.Flush()
}

func remarks(t pitr.TableDifference) string {
	var s []string
	switch {
	case t.OnlyArchive:
		s = append(s, "no such live table")
	case t.OnlyLive:
		s = append(s, "not in the archive at the target")
	case len(t.Key) == 0:
		s = append(s, "no key: matched by all values")
	}
	if len(t.ArchiveColumns) > 0 {
		s = append(s, "not compared, not in the live table: "+strings.Join(t.ArchiveColumns, ", "))
	}
	if len(t.LiveColumns) > 0 {
		s = append(s, "not compared, not in the archive: "+strings.Join(t.LiveColumns, ", "))
	}
	return strings.Join(s, "; ")
}
