package pipeline

import (
	"context"
	"fmt"
	"log/slog"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// SnapshotResult is a base snapshot that stands in the catalog.
type SnapshotResult struct {
	ID      string      `json:"id"`
	History uint32      `json:"history"`
	LSN     segment.LSN `json:"lsn"`
	Tables  int64       `json:"tables"`
	Rows    int64       `json:"rows"`
	Bytes   int64       `json:"bytes"` // stored
}

// TakeSnapshot takes a base snapshot of the archive's source, also beside a living run. progress, which may
// be nil, is told how many bytes of about how many are copied.
func TakeSnapshot(ctx context.Context, cfg Config, progress func(done, total int64)) (*SnapshotResult, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	log, err := catalog.Open(ctx, cfg.Store)
	if err != nil {
		return nil, err
	}
	history, ok := log.View().Newest()
	if !ok {
		return nil, fault.New(fault.Gap, "start archiver run first: it takes the first base snapshot itself", "the archive holds no history yet")
	}
	cfg.Publication = history.Begins.Publication
	conn, err := walstream.Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	err = requireArchivedSource(ctx, conn, &history.Begins)
	closeConn(conn)
	if err != nil {
		return nil, err
	}
	taker := snapshotTaker{cfg: &cfg, catalog: log, log: cfg.Log}
	if progress != nil {
		taker.progress = func(p basesnapshot.Progress) { progress(p.BytesDone, p.BytesTotal) }
	}
	e, _, err := taker.take(ctx, nil)
	if err != nil {
		return nil, err
	}
	s := e.Snapshot
	return &SnapshotResult{ID: s.ID, History: e.History, LSN: e.From, Tables: s.Tables, Rows: s.Rows, Bytes: s.StoredBytes}, nil
}

// snapshotTaker takes a base snapshot and appends its entry; run and the snapshot command share it.
type snapshotTaker struct {
	cfg      *Config
	catalog  *catalog.Log
	log      *slog.Logger
	progress func(basesnapshot.Progress)
}

func (t snapshotTaker) take(ctx context.Context, exported *basesnapshot.Exported) (catalog.Entry, *basesnapshot.Manifest, error) {
	if err := t.catalog.Refresh(ctx); err != nil {
		return catalog.Entry{}, nil, err
	}
	view := t.catalog.View()
	history, _ := view.Newest()
	number := history.Number
	// Commits before the snapshot's point have commit times up to its clock, or, where that was set back,
	// up to what was archived before.
	runningMax := history.RunningMax
	if err := t.sameLine(ctx, view, history); err != nil {
		return catalog.Entry{}, nil, err
	}
	result, err := basesnapshot.Take(ctx, basesnapshot.Options{
		DSN: t.cfg.DSN, Publication: t.cfg.Publication, Store: t.cfg.Store, Archive: view.Identity().ID, History: number,
		Jobs: t.cfg.SnapshotJobs, Exported: exported, PgDump: t.cfg.PgDump, Log: t.log, Progress: t.progress,
	})
	if err != nil {
		return catalog.Entry{}, nil, err
	}
	if exported == nil && result.LSN < history.End {
		return catalog.Entry{}, nil, otherLine("the snapshot's point %s lies before the archive's end %s", result.LSN, history.End)
	}
	if err := t.sameLine(ctx, view, history); err != nil {
		return catalog.Entry{}, nil, err // what answered may have changed meanwhile
	}
	payload := result.Snapshot
	payload.RunningMax = max(payload.Time, payload.RunningMax, runningMax)
	e, err := t.catalog.Append(ctx, func(v *catalog.View) (catalog.Entry, error) {
		if newest, _ := v.Newest(); newest.Number != number {
			return catalog.Entry{}, fault.New(fault.Failed, "take another", "history %d ended while its base snapshot was taken", number)
		}
		return catalog.Entry{Kind: catalog.KindSnapshot, History: number, From: result.LSN, To: result.LSN, Snapshot: &payload}, nil
	})
	if err != nil {
		return catalog.Entry{}, nil, err
	}
	t.log.Info("base snapshot taken", "id", payload.ID, "lsn", result.LSN, "tables", payload.Tables, "rows", payload.Rows, "stored", payload.StoredBytes)
	return e, result.Manifest, nil
}

// sameLine refuses a source whose WAL is not the line that the history was read from, as far as it shows: a
// clone, a server rolled back, a promoted standby. Its rows must not become the base of that history.
func (t snapshotTaker) sameLine(ctx context.Context, view *catalog.View, h catalog.HistoryPoint) error {
	conn, err := walstream.Connect(ctx, t.cfg.DSN)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return err
	}
	timeline, err := readTimeline(ctx, conn)
	if err != nil {
		return err
	}
	switch known := lastTimeline(view, h); {
	case facts.systemID != h.Begins.SystemID || facts.database != h.Begins.Database:
		return otherLine("it is another cluster or database")
	case timeline != known:
		return otherLine("it is on timeline %d, the archive was last written from %d", timeline, known)
	case facts.flush < h.End:
		return otherLine("its WAL ends at %s, the archive already holds %s", facts.flush, h.End)
	}
	return nil
}

func otherLine(format string, args ...any) error {
	return fault.New(fault.Failed, "let archiver run find out what became of the source, then take the snapshot again",
		"the source does not continue what is archived: %s", fmt.Sprintf(format, args...))
}
