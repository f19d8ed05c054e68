package rows

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// The same history restored by us and by PostgreSQL's recovery of a base backup with archived WAL. Both begin with
// backups made at the same moment, on the same disk, and end with a database that takes writes.
var (
	physicalEvents = physical("physical-events", 2.0, "1000", func(ctx context.Context, b *Bench) (*lab.Source, string, func() error, error) {
		server, err := b.Server()
		if err != nil {
			return nil, "", nil, err
		}
		src, err := b.NewSource(ctx, server, "events", eventFunctions, eventTable("events"))
		n := b.N(1_000_000)
		return src, fmt.Sprintf("%d events, insert only", n), func() error { return writeEvents(ctx, server, src.Database, "events", 1, n, bulk) }, err
	})
	physicalBench = physical("physical-pgbench", 0.85, "4", func(ctx context.Context, b *Bench) (*lab.Source, string, func() error, error) {
		src, err := b.benchSource(ctx, 20)
		n := b.N(500_000)
		return src, fmt.Sprintf("pgbench at scale 20, %d transactions", n), func() error { return runPgbench(src, n) }, err
	})
	physicalLong = physical("physical-pgbench-long", 0.4, "4", func(ctx context.Context, b *Bench) (*lab.Source, string, func() error, error) {
		src, err := b.benchSource(ctx, 20)
		n := b.N(5_000_000)
		return src, fmt.Sprintf("pgbench's transactions at scale 20, %d of them", n), func() error { return runBank(ctx, src, n) }, err
	})
)

// runBank commits pgbench's transactions from within the server, in two sessions.
func runBank(ctx context.Context, src *lab.Source, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	for range 2 {
		g.Go(func() error { return src.Server.Exec(ctx, src.Database, fmt.Sprintf("CALL tpcb(%d, 20)", n/2)) })
	}
	return g.Wait()
}

// prepare makes a source with its archive, and says what it holds and how to write the rest.
type prepare func(context.Context, *Bench) (src *lab.Source, what string, write func() error, err error)

func physical(name string, goal float64, rows string, prepare prepare) Scenario {
	return Scenario{Name: name, Rows: []string{name}, Run: func(ctx context.Context, b *Bench) error {
		src, what, write, err := prepare(ctx, b)
		if err != nil {
			return err
		}
		x := recovery{b: b, src: src, wal: filepath.Join(src.Server.Home, "wal")}
		if err := x.record(ctx, write); err != nil {
			return err
		}
		target, err := b.Server()
		if err != nil {
			return err
		}
		p, err := b.interleave(
			func(int) (lab.Usage, error) { return b.restore(ctx, target, x.archive, x.rows) },
			func(int) (lab.Usage, error) { return x.recover(ctx) })
		if err != nil {
			return err
		}
		b.Add(report.Compare(name, "restore of "+what+", wall, against recovery of a base backup and its WAL",
			report.AtMost(goal), wall("restorer", p.ours), wall("base backup and recovery", p.theirs)).In("TCP; files on the same disk", rows, b.Cores(),
			fmt.Sprintf("WAL %.0f MB; memory of the restorer %.0f MiB at most", float64(src.End-src.Begin)/1e6, report.Worst("", "", report.Goal{}, memory("", p.ours)).Value), phases(p.ours)))
		return nil
	}}
}

// recovery is a base backup with WAL, and an archive of ours, of the same history.
type recovery struct {
	b            *Bench
	src          *lab.Source
	backup, wal  string
	archive      string
	rows         map[string]int // of the tables at the end
	checkedTable string
}

// record takes the base backup, lets the history happen, and keeps both archives of it.
func (x *recovery) record(ctx context.Context, write func() error) (err error) {
	src := x.src
	if x.backup, err = src.Server.BaseBackup("backup"); err != nil {
		return err
	}
	x.b.Logf("  writing")
	if err := write(); err != nil {
		return err
	}
	if err := src.Ended(ctx); err != nil {
		return err
	}
	text, err := src.Server.Query(ctx, src.Database, "SELECT pg_switch_wal()")
	if err != nil {
		return err
	}
	switched, err := segment.ParseLSN(text)
	if err != nil {
		return err
	}
	if err := lab.SaveWAL(src.Server, switched, x.wal); err != nil {
		return err
	}
	x.b.Logf("  archiving")
	if x.archive, err = src.NewFolder("archive"); err != nil {
		return err
	}
	if _, err := src.Drain(ctx, src.DSN(), x.archive, nil); err != nil {
		return err
	}
	if err := x.count(ctx); err != nil {
		return err
	}
	return src.Server.Stop(postgres.Fast)
}

// count notes how many rows the largest table has.
func (x *recovery) count(ctx context.Context) error {
	table, err := x.src.Server.Query(ctx, x.src.Database, "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = 'public' AND c.relname <> 'pgbench_accounts' ORDER BY pg_relation_size(c.oid) DESC LIMIT 1")
	if err != nil {
		return err
	}
	text, err := x.src.Server.Query(ctx, x.src.Database, "SELECT count(*) FROM "+table)
	if err != nil {
		return err
	}
	n := 0
	if _, err := fmt.Sscan(text, &n); err != nil {
		return err
	}
	x.checkedTable, x.rows = table, map[string]int{table: n}
	return nil
}

// recover puts the base backup in its place and lets PostgreSQL replay the WAL to its end.
func (x *recovery) recover(ctx context.Context) (u lab.Usage, err error) {
	lab.Settle()
	begin := time.Now()
	s, err := x.b.Recover(func(dataDir string) error {
		if err := postgres.CopyTree(x.backup)(dataDir); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dataDir, "recovery.signal"), nil, 0o600)
	}, map[string]string{"restore_command": "cp " + x.wal + "/%f %p"})
	if err != nil {
		return u, err
	}
	defer s.Close()
	for {
		recovering, err := s.Query(ctx, "postgres", "SELECT pg_is_in_recovery()")
		if err == nil && recovering == "f" {
			break
		}
		if !s.Running() || ctx.Err() != nil || time.Since(begin) > 20*time.Minute {
			return u, fmt.Errorf("recovery: %w: %s", err, s.LogTail(1000))
		}
		time.Sleep(10 * time.Millisecond)
	}
	u.Wall = time.Since(begin)
	return u, countRows(ctx, s, x.src.Database, x.checkedTable, x.rows[x.checkedTable])
}
