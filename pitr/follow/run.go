package follow

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
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

// follower is what lives through lost connections.
type follower struct {
	o       Options
	log     *catalog.Log
	metrics *metrics
	careful bool        // one transaction to a batch: an error leaves all before it applied
	failed  segment.LSN // careful until a transaction that ends after it is applied: the batch that failed is past then

	good    atomic.Int64  // when the feed last worked, Unix nanoseconds
	oldest  atomic.Int64  // segment.Timestamp of the oldest archived commit that isn't applied; 0: none is known
	applied atomic.Uint64 // segment.LSN
	history atomic.Uint32 // that is followed; 0: not known yet

	mu   sync.Mutex
	last seen
}

// seen is how far the archive was seen to reach.
type seen struct {
	end  segment.LSN
	time segment.Timestamp
}

// Run feeds the database until stop is closed, the target is reached, or another takes over by promoting it;
// then it returns what was reached. An empty database is restored first.
//
// Errors are faults: Usage for a database that holds something else or was promoted, Uncovered for a target
// out of reach or a change that can't be replayed exactly, Damage, Conflict for a second follower, Gap for a
// hole in what is archived, Unreachable after Options.Patience, and Failed naming table, key and LSN for a
// row that does not fit. All that came before is applied then.
func Run(ctx context.Context, stop <-chan struct{}, o Options) (*Status, error) {
	o.defaults()
	f, err := newFollower(ctx, o)
	if err != nil {
		return nil, err
	}
	defer o.Ready(false)
	g := &goal{target: o.Target}
	err = f.persist(ctx, stop, func(ctx context.Context) error { return f.session(ctx, stop, g) })
	switch {
	case errors.Is(err, errStopped), errors.Is(err, errReached), errors.Is(err, errMoved):
		return ReadStatus(ctx, o)
	}
	return nil, err
}

func newFollower(ctx context.Context, o Options) (*follower, error) {
	f := &follower{o: o}
	f.good.Store(time.Now().UnixNano())
	f.metrics = newMetrics(f)
	var err error
	f.log, err = catalog.Open(ctx, o.Store, catalog.WithLog(o.Log))
	if err != nil {
		return nil, err
	}
	f.look()
	return f, nil
}

// retryPause is how long is waited before a session is tried again, at first and at most.
const (
	retryPause    = 200 * time.Millisecond
	longestPause  = 5 * time.Second
	serverRetries = 10 // sessions in a row that the server ended for its own reasons
)

// persist has sessions until one ends otherwise than by something that passes: a database or store that is
// away, a deadlock with a reader.
func (f *follower) persist(ctx context.Context, stop <-chan struct{}, session func(context.Context) error) error {
	pause, failures := retryPause, 0
	for {
		began := time.Now()
		err := session(ctx)
		f.o.Ready(false)
		if f.good.Load() > began.UnixNano() {
			pause, failures = retryPause, 0
		}
		failures++
		switch {
		case errors.Is(err, errCrossed):
			continue
		case errors.Is(err, errPast):
			f.careful = false
			f.o.Log.Info("the transactions that failed together are applied, further ones go by batches again", "applied", segment.LSN(f.applied.Load()))
			continue
		case !f.passes(err, failures):
			if !f.careful && worthCare(err) {
				// Once more, transaction by transaction: all that came before the error is to be applied.
				f.careful = true
				f.o.Log.Warn("the feed failed, trying once more, transaction by transaction", "error", err)
				continue
			}
			return err
		case time.Since(time.Unix(0, f.good.Load())) > f.o.Patience:
			return err
		}
		f.metrics.failed()
		f.o.Log.Warn("the feed is interrupted, trying again", "wait", pause, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stop:
			return errStopped
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// passes reports whether an error is of a kind that goes away by itself.
func (f *follower) passes(err error, failures int) bool {
	if fault.CodeOf(err) == fault.Unreachable {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || failures > serverRetries {
		return false
	}
	// Serialization failures and deadlocks, lock timeouts, too many connections, cancelled statements.
	return strings.HasPrefix(pgErr.Code, "40") || pgErr.Code == "55P03" || pgErr.Code == "53300" || pgErr.Code == "57014"
}

// worthCare reports whether an error may have undone transactions that could be applied.
func worthCare(err error) bool {
	if errors.Is(err, errMoved) || errors.Is(err, errStopped) || errors.Is(err, errReached) || errors.Is(err, errEnd) {
		return false
	}
	code := fault.CodeOf(err)
	return code == fault.Failed || code == fault.Damage
}

// session connects, restores if the database is empty, and applies until something ends it.
func (f *follower) session(ctx context.Context, stop <-chan struct{}, g *goal) error {
	r, err := f.initial(ctx, stop, g)
	if err != nil {
		return err
	}
	s, r, err := f.enter(ctx, r.History, Following)
	if err != nil {
		return err
	}
	if err := f.begin(ctx, s, r, g); err != nil {
		session.Close(s)
		return err
	}
	if r.State == Reached && g.reachedBy(r.Position) {
		session.Close(s)
		return errReached
	}
	w, err := newFeeder(ctx, f, s, r, Following, g)
	if err != nil {
		session.Close(s)
		return err
	}
	f.start(r)
	f.o.Log.Info("following", "history", r.History, "applied", r.Position, "archived", f.seen().end)
	f.o.Ready(true)
	err = w.run(ctx, stop)
	if errors.Is(err, errMoved) {
		return f.whoMoved(ctx, err)
	}
	return err
}

// start tells the metrics where a session begins.
func (f *follower) start(r *record) {
	f.good.Store(time.Now().UnixNano())
	f.applied.Store(uint64(r.Position))
	f.history.Store(r.History)
	f.look()
}

// begin checks the goal against what is there and says in the row what is going on.
func (f *follower) begin(ctx context.Context, s *pgconn.PgConn, r *record, g *goal) error {
	a := pitr.NewArchive(f.o.Store, f.log.View())
	var plan *pitr.Plan
	if g.cut == 0 {
		var err error
		if plan, err = g.find(ctx, f, a); err != nil {
			return err
		}
	}
	if plan != nil && plan.History > r.History && leads(f.log.View(), r.History, plan.History) {
		g.cut = 0 // until the feed comes there
	} else if plan != nil && plan.History != r.History {
		return fault.New(fault.Usage, "", "%s lies in history %d, and the database follows history %d", g.target.Describe(f.o.Zone), plan.History, r.History)
	}
	if err := g.check(r, plan, g.target.Describe(f.o.Zone)); err != nil {
		return err
	}
	state, target := Following, ""
	if g.reachedBy(r.Position) {
		state, target = Reached, g.target.String()
	}
	r.State = state
	return session.Exec(ctx, s, "UPDATE tidemark.follow SET state = "+sqltext.QuoteLiteral(string(state))+", target = "+sqltext.QuoteLiteral(target)+
		", delay_seconds = "+itoa(int64(f.o.Delay/time.Second))+", seen_at = pg_catalog.clock_timestamp() WHERE state IN ('following', 'reached')")
}

// whoMoved finds out what changed the row under a feeder: a promotion ends it in good order, another
// follower's batch is read again.
func (f *follower) whoMoved(ctx context.Context, err error) error {
	s, openErr := session.OpenReplay(ctx, f.o.DSN, "")
	if openErr != nil {
		return openErr
	}
	defer session.Close(s)
	r, readErr := readRecord(ctx, s)
	switch {
	case readErr != nil:
		return readErr
	case r == nil:
		return fault.New(fault.Usage, "", "tidemark.follow is gone: the database is no longer fed")
	case r.State == Promoting || r.State == Promoted:
		f.o.Log.Info("the database is being promoted: the feed ends")
		return err
	}
	return fault.Wrap(err, fault.Unreachable, "", "read it again")
}

// refresh learns what was archived since. In a copy of an archive an entry may come before the one before it.
func (f *follower) refresh(ctx context.Context) error {
	end := time.Now().Add(f.o.Arrival)
	for {
		err := f.log.Refresh(ctx)
		if err == nil {
			f.look()
			return nil
		}
		if fault.CodeOf(err) != fault.Damage || !time.Now().Before(end) {
			return err
		}
		f.o.Log.Warn("the catalog is not whole: waiting for the rest", "at most", f.o.Arrival, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// look takes over what the catalog says.
func (f *follower) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.log.View().Newest()
	if n := f.history.Load(); n != 0 {
		h, ok = f.log.View().History(n)
	}
	if ok {
		f.last = seen{end: h.End, time: h.RunningMax}
	}
}

func (f *follower) seen() seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// moved notes what a batch applied; the applier's worker calls it.
func (f *follower) moved(at apply.Position) {
	f.good.Store(time.Now().UnixNano())
	f.applied.Store(uint64(at.EndLSN))
	f.metrics.transactions.Add(float64(at.Transactions))
}
