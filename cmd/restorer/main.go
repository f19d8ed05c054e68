// Command restorer turns an archive back into a database, at any commit that the archive covers.
package main

import (
	"context"
	"time"

	"tidemark/catalog"
	"tidemark/internal/cli"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/pitr"
)

const help = `Restore a PostgreSQL database from a Tidemark archive, to any commit that it covers.

At night, in this order:

    restorer list                                         until when can it be restored?
    restorer log --table public.orders --op delete        what happened? each line has the flags to just before it
    restorer plan --to-lsn 16/B374D848 --exclusive        what would be read, the last commit kept, the first left out
    restorer restore --to-lsn 16/B374D848 --exclusive --into postgres://admin@db/orders_again --create

Nothing here writes to the archive. Every flag is also an environment variable (--archive is TIDEMARK_ARCHIVE)
and a key of the --config file.`

type grammar struct {
	cli.Globals

	List    listCmd    `cmd:"" help:"What can be restored: until when, snapshots, windows, marks, gaps."`
	Log     logCmd     `cmd:"" help:"Transactions, newest last, each with the flags that restore to just before it."`
	Plan    planCmd    `cmd:"" help:"What a restore would read, the last commit kept and the first left out."`
	Restore restoreCmd `cmd:"" help:"Restore a database. The main job."`
	Follow  followCmd  `cmd:"" help:"Restore into an empty database and go on applying what is archived: a standby."`
	Promote promoteCmd `cmd:"" help:"End the feed of a standby and make it a database of its own."`
	Compare compareCmd `cmd:"" help:"Compare tables as they were with live ones, and put missing rows back."`
	Verify  verifyCmd  `cmd:"" help:"Read the archive again and name every damaged object."`
	Inspect inspectCmd `cmd:"" help:"Print what an object of the archive holds."`

	Completion cli.Completion `cmd:"" help:"Print code that completes this program's commands and flags in a shell."`
}

func main() { cli.Main("restorer", help, &grammar{}) }

// patience is how long an operation on the store may go on failing before a command gives up: somebody
// is waiting for it.
const patience = 30 * time.Second

// longPatience is that of commands that may have worked for hours.
const longPatience = 10 * time.Minute

// open opens the archive as it stands now.
func open(ctx context.Context, env *cli.Env, patience time.Duration) (objectstore.Store, *catalog.View, error) {
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return nil, nil, err
	}
	log, err := catalog.Open(ctx, store, catalog.WithLog(env.Log))
	if err != nil {
		return nil, nil, err
	}
	return store, log.View(), nil
}

func openArchive(ctx context.Context, env *cli.Env) (*pitr.Archive, error) {
	store, view, err := open(ctx, env, patience)
	if err != nil {
		return nil, err
	}
	return pitr.NewArchive(store, view), nil
}

// targetFlags say which moment is asked for. What is given and empty, as by a variable that a script left unset, is no "latest".
type targetFlags struct {
	ToLatest   bool    `help:"Everything archived (the default)." group:"target"`
	ToLSN      *string `name:"to-lsn" help:"Commits up to this commit LSN." placeholder:"X/Y" group:"target"`
	ToTime     *string `help:"Commits up to this moment: RFC 3339 with a zone, or now-70m." placeholder:"TIME" group:"target"`
	ToXID      *string `name:"to-xid" help:"Commits up to that of this transaction id." placeholder:"N" group:"target"`
	ToMark     *string `help:"Commits up to this named mark." placeholder:"NAME" group:"target"`
	ToSnapshot *string `help:"That base snapshot, without what came after it." placeholder:"ID" group:"target"`
	Exclusive  bool    `help:"Leave the named commit itself out." group:"target"`
	History    uint32  `help:"The history meant, where the archive has several." placeholder:"N" group:"target"`
}

// target reads the flags; a time that counts from now counts from the command's start.
func (f *targetFlags) target(env *cli.Env) (pitr.Target, error) {
	flags := pitr.TargetFlags{Latest: f.ToLatest, Exclusive: f.Exclusive, History: f.History}
	for _, given := range []struct {
		name     string
		from, to *string
	}{
		{"--to-lsn", f.ToLSN, &flags.LSN}, {"--to-time", f.ToTime, &flags.Time}, {"--to-xid", f.ToXID, &flags.XID},
		{"--to-mark", f.ToMark, &flags.Mark}, {"--to-snapshot", f.ToSnapshot, &flags.Snapshot},
	} {
		switch {
		case given.from == nil:
		case *given.from == "":
			return pitr.Target{}, fault.New(fault.Usage, "leave it out, or give --to-latest, for everything archived", "%s is empty", given.name)
		default:
			*given.to = *given.from
		}
	}
	return pitr.ParseTarget(flags, env.Now(), time.Local)
}
