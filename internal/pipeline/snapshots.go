package pipeline

import (
	"context"
	"time"

	"github.com/adhocore/gronx"
	"github.com/jackc/pgx/v5"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream"
)

// snapshotPause is the least time between two base snapshots that changed relations ask for, as a multiple
// of the last one's duration: taking them must not become all that the source does.
const snapshotPause = 10

// snapshots takes the first base snapshot, later ones when something needs them, and those of the schedule,
// until ctx ends. Once a history had one, a snapshot that fails does not end the stream, which matters more.
func (r *runner) snapshots(ctx context.Context, stop <-chan struct{}, first *walstream.CreatedSlot) error {
	if err := r.initialSnapshot(ctx, first); err != nil {
		return err
	}
	if err := r.resolveUntil(ctx); err != nil {
		return err
	}
	var rest, breath <-chan time.Time // set while snapshots that are not urgent wait, and while all do
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stop:
			return nil
		case <-r.needs.wake:
		case <-rest:
			rest = nil
		case <-breath:
			breath = nil
		case <-r.nextScheduled():
			r.needs.request("scheduled")
		}
		reason := r.needs.pending()
		if _, ok := newestSnapshot(r.catalog.View()); !ok {
			reason = "the history has none behind its last gap or inexact range"
		} else if rest != nil {
			reason = ""
		}
		if reason == "" || breath != nil {
			continue
		}
		started := time.Now()
		if err := r.insistOnSnapshot(ctx, reason, nil, false); err != nil {
			return err
		}
		// Schema changes that can't be replayed may come as fast as snapshots are taken.
		breath = time.After(min(time.Since(started), time.Hour))
		rest = time.After(min(snapshotPause*time.Since(started), time.Hour))
	}
}

// nextScheduled returns a channel that fires at the schedule's next time; nil without a schedule.
func (r *runner) nextScheduled() <-chan time.Time {
	if r.cfg.SnapshotSchedule == "" {
		return nil
	}
	now := time.Now().UTC()
	at, err := gronx.NextTickAfter(r.cfg.SnapshotSchedule, now, false)
	if err != nil {
		return nil // checked before the start
	}
	return time.After(at.Sub(now))
}

// initialSnapshot makes sure that the newest history has a base snapshot and knows its tables.
func (r *runner) initialSnapshot(ctx context.Context, first *walstream.CreatedSlot) error {
	if first != nil {
		defer closeSlot(first)
		return r.insistOnSnapshot(ctx, "the archive is new", &basesnapshot.Exported{Name: first.SnapshotName, LSN: first.ConsistentPoint}, true)
	}
	newest, ok := newestSnapshot(r.catalog.View())
	if !ok {
		return r.insistOnSnapshot(ctx, "the history has none", nil, true)
	}
	r.metrics.snapshotTime.Set(float64(newest.Snapshot.Time.Time().Unix()))
	r.announce()
	return r.loadShapes(ctx, newest)
}

// loadShapes reads what the newest base snapshot knows of the tables, waiting for a store that is away. A
// snapshot that is damaged is replaced.
func (r *runner) loadShapes(ctx context.Context, newest catalog.SnapshotPoint) error {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		m, err := basesnapshot.ReadManifest(ctx, r.cfg.Store, newest.Snapshot)
		if err == nil {
			r.needs.taken(newest.LSN, m)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		r.metrics.errors.WithLabelValues("snapshot").Inc()
		if fault.CodeOf(err) != fault.Unreachable {
			r.log.Error("the newest base snapshot can't be read, another is taken", "id", newest.Snapshot.ID, "err", err)
			return r.insistOnSnapshot(ctx, "the newest one can't be read", nil, false)
		}
		r.log.Warn("the newest base snapshot can't be read, trying again", "err", err, "in", pause)
		if !wait(ctx, pause) {
			return nil
		}
	}
}

// wait waits for d; false if ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// newestSnapshot returns the newest history's newest base snapshot behind its last gap and its last inexact
// range; ok is false if it has none.
func newestSnapshot(v *catalog.View) (newest catalog.SnapshotPoint, ok bool) {
	history, _ := v.Newest()
	var after segment.LSN
	for _, g := range v.Gaps() {
		if g.History == history.Number {
			after = max(after, g.To)
		}
	}
	for _, i := range v.Inexact() {
		if i.History == history.Number {
			after = max(after, i.To)
		}
	}
	for _, s := range v.Snapshots() {
		if s.History == history.Number && s.LSN >= max(after, newest.LSN) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// insistOnSnapshot tries until a snapshot is taken or ctx ends. For the first one a reason that time does not
// mend is an error at once: whoever starts the archiver is looking.
func (r *runner) insistOnSnapshot(ctx context.Context, reason string, exported *basesnapshot.Exported, first bool) error {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := r.takeSnapshot(ctx, reason, exported)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		r.metrics.errors.WithLabelValues("snapshot").Inc()
		switch fault.CodeOf(err) {
		case fault.Usage, fault.Damage, fault.Conflict:
			if first {
				return err
			}
		}
		// An exported snapshot serves once: its connection may be what failed.
		exported = nil
		r.log.Error("base snapshot failed, trying again", "err", err, "hint", fault.HintOf(err), "in", pause)
		if !wait(ctx, pause) {
			return nil
		}
	}
}

func (r *runner) takeSnapshot(ctx context.Context, reason string, exported *basesnapshot.Exported) error {
	r.log.Info("base snapshot begins", "reason", reason)
	r.needs.begins()
	taker := snapshotTaker{cfg: &r.cfg, catalog: r.catalog, log: r.log}
	e, m, err := taker.take(ctx, exported)
	if err != nil {
		return err
	}
	r.needs.taken(e.From, m)
	r.announce()
	if until := r.until.Load(); r.cfg.Until == "current" && until != 0 {
		r.until.Store(max(until, uint64(e.From))) // a later history's: it is of use once the stream reaches it
	}
	r.metrics.snapshotTime.Set(float64(e.Snapshot.Time.Time().Unix()))
	r.metrics.entries.WithLabelValues(string(e.Kind)).Inc()
	return nil
}

// resolveUntil fixes the LSN of --until once a base snapshot exists: current means all that is written by
// then, so that what was archived can be restored.
func (r *runner) resolveUntil(ctx context.Context) error {
	if r.cfg.Until == "" {
		return nil
	}
	if r.cfg.Until != "current" {
		lsn, err := segment.ParseLSN(r.cfg.Until)
		r.until.Store(uint64(lsn))
		return err
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		flush, err := r.readFlush(ctx)
		if err == nil {
			r.until.Store(uint64(flush))
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if fault.CodeOf(err) != fault.Unreachable {
			return err
		}
		r.log.Warn("source can't be reached, trying again", "err", err, "in", pause)
		if !wait(ctx, pause) {
			return nil
		}
	}
}

func (r *runner) readFlush(ctx context.Context) (lsn segment.LSN, err error) {
	err = r.withSource(ctx, func(conn *pgx.Conn) (err error) {
		lsn, err = flushLSN(ctx, conn)
		return err
	})
	return lsn, err
}
