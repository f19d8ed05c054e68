package main

import (
	"context"
	"errors"
	"time"

	"tidemark/internal/cli"
	"tidemark/pitr"
)

type planCmd struct {
	targetFlags
	cli.Output
	Into          string       `help:"Also look whether this database could take the restore: its server's version, roles, extensions, encoding, and that it is empty. Nothing is written." placeholder:"DSN"`
	AcceptInexact bool         `help:"The restore would go past changes that the archive says it can't replay exactly."`
	Create        bool         `help:"With --into: the restore would make that database."`
	AsSchema      string       `help:"With --into: the restore would put the tables into this new schema of the database." placeholder:"NAME"`
	NoOwner       bool         `help:"With --into: everything would belong to the connecting role."`
	NoPrivileges  bool         `help:"With --into: no GRANT and REVOKE."`
	Table         cli.Patterns `help:"The restore would take only tables matching this pattern (repeatable)." placeholder:"PATTERN"`
}

// Help is shown by plan --help.
func (*planCmd) Help() string {
	return `Reads the catalog and an index or two, and changes nothing. The last commit kept and the first left out
are named with time, transaction id and rows: look at them before you restore. With --table, tables, rows and bytes are
those of the matching tables; transactions and segments are all that are read for them.

Examples:

    restorer plan                                              to the latest commit archived
    restorer plan --to-time now-70m
    restorer plan --to-time 2026-03-01T02:29:00+01:00
    restorer plan --to-xid 771 --exclusive                     just before transaction 771
    restorer plan --to-mark before-release
    restorer plan --into postgres://admin@db/shop_again --create`
}

// errLooked ends a restore that was only to look at the target.
var errLooked = errors.New("looked")

// Run prints the plan.
func (c *planCmd) Run(ctx context.Context, env *cli.Env) error {
	target, err := c.target(env)
	if err != nil {
		return err
	}
	archive, err := openArchive(ctx, env)
	if err != nil {
		return err
	}
	plan, err := pitr.MakePlan(ctx, archive, target, time.Local)
	if err != nil {
		return err
	}
	shown, err := plan.ForTables(ctx, archive, c.Table)
	if err != nil {
		return err
	}
	if c.JSON() {
		err = cli.WriteJSON(env.Stdout, shown)
	} else {
		err = shown.WriteText(env.Stdout, time.Local)
	}
	if err == nil && !c.AcceptInexact {
		err = plan.CheckInexact(c.Table)
	}
	if err != nil || c.Into == "" {
		return err
	}
	return c.look(ctx, env, archive, plan)
}

// look goes through a restore's preflight, which ends where something would be written.
func (c *planCmd) look(ctx context.Context, env *cli.Env, archive *pitr.Archive, plan *pitr.Plan) error {
	_, err := pitr.Restore(ctx, pitr.Options{
		Archive: archive, Plan: plan, DSN: c.Into, Create: c.Create, AsSchema: c.AsSchema, Tables: c.Table, AcceptInexact: c.AcceptInexact,
		NoOwner: c.NoOwner, NoPrivileges: c.NoPrivileges,
		Confirm: func(p *pitr.Plan) error {
			for _, w := range p.Warnings[len(plan.Warnings):] {
				env.Note("warning: %s", w)
			}
			return errLooked
		}, Log: env.Log, Now: env.Now,
	})
	if !errors.Is(err, errLooked) {
		return err
	}
	env.Note("the target can take this restore")
	return nil
}
