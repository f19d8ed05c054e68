package main

import (
	"context"
	"fmt"
	"time"

	"tidemark/internal/cli"
	"tidemark/pitr/follow"
)

type promoteCmd struct {
	intoFlag
	cli.Output
	AcceptLoss bool          `help:"Promote also if the archive has a gap, is damaged or can't be read: with what could be applied."`
	RetryFor   time.Duration `help:"How long database or store may be away before that is an error (exit 7)." default:"1m" placeholder:"1m"`
	CopyLag    time.Duration `help:"How long an object that the catalog names may be on its way, where the archive is a copy of another." default:"1m" placeholder:"1m"`
}

// Help is shown by promote --help.
func (*promoteCmd) Help() string {
	return `Ends the feed of a database: a running follower is told to end, all that is archived is applied (also what a --delay holds
back), sequences are set past what is used, and triggers that were held back are switched on again. What was followed to a target
is promoted as of the target: nothing after it is applied. Then the LSN and the time are printed up to which nothing is missing. The
database can't be followed into again.

Stop the archiver of the old primary first, or at least its clients: what is archived after this is not in the database.

Examples:

    restorer promote --into postgres://admin@standby/shop
    restorer promote --into postgres://admin@standby/shop --accept-loss -o json | jq '.lsn, .time'`
}

// Run promotes and reports.
func (c *promoteCmd) Run(ctx context.Context, env *cli.Env) error {
	dsn, err := c.dsn()
	if err != nil {
		return err
	}
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return err
	}
	p, err := follow.Promote(ctx, follow.Options{
		Store: store, DSN: dsn, Patience: c.RetryFor, Arrival: c.CopyLag, Log: env.Log, Now: env.Now, Zone: time.Local,
	}, c.AcceptLoss)
	if err != nil {
		return err
	}
	if c.JSON() {
		if err := cli.WriteJSON(env.Stdout, p); err != nil {
			return err
		}
	} else if err := c.print(env, p); err != nil {
		return err
	}
	env.Next("point the applications at it, and start a new archive for it: archiver run --source … --archive …")
	return nil
}

func (c *promoteCmd) print(env *cli.Env, p *follow.Promotion) error {
	fmt.Fprintf(env.Stdout, "promoted: nothing is missing that committed before LSN %s of history %d\n", p.LSN, p.History)
	fmt.Fprintf(env.Stdout, "last commit    transaction %d, %s\n", p.XID, cli.Moment(p.Time))
	if p.Target != "" {
		fmt.Fprintf(env.Stdout, "target         %s: later commits that are archived are left out\n", p.Target)
	}
	if !p.Complete {
		fmt.Fprintf(env.Stdout, "later commits  are missing: %s\n", p.Missing)
	}
	fmt.Fprintf(env.Stdout, "sequences      %d set past what is used\n", p.Sequences)
	for _, note := range p.Notes {
		fmt.Fprintf(env.Stdout, "note           %s\n", note)
	}
	return nil
}
