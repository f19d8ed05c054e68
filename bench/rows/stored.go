package rows

import (
	"context"
	"fmt"
	"os"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// stored compares what the archive keeps with the WAL of the same transactions, compressed by zstd at level 1 as
// the archivers of WAL do it. The server has PostgreSQL's default settings for WAL. Sizes don't differ from run to run: it
// measures once.
var stored = Scenario{
	Name: "stored",
	Rows: []string{"stored-bulk", "stored-single", "stored-pgbench"},
	Run: func(ctx context.Context, b *Bench) error {
		for _, rows := range []int{bulk, 1} {
			name, goal := "stored-bulk", 0.48
			if rows == 1 {
				name, goal = "stored-single", 0.35
			}
			if !b.Want(name) {
				continue
			}
			src, n, err := b.eventSource(ctx, rows, lab.DefaultWAL)
			if err != nil {
				return err
			}
			row, err := b.compareSizes(ctx, src, name, fmt.Sprintf("%d events", n), fmt.Sprint(rows), goal)
			if err != nil {
				return err
			}
			b.Add(row)
		}
		if !b.Want("stored-pgbench") {
			return nil
		}
		src, err := b.benchSource(ctx, 10, lab.DefaultWAL)
		if err != nil {
			return err
		}
		n := b.N(200_000)
		if err := runPgbench(src, n); err != nil {
			return err
		}
		if err := src.Ended(ctx); err != nil {
			return err
		}
		row, err := b.compareSizes(ctx, src, "stored-pgbench", fmt.Sprintf("%d transactions of pgbench at scale 10", n), "4", 0.22)
		if err != nil {
			return err
		}
		b.Add(row)
		return nil
	},
}

func (b *Bench) compareSizes(ctx context.Context, src *lab.Source, name, what, rows string, goal float64) (report.Row, error) {
	folder, err := src.NewFolder(name)
	if err != nil {
		return report.Row{}, err
	}
	defer os.RemoveAll(folder)
	if _, err := src.Drain(ctx, src.DSN(), folder, nil); err != nil {
		return report.Row{}, err
	}
	before, err := lab.Size(src.Fresh)
	if err != nil {
		return report.Row{}, err
	}
	after, err := lab.Size(folder)
	if err != nil {
		return report.Row{}, err
	}
	sum, err := lab.Archived(ctx, folder)
	if err != nil {
		return report.Row{}, err
	}
	wal, by, err := src.CompressedWAL(ctx)
	if err != nil {
		return report.Row{}, err
	}
	mb := func(name string, bytes int64) report.Side {
		return report.Side{Name: name, Unit: "MB", Runs: []float64{float64(bytes) / 1e6}}
	}
	return report.Compare(name, "bytes stored (segments and catalog) of "+what+", against their WAL at zstd level 1", report.AtMost(goal),
		mb("archive", after-before), mb("WAL, "+by, wal)).In("TCP", rows, b.Cores(),
		fmt.Sprintf("WAL %.1f MB; pgoutput messages %.1f MB, of which %.3f is stored", float64(src.End-src.Begin)/1e6, float64(sum.RawBytes)/1e6, float64(sum.StoredBytes)/float64(sum.RawBytes))), nil
}
