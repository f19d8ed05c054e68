package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// feeder is the work of one connection: it applies entry after entry.
type feeder struct {
	f       *follower
	r       *record // as it was read
	state   State   // what the row must say while this works
	goal    *goal
	archive *pitr.Archive
	applier *apply.Applier
	at      apply.Position         // what was given to the applier so far
	xid     uint32                 // of the transaction that is being given
	beaten  time.Time              // when the row was last written
	bound   segment.LSN            // where the next history left this one, if the feed is to go on in it; 0: it isn't
	next    uint32                 // that history
	inexact []catalog.InexactPoint // ranges of the history that nobody accepted yet

	committed segment.LSN // what the row says; belongs to the applier's worker

	mu       sync.Mutex
	samples  []sample
	accepted uint64
	final    string // SET clause of the last batch
}

// sample is a segment entry with a sample of the sequences, taken at or before an LSN.
type sample struct {
	at  segment.LSN
	seq uint64
}

// How a feeder ends in good order.
var (
	errStopped = errors.New("stopped")
	errReached = errors.New("the target is reached")
	errEnd     = errors.New("the archive's end is reached")
	errPast    = errors.New("the transactions that failed are applied one by one")
	errMoved   = errors.New("the row in tidemark.follow was changed by somebody else")
)

// Bounds of a batch. A larger one costs fewer commits, a smaller one loses less of its work to an
// interruption; beyond these sizes neither matters any more.
const (
	batchTransactions = 10_000
	batchBytes        = 16 << 20
	entryBytes        = 2 << 20 // ends a batch with an entry: a feed that is behind by some shows each as it is done
)

// newFeeder takes the session over.
func newFeeder(ctx context.Context, f *follower, s *pgconn.PgConn, r *record, state State, g *goal) (*feeder, error) {
	w := &feeder{f: f, r: r, state: state, goal: g, committed: r.Position,
		at: apply.Position{CommitLSN: r.CommitLSN, EndLSN: r.Position, Time: r.CommitTime, XID: r.XID}}
	atomic := &apply.Atomic{Progress: w.progress, MaxTransactions: batchTransactions, MaxBytes: batchBytes, Lately: latelyTable}
	if f.careful {
		atomic.MaxTransactions = 1
	}
	var err error
	w.applier, err = apply.New(ctx, apply.Options{
		// Functions that constraints and generated columns call find what the database's own sessions find.
		Connect: func(ctx context.Context) (*pgconn.PgConn, error) { return s, session.Exec(ctx, s, "RESET search_path") },
		Want:    func(rel *segment.Relation) bool { return rel.Namespace != "tidemark" },
		Atomic:  atomic,
		Inexact: w.doubts,
		Known:   tablesTable,
		Single:  f.careful,
		Schema: &apply.Schema{
			Since:         r.Position,
			AcceptInexact: f.o.AcceptInexact, NoOwner: r.NoOwner, NoPrivileges: r.NoPrivileges,
			Note: func(note string) { f.o.Log.Warn(note) },
		},
	})
	return w, err
}

// progress writes the row inside a batch's transaction. It moves only from where this feeder left it: if
// another one came between, the batch is undone.
func (w *feeder) progress(ctx context.Context, conn *pgconn.PgConn, at apply.Position) error {
	sql := advanceSQL(w.committed, w.state, at, w.f.seen(), w.more(at.EndLSN))
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return err
	}
	if results[len(results)-1].CommandTag.RowsAffected() != 1 {
		return errMoved
	}
	w.committed = at.EndLSN
	w.f.moved(at)
	return nil
}

// more gives the columns that change now and then.
func (w *feeder) more(to segment.LSN) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sql := w.final
	for len(w.samples) > 0 && w.samples[0].at <= to {
		if len(w.samples) == 1 || w.samples[1].at > to {
			sql += fmt.Sprintf(", sequences = %d", w.samples[0].seq)
		}
		w.samples = w.samples[1:]
	}
	if w.accepted > 0 {
		sql += fmt.Sprintf(", accepted = greatest(accepted, %d)", w.accepted)
	}
	return sql
}

// run applies until something ends it; its error is never nil.
func (w *feeder) run(ctx context.Context, stop <-chan struct{}) error {
	err := w.work(ctx, stop)
	if errors.Is(err, errStopped) || errors.Is(err, errReached) || errors.Is(err, errEnd) || errors.Is(err, errCrossed) || errors.Is(err, errPast) {
		if _, finishErr := w.applier.Finish(context.WithoutCancel(ctx)); finishErr != nil {
			return finishErr
		}
		return err
	}
	w.applier.Abort()
	if !w.f.careful {
		w.f.failed = w.at.EndLSN
	}
	return err
}

func (w *feeder) work(ctx context.Context, stop <-chan struct{}) error {
	for {
		if err := w.checkInexact(ctx); err != nil {
			return err
		}
		end := w.f.log.View().End(w.r.History)
		w.bounded()
		if err := w.pass(ctx, stop); err != nil {
			return err
		}
		// No transaction may have come since.
		if err := w.checkInexact(ctx); err != nil {
			return err
		}
		if err := w.cross(); err != nil {
			return err
		}
		if err := w.applier.Flush(ctx); err != nil {
			return err
		}
		w.beaten = time.Now()
		if w.goal.reachedBy(w.at.EndLSN) {
			return w.reach(ctx)
		}
		if err := w.wait(ctx, stop, end); err != nil {
			return err
		}
	}
}

// pass applies what the catalog, as it is known now, has beyond what was applied.
func (w *feeder) pass(ctx context.Context, stop <-chan struct{}) error {
	w.archive = pitr.NewArchive(w.f.o.Store, w.f.log.View())
	if w.archive.View().End(w.r.History) <= w.at.EndLSN {
		return nil
	}
	w.inexact = w.unaccepted()
	s := w.f.readAhead(ctx, w.archive, w.r.History, w.at.EndLSN)
	defer s.close()
	for !w.over(w.at.EndLSN) {
		e, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		if err := w.entry(ctx, stop, s, e); err != nil {
			return err
		}
	}
	return nil
}

// entry applies one entry of the stream.
func (w *feeder) entry(ctx context.Context, stop <-chan struct{}, s *source, e *catalog.Entry) error {
	if e.From > w.at.EndLSN {
		return w.lost("the archive no longer holds what was committed from LSN %s to %s", w.at.EndLSN, e.From)
	}
	if e.Kind == catalog.KindGap {
		if err := w.applier.Flush(ctx); err != nil {
			return err
		}
		return w.lost("the archive has a gap from LSN %s to %s (%s)", e.From, e.To, e.Gap.Reason)
	}
	known := w.goal.cut != 0
	if err := w.goal.look(ctx, w.archive, e, w.at.EndLSN); err != nil {
		return err
	}
	if !known && w.bound != 0 && w.goal.cut > w.bound {
		w.goal.cut = 0 // the next history has it, or has not
	}
	if e.Segment != nil && e.Segment.LastCommitLSN >= w.at.EndLSN {
		if err := w.segment(ctx, stop, s, e); err != nil {
			return err
		}
	}
	if e.Segment != nil && e.Segment.Sequences != nil && e.Segment.Sequences.Changed {
		w.mu.Lock()
		w.samples = append(w.samples, sample{w.limit(e.To), e.Seq})
		w.mu.Unlock()
	}
	w.at.EndLSN = max(w.at.EndLSN, w.limit(e.To))
	w.applier.Advance(w.at)
	return w.applier.EndBatch(entryBytes)
}

func (w *feeder) lost(format string, args ...any) error {
	return fault.New(fault.Gap, "restorer promote --accept-loss makes the database one of its own as it is; to follow on, begin anew with an empty database",
		"%s; the database has all commits before LSN %s", fmt.Sprintf(format, args...), w.at.EndLSN)
}

// segment applies the transactions of a segment that are not applied yet, up to the goal.
func (w *feeder) segment(ctx context.Context, stop <-chan struct{}, s *source, e *catalog.Entry) error {
	due, err := w.dueTimes(ctx, e)
	if err != nil {
		return err
	}
	if err := w.announce(ctx, e); err != nil {
		return err
	}
	skip := false
	for rec, err := range w.archive.Segment(*e, s.parts(e)) {
		if err != nil {
			return err
		}
		if rec.Op == segment.OpBegin {
			if w.over(rec.Begin.CommitLSN) {
				return nil
			}
			if skip = rec.Begin.CommitLSN < w.at.EndLSN; !skip {
				begin := rec.Begin
				if err := w.before(ctx, stop, begin, due); err != nil {
					return err
				}
				if w.over(begin.CommitLSN) {
					return nil // the source left this history while the transaction waited for its time
				}
			}
		}
		if skip && rec.Op != segment.OpRelation && rec.Op != segment.OpType {
			continue
		}
		if err := w.apply(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// announce tells the applier of the schema changes that it will come to.
func (w *feeder) announce(ctx context.Context, e *catalog.Entry) error {
	changes, err := w.archive.SchemaChanges(ctx, *e)
	if err != nil {
		return err
	}
	changes = slices.DeleteFunc(changes, func(c apply.Announced) bool {
		return c.CommitLSN < w.at.EndLSN || w.over(c.CommitLSN)
	})
	w.applier.Announce(changes)
	return nil
}

func (w *feeder) apply(ctx context.Context, rec *segment.Record) error {
	if rec.Op == segment.OpBegin {
		w.xid = rec.Begin.XID
	}
	ends, c := rec.Op == segment.OpCommit, rec.Commit
	if err := w.applier.Apply(ctx, rec); err != nil || !ends {
		return err
	}
	w.at = apply.Position{CommitLSN: c.CommitLSN, EndLSN: c.EndLSN, Time: c.CommitTime, XID: w.xid}
	if !w.f.careful {
		return nil
	}
	if c.EndLSN > w.f.failed {
		return w.flushed(ctx, errPast)
	}
	return w.applier.Flush(ctx)
}

// before is called before each transaction that is to be applied.
func (w *feeder) before(ctx context.Context, stop <-chan struct{}, b segment.Begin, due map[segment.LSN]time.Time) error {
	w.f.oldest.Store(int64(b.CommitTime))
	for _, i := range w.inexact {
		if i.Touches(w.r.SnapshotLSN, b.CommitLSN+1) {
			if err := w.refuse(ctx, i); err != nil {
				return err
			}
		}
	}
	select {
	case <-stop:
		return w.flushed(ctx, errStopped)
	default:
	}
	if t, ok := due[b.CommitLSN]; ok {
		return w.delay(ctx, stop, b.CommitLSN, t)
	}
	return nil
}

// flushed commits what is whole and then gives its error.
func (w *feeder) flushed(ctx context.Context, err error) error {
	if flushErr := w.applier.Flush(ctx); flushErr != nil {
		return flushErr
	}
	return err
}

// reach notes that the goal is reached, durably.
func (w *feeder) reach(ctx context.Context) error {
	w.mu.Lock()
	w.final = ", state = 'reached', target = " + sqltext.QuoteLiteral(w.goal.target.String())
	w.mu.Unlock()
	w.applier.Advance(w.at)
	return w.flushed(ctx, errReached)
}
