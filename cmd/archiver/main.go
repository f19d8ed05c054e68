// Command archiver runs beside a PostgreSQL primary and keeps an archive of everything it commits.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/adhocore/gronx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tidemark/internal/cli"
	"tidemark/internal/config"
	"tidemark/internal/fault"
	"tidemark/internal/pipeline"
	"tidemark/internal/resident"
	"tidemark/objectstore"
)

const help = `Archive a PostgreSQL database continuously, so that it can be restored to any commit.

archiver reads one logical replication slot, packs committed transactions into segments in object
storage, takes base snapshots, and keeps a catalog of both. Restoring is restorer's work.

  archiver check --source postgres://app@db/shop --archive s3://backups/shop   what is missing, and the cure
  archiver run   --source postgres://app@db/shop --archive s3://backups/shop   the main job; keep it running
  archiver mark before-release                                                a named point to restore to
  archiver status                                                             is it protected, until when`

// memoryLimit is the soft limit of the Go heap: beyond it the collector works harder. The archiver's
// buffers are of fixed number and size, well below it. GOMEMLIMIT overrides it.
const memoryLimit = 160 << 20

// gcPercent is how far the heap may grow beyond what is in use before it is collected. Streaming makes next to no garbage, so that
// collecting sooner costs nothing, and what there is of it is not kept for long. GOGC overrides it.
const gcPercent = 50

type grammar struct {
	cli.Globals

	Run      runCmd      `cmd:"" help:"Archive the source until stopped. The main job."`
	Snapshot snapshotCmd `cmd:"" help:"Take a base snapshot now, also beside a running archiver."`
	Mark     markCmd     `cmd:"" help:"Set a named restore point; returns when it is durable in the archive."`
	Check    checkCmd    `cmd:"" help:"Preflight of source and store: what would make an archive incomplete, and its cure."`
	Status   statusCmd   `cmd:"" help:"Is the source protected, and until when can it be restored?"`
	Detach   detachCmd   `cmd:"" help:"Remove slot and publication from the source (with --apply)."`

	Completion cli.Completion `cmd:"" help:"Print code that completes this program's commands and flags in a shell."`
}

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	_ = resident.Release() // what packages needed to initialise; if it fails, that stays
	cli.Main("archiver", help, &grammar{})
}

// sourceFlag is embedded by commands that talk to the source.
type sourceFlag struct {
	Source string `help:"Source database: a URL or keyword/value string. PG* variables, service files and .pgpass work; a password belongs there." placeholder:"DSN"`
}

// slotFlags are embedded by commands that need the slot's or publication's name.
type slotFlags struct {
	Slot        string `help:"Replication slot (default: tidemark_<database>, or what the archive recorded)." placeholder:"NAME"`
	Publication string `help:"Publication." default:"tidemark" placeholder:"tidemark"`
}

// patience is how long one operation on the store is tried before it counts as failed. The stream's own
// uploads go on trying after that.
const patience = 15 * time.Second

type runCmd struct {
	sourceFlag
	slotFlags
	Table             cli.Patterns  `help:"Archive only tables matching this pattern, such as public.* (repeatable; default: all tables)." placeholder:"PATTERN"`
	SegmentMaxAge     time.Duration `help:"Close a segment at this age: how much can be lost with the source." default:"10s" placeholder:"10s"`
	SegmentMaxSize    config.Size   `help:"Close a segment at this stored size." default:"32MiB" placeholder:"32MiB"`
	HeartbeatInterval time.Duration `help:"While the database is idle, write a heartbeat this often, so that its time stays covered." default:"30s" placeholder:"30s"`
	ShutdownGrace     time.Duration `help:"How long a stopping primary may wait for us while the store is away." default:"30s" placeholder:"30s"`
	Until             string        `help:"Archive up to this LSN, or current for the WAL position at start, then exit 0." placeholder:"LSN|current"`
	NewArchive        bool          `help:"Start an archive from a slot that exists already."`
	AcceptGap         bool          `help:"Record a hole in the archive (a lost slot) and go on behind it with a new base snapshot."`
	NoSchemaCapture   bool          `help:"Don't install the event triggers that write schema changes into the stream. Each change is then noticed late, and a restore can't pass it without a base snapshot behind it."`
	Standby           bool          `help:"While another archiver has the slot, wait and then take over."`
	Listen            string        `help:"Serve /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9187." placeholder:"ADDR"`
	SnapshotSchedule  string        `help:"When to take base snapshots: a cron expression in UTC, such as '0 3 * * *'." placeholder:"CRON"`
	SnapshotJobs      int           `help:"Connections that copy a base snapshot." default:"2" placeholder:"2"`
	PgDump            string        `help:"pg_dump to use (default: found in PATH and the usual folders)." placeholder:"FILE"`
}

// Help is shown by run --help.
func (runCmd) Help() string {
	return `On an empty archive, run makes publication and slot and takes the first base snapshot itself, while
it already streams. Stopped with SIGTERM it closes the segment, archives it and exits 0; killed, it
loses nothing: Postgres keeps what was not acknowledged and sends it again.

Where the role may (a superuser, or what a managed server has instead of one), run installs event triggers
in the source, with their functions in a schema tidemark, so that restores replay schema changes too.
Without that right it goes on: changes are noticed, and restores stop at them (archiver check says so).

  archiver run --source postgres://app@db/shop --archive file:///backup/shop
  archiver run --config /etc/tidemark.yaml --listen 0.0.0.0:9187
  archiver run --source ... --archive ... --until current      catch up once, for cron`
}

func (c *runCmd) Run(ctx context.Context, env *cli.Env) error {
	if c.SnapshotSchedule != "" && !gronx.IsValid(c.SnapshotSchedule) {
		return fault.New(fault.Usage, "give five fields: minute hour day month weekday, in UTC", "snapshot-schedule %q is not a cron expression", c.SnapshotSchedule)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store, err := env.OpenStore(ctx, patience, reg)
	if err != nil {
		return err
	}
	cfg := c.config(env, store, reg)
	if c.Listen != "" {
		server, _, err := cli.Serve(c.Listen, reg, "protected", "not protected: no stream, or no base snapshot yet", env.Log)
		if err != nil {
			return err
		}
		defer server.Close()
		cfg.Ready = server.Ready
	}
	return pipeline.Run(ctx, env.Graceful(), cfg)
}

func (c *runCmd) config(env *cli.Env, store objectstore.Store, reg prometheus.Registerer) pipeline.Config {
	return pipeline.Config{
		DSN: c.Source, Store: store, Slot: c.Slot, Publication: c.Publication, Tables: c.Table,
		SegmentMaxAge: c.SegmentMaxAge, SegmentMaxSize: int64(c.SegmentMaxSize),
		HeartbeatInterval: c.HeartbeatInterval, ShutdownGrace: c.ShutdownGrace,
		Until: c.Until, NewArchive: c.NewArchive, AcceptGap: c.AcceptGap, Standby: c.Standby,
		NoSchemaCapture: c.NoSchemaCapture, SnapshotJobs: c.SnapshotJobs, SnapshotSchedule: c.SnapshotSchedule, PgDump: c.PgDump,
		Version: cli.Version(), Log: env.Log, Registerer: reg,
	}
}

type snapshotCmd struct {
	sourceFlag
	slotFlags
	cli.Output
	Jobs   int    `help:"Connections that copy." default:"2" placeholder:"2"`
	PgDump string `help:"pg_dump to use." placeholder:"FILE"`
}

func (c *snapshotCmd) Run(ctx context.Context, env *cli.Env) error {
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return err
	}
	progress := env.Progress("base snapshot", 0, true)
	defer progress.Close()
	result, err := pipeline.TakeSnapshot(ctx, pipeline.Config{
		DSN: c.Source, Store: store, Publication: c.Publication, SnapshotJobs: c.Jobs, PgDump: c.PgDump, Log: env.Log,
	}, func(done, total int64) { progress.Set("base snapshot", done, total) })
	if err != nil {
		return err
	}
	progress.Close()
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, result)
	}
	_, err = fmt.Fprintf(env.Stdout, "snapshot %s at %s of history %d: %s tables, %s rows, %s stored\n",
		result.ID, result.LSN, result.History, cli.Count(result.Tables), cli.Count(result.Rows), config.Size(result.Bytes))
	return err
}

type markCmd struct {
	sourceFlag
	cli.Output
	Name    string        `arg:"" help:"Name of the restore point."`
	Timeout time.Duration `help:"How long to wait for the archive to hold it." default:"2m" placeholder:"2m"`
}

func (c *markCmd) Run(ctx context.Context, env *cli.Env) error {
	store, err := env.OpenStore(ctx, patience, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	mark, err := pipeline.Mark(ctx, c.Source, store, c.Name)
	if err != nil {
		return err
	}
	if c.JSON() {
		return cli.WriteJSON(env.Stdout, mark)
	}
	_, err = fmt.Fprintf(env.Stdout, "mark %s: history %d, lsn %s\n", mark.Name, mark.History, mark.LSN)
	return err
}
