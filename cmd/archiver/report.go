package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/internal/fault"
	"tidemark/internal/pipeline"
	"tidemark/objectstore"
)

type checkCmd struct {
	sourceFlag
	slotFlags
	cli.Output
	Table  cli.Patterns `help:"Check only tables matching this pattern (repeatable; as for run)." placeholder:"PATTERN"`
	SQL    bool         `name:"sql" help:"Print only the statements that mend what was found."`
	PgDump string       `help:"pg_dump to use." placeholder:"FILE"`
}

// Help is shown by check --help.
func (checkCmd) Help() string {
	return `Exits 0 when nothing was found and 8 otherwise. Without --archive only the source is looked at.

  archiver check --source postgres://app@db/shop --archive s3://backups/shop
  archiver check --source postgres://admin@db/shop --sql | psql postgres://admin@db/shop`
}

func (c *checkCmd) Run(ctx context.Context, env *cli.Env) error {
	var store objectstore.Store
	if env.Globals.Archive != "" {
		var err error
		if store, err = env.OpenStore(ctx, patience, nil); err != nil {
			return err
		}
	}
	findings, err := pipeline.Check(ctx, pipeline.Config{
		DSN: c.Source, Store: store, Slot: c.Slot, Publication: c.Publication, Tables: c.Table, PgDump: c.PgDump, Log: env.Log,
	})
	if err != nil {
		return err
	}
	if err := c.print(env, findings); err != nil {
		return err
	}
	if len(findings) == 0 {
		return nil
	}
	return fault.New(fault.Finding, "each finding names its cure; archiver check --sql prints the statements alone", "%d %s", len(findings), plural(len(findings), "finding", "findings"))
}

func (c *checkCmd) print(env *cli.Env, findings []pipeline.Finding) error {
	switch {
	case c.JSON():
		if findings == nil {
			findings = []pipeline.Finding{}
		}
		return cli.WriteJSON(env.Stdout, map[string]any{"findings": findings})
	case c.SQL:
		for _, f := range findings {
			if f.Fix != "" {
				fmt.Fprintln(env.Stdout, strings.TrimSuffix(f.Fix, ";")+";")
			}
		}
		return nil
	case len(findings) == 0:
		_, err := fmt.Fprintln(env.Stdout, "ok: nothing would make the archive incomplete")
		return err
	}
	for _, f := range findings {
		severity := "warning"
		if f.Fatal {
			severity = "error"
		}
		fmt.Fprintf(env.Stdout, "%s: %s: %s\n", severity, f.Object, f.Problem)
		for _, cure := range []string{f.Fix, f.Hint} {
			if cure != "" {
				fmt.Fprintf(env.Stdout, "    %s\n", cure)
			}
		}
	}
	return nil
}

type statusCmd struct {
	sourceFlag
	cli.Output
	Wait    string        `help:"Wait until the state is protected." enum:",protected" default:"" placeholder:"protected"`
	Timeout time.Duration `help:"How long to wait." default:"30m" placeholder:"30m"`
}

// Help is shown by status --help.
func (statusCmd) Help() string {
	return `Answers from the archive when Postgres is down, and where neither --source nor a PG* variable names one. States:
protected, snapshotting (the first base snapshot is being taken), catching_up, unprotected. With --wait it exits 8 when the
time is over, also where there is no archive yet.

The lag in seconds is the greatest age that a commit which is not archived can have. It is 0 once all WAL of the server is:
nobody but the archiver can tell what other databases wrote from a commit of this one.`
}

func (c *statusCmd) Run(ctx context.Context, env *cli.Env) error {
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return err
	}
	deadline := env.Now().Add(c.Timeout)
	for {
		s, err := c.read(ctx, env, store)
		if c.Wait != "" && (pipeline.IsNoArchive(err) || err == nil && s.State != c.Wait) && env.Now().Before(deadline) {
			select {
			case <-time.After(500 * time.Millisecond):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if c.Wait != "" && pipeline.IsNoArchive(err) {
			return fault.Wrap(err, fault.Finding, "is archiver run started, with this --archive?", "after %s", c.Timeout)
		}
		if err != nil {
			return err
		}
		if err := c.print(env, s); err != nil {
			return err
		}
		if c.Wait != "" && s.State != c.Wait {
			return fault.New(fault.Finding, "look at the archiver's log", "the archive is %s after %s", s.State, c.Timeout)
		}
		return nil
	}
}

// read asks the source, too, if anything names one.
func (c *statusCmd) read(ctx context.Context, env *cli.Env, store objectstore.Store) (*pipeline.Status, error) {
	named := func(variable string) bool { return os.Getenv(variable) != "" }
	if c.Source == "" && !slices.ContainsFunc(sourceVariables, named) {
		return pipeline.ReadArchiveStatus(ctx, store, env.Now())
	}
	return pipeline.ReadStatus(ctx, c.Source, store, env.Now())
}

// sourceVariables are the PG* variables of which each names a source, the others being what they are by default.
var sourceVariables = []string{"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"}

func (c *statusCmd) print(env *cli.Env, s *pipeline.Status) error {
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, s)
	}
	line := s.State
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	if s.UnprotectedSince != nil {
		line += " (since " + s.UnprotectedSince.String() + ")"
	}
	fmt.Fprintln(env.Stdout, line)
	row := func(name string, value any) { fmt.Fprintf(env.Stdout, "%-22s %v\n", name, value) }
	if s.RecoverableToLSN != nil {
		row("recoverable to LSN", *s.RecoverableToLSN)
	}
	if s.RecoverableToTime != nil {
		row("recoverable to time", fmt.Sprintf("%s (%s ago)", *s.RecoverableToTime, env.Now().Sub(s.RecoverableToTime.Time()).Round(time.Second)))
	}
	row("slot", s.Slot)
	if s.LagBytes != nil {
		row("lag", fmt.Sprintf("%s, %.1f s", config.Size(*s.LagBytes), *s.LagSeconds))
	}
	if s.RetainedBytes != nil {
		row("WAL kept on the source", config.Size(*s.RetainedBytes))
	}
	if s.SchemaCapture == "off" {
		row("schema capture", "off: "+s.SchemaCaptureHint)
	}
	if s.Inexact > 0 {
		row("inexact ranges", fmt.Sprintf("%d: restorer list shows them", s.Inexact))
	}
	if s.Refused > 0 {
		row("refused messages", fmt.Sprintf("%d that claimed to be schema changes: somebody tries to forge them", s.Refused))
	}
	if s.SourceError != "" {
		row("source", s.SourceError)
	}
	return nil
}

type detachCmd struct {
	sourceFlag
	slotFlags
	cli.Output
	Apply bool `help:"Do it. Without, only the plan is printed."`
}

// Help is shown by detach --help.
func (detachCmd) Help() string {
	return `Also removes the event triggers that capture schema changes, and the schema tidemark unless something else
is in it. Without a slot the source keeps no WAL for the archive, and the archive can't be continued: a later
run needs a new base snapshot. The archive itself is never touched.`
}

func (c *detachCmd) Run(ctx context.Context, env *cli.Env) error {
	cfg := pipeline.Config{DSN: c.Source, Slot: c.Slot, Publication: c.Publication}
	if env.Globals.Archive != "" {
		store, err := env.OpenStore(ctx, patience, nil)
		if err != nil {
			return err
		}
		cfg.Store = store
	}
	plan, err := pipeline.Detach(ctx, cfg, c.Apply)
	if err != nil {
		return err
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, plan)
	}
	verb := "would drop"
	if plan.Applied {
		verb = "dropped"
	}
	if plan.Slot == "" && plan.Publication == "" && len(plan.Capture) == 0 {
		fmt.Fprintln(env.Stdout, "nothing to remove")
		return nil
	}
	if plan.Slot != "" {
		fmt.Fprintf(env.Stdout, "%s slot %s\n", verb, plan.Slot)
	}
	if plan.Publication != "" {
		fmt.Fprintf(env.Stdout, "%s publication %s\n", verb, plan.Publication)
	}
	for _, sql := range plan.Capture {
		what := strings.TrimPrefix(strings.TrimPrefix(sql, "DROP "), "IF EXISTS ")
		fmt.Fprintf(env.Stdout, "%s %s\n", verb, what)
	}
	if !c.Apply {
		env.Next("archiver detach --apply does it")
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
