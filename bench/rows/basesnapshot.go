package rows

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// baseSnapshot compares a base snapshot of four tables, 2 GiB in all, with pg_dump's two jobs.
var baseSnapshot = Scenario{
	Name: "base-snapshot",
	Rows: []string{"snapshot-dump"},
	Run: func(ctx context.Context, b *Bench) error {
		server, err := b.Server()
		if err != nil {
			return err
		}
		src, err := b.NewSource(ctx, server, "large", eventFunctions)
		if err != nil {
			return err
		}
		size, err := b.fill(ctx, src)
		if err != nil {
			return err
		}
		p, err := b.interleave(
			func(int) (lab.Usage, error) {
				folder, err := src.NewFolder("archive")
				if err != nil {
					return lab.Usage{}, err
				}
				defer os.RemoveAll(folder)
				lab.Settle()
				return lab.Run(ctx, b.Archiver(nil, "snapshot", "--source", src.DSN(), "--archive", folder))
			},
			func(int) (lab.Usage, error) {
				dump := b.Path("dump")
				defer os.RemoveAll(dump)
				lab.Settle()
				return lab.Run(ctx, lab.Command{Path: server.Path("pg_dump"), Args: []string{"--format", "directory", "--jobs", "2", "--compress", "1", "--file", dump, src.DSN()}})
			})
		if err != nil {
			return err
		}
		b.Add(report.Compare("snapshot-dump", fmt.Sprintf("base snapshot of %.2f GiB in four tables, wall, against pg_dump -Fd -j2 -Z1", float64(size)/(1<<30)), report.AtMost(0.85),
			wall("archiver snapshot", p.ours), wall("pg_dump", p.theirs)).In("TCP", "any number of", b.Cores(),
			fmt.Sprintf("memory of the archiver: %.1f MiB at most", report.Worst("", "", report.Goal{}, memory("", p.ours)).Value)))
		return nil
	},
}

// fill makes four tables of 2 GiB in all, and returns their size.
func (b *Bench) fill(ctx context.Context, src *lab.Source) (size int64, err error) {
	each := b.N(1_250_000)
	b.Logf("  writing 4 tables of %d events", each)
	var tables []string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i := range 4 {
		table := fmt.Sprintf("events_%d", i)
		tables = append(tables, "pg_table_size('"+table+"')")
		g.Go(func() error {
			if err := src.Server.Exec(gctx, src.Database, eventTable(table)); err != nil {
				return err
			}
			return writeEvents(gctx, src.Server, src.Database, table, i*each+1, (i+1)*each, 10*bulk)
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	text, err := src.Server.Query(ctx, src.Database, "SELECT "+strings.Join(tables, " + "))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(text, &size)
	return size, err
}
