package rows

import (
	"context"
	"os"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/internal/testserver/postgres"
)

// sizes draws the curves: throughput and memory for 10,000 to 10,000,000 events. It has no goal.
var sizes = Scenario{
	Name: "sizes",
	Rows: []string{"sizes"},
	Run: func(ctx context.Context, b *Bench) error {
		for _, n := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
			p, err := b.size(ctx, b.N(n))
			if err != nil {
				return err
			}
			b.Plot(p)
			b.Logf("  %d events: archived in %.2f s, %d MiB; restored in %.2f s, %d MiB; pg_recvlogical %.2f s",
				p.Events, p.ArchiveSeconds, p.ArchiveMemory/mib, p.RestoreSeconds, p.RestoreMemory/mib, p.ReferenceSeconds)
		}
		return nil
	},
}

// size archives and restores so many events, all of them by segments.
func (b *Bench) size(ctx context.Context, n int) (point report.Point, err error) {
	stage, err := b.Lab.Stage()
	if err != nil {
		return point, err
	}
	defer stage.Close()
	server, err := stage.Server()
	if err != nil {
		return point, err
	}
	src, err := stage.NewSource(ctx, server, "events", eventFunctions, eventTable("events"))
	if err != nil {
		return point, err
	}
	if err := writeEvents(ctx, server, src.Database, "events", 1, n, bulk); err != nil {
		return point, err
	}
	if err := src.Ended(ctx); err != nil {
		return point, err
	}
	folder, err := src.NewFolder("archive")
	if err != nil {
		return point, err
	}
	defer os.RemoveAll(folder)
	archive, err := src.Drain(ctx, src.DSN(), folder, nil)
	if err != nil {
		return point, err
	}
	if err := complete(ctx, folder, n); err != nil {
		return point, err
	}
	reference, err := src.Foreign(ctx, src.DSN())
	if err != nil {
		return point, err
	}
	return b.sizeRestored(ctx, src, folder, n, archive, reference)
}

func (b *Bench) sizeRestored(ctx context.Context, src *lab.Source, folder string, n int, archive, reference lab.Usage) (report.Point, error) {
	if err := src.Server.Stop(postgres.Fast); err != nil {
		return report.Point{}, err
	}
	target, err := src.Stage.Server()
	if err != nil {
		return report.Point{}, err
	}
	restored, err := b.restore(ctx, target, folder, map[string]int{"events": n})
	return report.Point{Events: n, ArchiveSeconds: archive.Wall.Seconds(), ArchiveMemory: archive.Memory,
		RestoreSeconds: restored.Wall.Seconds(), RestoreMemory: restored.Memory, ReferenceSeconds: reference.Wall.Seconds()}, err
}
