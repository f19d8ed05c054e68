package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cli"
	"tidemark/internal/fault"
	"tidemark/pitr"
)

type restoreCmd struct {
	targetFlags
	cli.Output
	Into          string       `help:"Database to restore into: a URL or keyword/value string naming it. PG* variables, service files and .pgpass work." placeholder:"DSN"`
	Create        bool         `help:"Make that database; it must not exist. Without, it must exist and be empty."`
	Table         cli.Patterns `help:"Only tables matching this pattern, such as public.orders or shop.* (repeatable)." placeholder:"PATTERN"`
	AsSchema      string       `help:"Put the tables into this new schema of the database, beside what is there. With no --table: all of them." placeholder:"NAME"`
	Jobs          int          `help:"Connections that load and index in parallel." default:"4" placeholder:"4"`
	SchemaOnly    bool         `help:"No rows." xor:"part"`
	DataOnly      bool         `help:"Only rows, into tables that are there already and empty." xor:"part"`
	NoOwner       bool         `help:"Everything belongs to the connecting role."`
	NoPrivileges  bool         `help:"No GRANT and REVOKE."`
	NoFold        bool         `help:"Replay every change in order, also of rows of which only the last state is left."`
	AcceptInexact bool         `help:"Go past changes that the archive says it can't replay exactly, and past rows that break a foreign key."`
	IfEmpty       bool         `help:"A database that isn't empty is left alone, and that is a success."`
}

// Help is shown by restore --help.
func (*restoreCmd) Help() string {
	return `Prints the plan first: the last commit kept and the first left out, with time, transaction id and rows. A target
that the archive doesn't cover is refused (exit 3) before anything is touched, naming the nearest on both sides. It never picks
another target than the one asked for.

With --as-schema nothing outside the new schema is touched: types, functions and sequences that the tables need are made in it as well,
and foreign keys to other tables, triggers and rules are left out.

Until it is complete, the database or the new schema bears an unfinished name, or the database holds a schema tidemark_unfinished. If a
restore is cut off, run it again: it replaces what bears such a mark, and nothing else.

Examples:

    restorer restore --into postgres://admin@db/shop_again --create
    restorer restore --into postgres://admin@db/shop_again --create --to-time 2026-03-01T02:29:00+01:00
    restorer restore --into postgres://admin@db/shop_again --create --to-xid 771 --exclusive
    restorer restore --into service=scratch --table public.orders --to-time now-70m
    restorer restore --into postgres://admin@db/shop --as-schema rescue --table public.orders --to-xid 771 --exclusive`
}

// Run restores and reports.
func (c *restoreCmd) Run(ctx context.Context, env *cli.Env) error {
	dsn, err := c.dsn()
	if err != nil {
		return err
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
	report, err := pitr.Restore(ctx, pitr.Options{
		Archive: archive, Plan: plan, DSN: dsn, Create: c.Create, AsSchema: c.AsSchema, Tables: c.Table, Jobs: c.Jobs,
		SchemaOnly: c.SchemaOnly, DataOnly: c.DataOnly, NoOwner: c.NoOwner, NoPrivileges: c.NoPrivileges, AcceptInexact: c.AcceptInexact, NoFold: c.NoFold,
		Progress: show.show, Confirm: func(p *pitr.Plan) error { return p.WriteText(env.Stderr, time.Local) },
		Log: env.Log, Now: env.Now,
	})
	show.close()
	if c.IfEmpty && errors.Is(err, pitr.ErrNotEmpty) {
		return c.leave(env, plan)
	}
	if err != nil {
		return err
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, report)
	}
	return c.print(env, report)
}

// leave says that nothing was restored. The object has every key, without a value.
func (c *restoreCmd) leave(env *cli.Env, plan *pitr.Plan) error {
	env.Note("the database is not empty: left as it is")
	if !c.JSON() {
		return nil
	}
	report := map[string]any{"target": plan.Target, "left_as_is": true, "transactions": 0, "rows": struct{}{}, "seconds": struct{}{}, "data_integrity_verified": false}
	for _, key := range []string{"history", "snapshot_id", "snapshot_lsn", "reached_lsn", "reached_time", "last_kept", "first_left_out"} {
		report[key] = nil
	}
	return cli.WriteJSON(env.Stdout, report)
}

// dsn returns the connection string; the usual PG* variables may name the database instead.
func (c *restoreCmd) dsn() (string, error) {
	if c.Into == "" && os.Getenv("PGDATABASE") == "" && os.Getenv("PGSERVICE") == "" {
		return "", fault.New(fault.Usage, "give --into DSN, such as --into postgres://admin@db/shop_again", "no database to restore into was named")
	}
	return c.Into, nil
}

// phases shows a bar for each phase in turn.
type phases struct {
	env   *cli.Env
	phase pitr.Phase
	bar   *cli.Progress
}

func (p *phases) show(step pitr.Progress) {
	if step.Phase != p.phase {
		p.close()
		p.phase, p.bar = step.Phase, p.env.Progress(string(step.Phase), step.Total, step.Unit == "bytes")
	}
	p.bar.Set(string(step.Phase), step.Done, step.Total)
}

func (p *phases) close() {
	if p.bar != nil {
		p.bar.Close()
		p.bar = nil
	}
}

func (c *restoreCmd) print(env *cli.Env, r *pitr.Report) error {
	w := env.Stdout
	fmt.Fprintf(w, "restored %s to %s: reached LSN %s, %s\n", place(r), r.Target.Describe(time.Local), r.ReachedLSN, cli.Moment(r.ReachedTime))
	fmt.Fprintf(w, "last kept       %s\n", describe(r.LastKept))
	fmt.Fprintf(w, "first left out  %s\n\n", describe(r.FirstLeftOut))
	tables := cli.NewTable("table", ">copied", ">inserted", ">updated", ">deleted")
	for _, name := range sortedTables(r.Rows) {
		t := r.Rows[name]
		tables.Row(name, cli.Count(t.Copied), cli.Count(t.Inserted), cli.Count(t.Updated), cli.Count(t.Deleted))
	}
	if err := tables.Write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s transactions replayed in %.1f s (%s)\n", cli.Count(r.Transactions), r.Seconds["total"], seconds(r.Seconds))
	if r.Verified {
		fmt.Fprintln(w, "every object had its checksum, and the counts are those of the archive")
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return nil
}

// place names what a restore wrote to.
func place(r *pitr.Report) string {
	if r.AsSchema != "" {
		return "schema " + r.AsSchema + " of " + r.Database
	}
	return r.Database
}

func describe(c *pitr.Commit) string {
	if c == nil {
		return "none"
	}
	return c.Describe(time.Local)
}

func sortedTables(rows map[string]pitr.TableRows) []string {
	names := make([]string, 0, len(rows))
	for name := range rows {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// seconds lists the phases that took noticeable time, in their order.
func seconds(all map[pitr.Phase]float64) string {
	var parts []string
	for _, p := range []pitr.Phase{
		pitr.PhaseSchema, pitr.PhaseFold, pitr.PhaseSnapshot, pitr.PhaseKeys, pitr.PhaseReplay, pitr.PhaseIndexes, pitr.PhaseFinish, pitr.PhaseCheck,
	} {
		if s := all[p]; s >= 0.05 {
			parts = append(parts, fmt.Sprintf("%s %.1f", p, s))
		}
	}
	return strings.Join(parts, ", ")
}
