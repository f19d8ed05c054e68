package main

import (
	"context"
	"time"

	"tidemark/internal/cli"
	"tidemark/pitr"
)

type planCmd struct {
	targetFlags
	cli.Output
}

// Help is shown by plan --help.
func (*planCmd) Help() string {
	return `Reads the catalog and an index or two, and touches no database. The last commit kept and the first left out
are named with time, transaction id and rows: look at them before you restore.

Examples:

    restorer plan                                              to the latest commit archived
    restorer plan --to-time now-70m
    restorer plan --to-time 2026-03-01T02:29:00+01:00
    restorer plan --to-xid 771 --exclusive                     just before transaction 771
    restorer plan --to-mark before-release`
}

// Run prints the plan.
func (c *planCmd) Run(ctx context.Context, env *cli.Env) error {
	plan, _, err := c.plan(ctx, env)
	if err != nil {
		return err
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, plan)
	}
	return plan.WriteText(env.Stdout, time.Local)
}

// plan makes the plan for the target that the flags name.
func (f *targetFlags) plan(ctx context.Context, env *cli.Env) (*pitr.Plan, *pitr.Archive, error) {
	target, err := f.target(env)
	if err != nil {
		return nil, nil, err
	}
	archive, err := openArchive(ctx, env)
	if err != nil {
		return nil, nil, err
	}
	plan, err := pitr.MakePlan(ctx, archive, target, time.Local)
	return plan, archive, err
}
