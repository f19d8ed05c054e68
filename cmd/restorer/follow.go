package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/pitr"
	"tidemark/pitr/follow"
)

// intoFlag names the database of commands that feed one.
type intoFlag struct {
	Into string `help:"Database that is fed: a URL or keyword/value string naming it. PG* variables, service files and .pgpass work." placeholder:"DSN"`
}

func (f *intoFlag) dsn() (string, error) { return (&restoreCmd{Into: f.Into}).dsn() }

type followCmd struct {
	targetFlags
	intoFlag
	cli.Output
	Delay         time.Duration `help:"Stay this far behind the source: a transaction is applied once it is that old." placeholder:"1h"`
	Status        bool          `help:"Say how the database stands, and end."`
	Create        bool          `help:"Make the database if it isn't there."`
	Jobs          int           `help:"Connections that load and index in parallel in the first restore." default:"4" placeholder:"4"`
	NoOwner       bool          `help:"Everything belongs to the connecting role."`
	NoPrivileges  bool          `help:"No GRANT and REVOKE."`
	AcceptInexact bool          `help:"Go on past changes that can't be replayed exactly."`
	Listen        string        `help:"Serve /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9188." placeholder:"ADDR"`
	RetryFor      time.Duration `help:"How long database or store may be away before that is an error (exit 7)." default:"10m" placeholder:"10m"`
	CopyLag       time.Duration `help:"How long an object that the catalog names may be on its way, where the archive is a copy of another." default:"1m" placeholder:"1m"`
}

// Help is shown by follow --help.
func (*followCmd) Help() string {
	return `Restores into an empty database and goes on applying what is archived, from the archive or a copy of it in another
region, until it is stopped or the target is reached. Each batch of whole transactions commits together with how far it came: killed at any
moment, follow repeats and skips nothing when it is started again. Only one follower works on a database; what else is
written to its tables is not checked, so write nothing.

It goes on across a failover of the source where nothing is missing. It ends with exit 6 at a gap or where it can't go on, 4 at damage, 3 at a change that can't be replayed exactly, and 1 at a row that does not fit, naming it;
all that came before is applied then. restorer promote ends the feed.

Examples:

    restorer follow --into postgres://admin@standby/shop --listen 127.0.0.1:9188
    restorer follow --into postgres://admin@standby/shop --delay 1h        a DELETE by mistake comes here an hour later
    restorer follow --into postgres://admin@standby/shop --to-lsn 16/B374D848 --exclusive     and end there
    restorer follow --into postgres://admin@standby/shop --status -o json`
}

// Run follows, or says how it stands.
func (c *followCmd) Run(ctx context.Context, env *cli.Env) error {
	dsn, err := c.dsn()
	if err != nil {
		return err
	}
	target, err := c.target(env)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	store, err := env.OpenStore(ctx, patience, reg)
	if err != nil {
		return err
	}
	show := &phases{env: env}
	defer show.close()
	o := follow.Options{
		Store: store, DSN: dsn, Target: target, Delay: c.Delay, Create: c.Create, Jobs: c.Jobs, NoOwner: c.NoOwner, NoPrivileges: c.NoPrivileges,
		AcceptInexact: c.AcceptInexact, Patience: c.RetryFor, Arrival: c.CopyLag, Progress: show.show,
		Confirm: func(p *pitr.Plan) error { return p.WriteText(env.Stderr, time.Local) },
		Log:     env.Log, Now: env.Now, Zone: time.Local,
	}
	var status *follow.Status
	if c.Status {
		status, err = follow.ReadStatus(ctx, o)
	} else {
		status, err = c.follow(ctx, env, reg, o)
	}
	if err != nil {
		return err
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, status)
	}
	return printStatus(env.Stdout, status)
}

func (c *followCmd) follow(ctx context.Context, env *cli.Env, reg *prometheus.Registry, o follow.Options) (*follow.Status, error) {
	if c.Listen != "" {
		reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		server, _, err := cli.Serve(c.Listen, reg, "following", "not following: restoring, or a connection is lost", env.Log)
		if err != nil {
			return nil, err
		}
		defer server.Close()
		o.Ready, o.Registerer = server.Ready, reg
	}
	status, err := follow.Run(ctx, env.Graceful(), o)
	if err == nil && status.State == string(follow.Reached) {
		env.Next("restorer promote --into DSN makes the database one of its own, as of the target; follow on without a target goes past it")
	}
	return status, err
}

func printStatus(w io.Writer, s *follow.Status) error {
	if s.State == "restoring" {
		_, err := fmt.Fprintln(w, "restoring: the first restore is under way, or was cut off")
		return err
	}
	fmt.Fprintf(w, "%s: all commits before LSN %s of history %d are applied\n", s.State, s.AppliedLSN, s.History)
	rows := cli.NewTable("", "")
	rows.Row("last applied", fmt.Sprintf("transaction %d, %s", s.AppliedXID, cli.Moment(s.AppliedTime)))
	rows.Row("transactions", cli.Count(s.Transactions))
	if s.Target != "" {
		rows.Row("target", s.Target)
	}
	if s.DelaySeconds > 0 {
		rows.Row("delay", (time.Duration(s.DelaySeconds) * time.Second).String())
	}
	end := s.ArchiveEndLSN.String()
	if !s.ArchiveRead {
		end += " (as last seen: the archive can't be read)"
	}
	rows.Row("archive's end", end)
	rows.Row("lag", fmt.Sprintf("%s, %.1f s", config.Size(s.LagBytes), s.LagSeconds))
	rows.Row("last seen alive", cli.Moment(s.SeenAt))
	if !s.PromotedAt.IsZero() {
		rows.Row("promoted", cli.Moment(s.PromotedAt))
	}
	rows.Row("archive", s.Archive)
	return rows.Write(w)
}
