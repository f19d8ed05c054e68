package follow

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/pitr"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// lockWait is how long the sessions of a killed follower may take to end.
const lockWait = 30 * time.Second

// lockSQL takes the lock of the one follower of a database.
const lockSQL = "select pg_catalog.pg_try_advisory_lock(" + lockKeys + ")::int::text"

// lockKeys are those of that lock: "tidm", and the second after the restore's.
const lockKeys = "1953064045, 1"

// enter connects, takes the lock and reads the row, which must be of a history and in a state.
func (f *follower) enter(ctx context.Context, history uint32, state State) (*pgconn.PgConn, *record, error) {
	h, _ := f.log.View().History(history)
	s, err := session.OpenReplay(ctx, f.o.DSN, h.Begins.Encoding)
	if err != nil {
		return s, nil, err
	}
	r, err := f.lockAndRead(ctx, s)
	if err == nil {
		err = f.fits(r, state)
	}
	if err != nil {
		session.Close(s)
		return s, nil, err
	}
	return s, r, nil
}

func (f *follower) lockAndRead(ctx context.Context, s *pgconn.PgConn) (*record, error) {
	for end := time.Now().Add(lockWait); ; {
		got, err := session.Value(ctx, s, lockSQL)
		if err != nil {
			return nil, err
		}
		if got == "1" {
			return readRecord(ctx, s)
		}
		if time.Now().After(end) {
			return nil, fault.New(fault.Conflict, "stop it; restorer follow --status shows what it does", "another follower feeds this database")
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fits refuses a row that isn't for this follower.
func (f *follower) fits(r *record, state State) error {
	switch {
	case r == nil:
		return fault.New(fault.Usage, "", "tidemark.follow is gone: the database is no longer fed")
	case r.Archive != f.log.View().Identity().ID:
		return fault.New(fault.Usage, "name that archive, or a copy of it", "the database follows archive %s, and this is %s", r.Archive, f.log.View().Identity().ID)
	case r.State == Promoted:
		return fault.New(fault.Usage, "follow into an empty database", "the database was promoted at LSN %s, %s: it can't be followed into again", r.Position, r.PromotedAt)
	case state == Following && r.State == Promoting:
		return fault.New(fault.Usage, "run restorer promote again", "a promotion of this database was begun and not ended")
	}
	return nil
}

// initial returns the row, having restored an empty database first.
func (f *follower) initial(ctx context.Context, stop <-chan struct{}, g *goal) (*record, error) {
	r, err := f.read(ctx)
	if r != nil || err != nil {
		if err == nil {
			err = f.fits(r, Following)
		}
		return r, err
	}
	plan, err := f.firstPlan(ctx, stop, g)
	if err != nil {
		return nil, err
	}
	var made record
	_, err = pitr.Restore(ctx, pitr.Options{
		Archive: pitr.NewArchive(f.o.Store, f.log.View()), Plan: plan, DSN: f.o.DSN, Create: f.o.Create, Jobs: f.o.Jobs,
		NoOwner: f.o.NoOwner, NoPrivileges: f.o.NoPrivileges, AcceptInexact: f.o.AcceptInexact,
		Progress: f.o.Progress, Confirm: f.o.Confirm, Log: f.o.Log, Now: f.o.Now,
		Last: func(report *pitr.Report) string {
			made = f.firstRecord(plan, report)
			return createRecord(made) + createTables(report.Tables)
		},
	})
	return &made, err
}

// read reads the row; nil if the database isn't there yet, or not fed yet.
func (f *follower) read(ctx context.Context) (*record, error) {
	s, err := session.OpenReplay(ctx, f.o.DSN, "")
	if errors.Is(err, session.ErrNoDatabase) {
		if f.o.Create {
			return nil, nil
		}
		return nil, fault.Wrap(err, fault.Usage, "--create makes it", "")
	}
	if err != nil {
		return nil, err
	}
	defer session.Close(s)
	return readRecord(ctx, s)
}

// firstRecord is the row of a database that was restored by a plan.
func (f *follower) firstRecord(plan *pitr.Plan, report *pitr.Report) record {
	r := record{
		Archive: plan.Archive, History: plan.History, SnapshotID: report.SnapshotID, SnapshotLSN: report.SnapshotLSN,
		Position: max(plan.Cut, report.SnapshotLSN), State: Following, NoOwner: f.o.NoOwner, NoPrivileges: f.o.NoPrivileges,
	}
	if k := report.LastKept; k != nil {
		r.CommitLSN, r.CommitTime, r.XID = k.LSN, k.Time, k.XID
	}
	if f.o.AcceptInexact {
		r.Accepted = f.log.View().Head().Seq
	}
	return r
}

// firstPlan plans the restore of an empty database: to the target or, where that is not archived yet or
// there is none, to the archive's end; in no case to less than the delay ago.
func (f *follower) firstPlan(ctx context.Context, stop <-chan struct{}, g *goal) (*pitr.Plan, error) {
	for told := false; ; told = true {
		a := pitr.NewArchive(f.o.Store, f.log.View())
		plan, err := g.find(ctx, f, a)
		if err != nil {
			return nil, err
		}
		latest := pitr.Target{Kind: pitr.ToLatest, History: g.target.History}
		if plan == nil {
			if plan, err = f.plan(ctx, a, latest); err != nil {
				return nil, err
			}
		}
		late, err := f.delayed(ctx, a, plan)
		if late != nil || err != nil {
			return late, err
		}
		if !told {
			f.o.Log.Info("the oldest base snapshot is younger than the delay: waiting", "delay", f.o.Delay)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-stop:
			return nil, errStopped
		case <-time.After(beat):
		}
		f.good.Store(time.Now().UnixNano())
		if err := f.refresh(ctx); err != nil {
			return nil, err
		}
	}
}

func (f *follower) plan(ctx context.Context, a *pitr.Archive, t pitr.Target) (*pitr.Plan, error) {
	return pitr.MakePlan(ctx, a, t, f.o.Zone)
}

// delayed returns the plan, or one that ends earlier if it would restore what is younger than the delay; nil
// if there is nothing yet that is old enough.
func (f *follower) delayed(ctx context.Context, a *pitr.Archive, plan *pitr.Plan) (*pitr.Plan, error) {
	if f.o.Delay <= 0 {
		return plan, nil
	}
	until := segment.TimestampOf(f.o.Now().Add(-f.o.Delay))
	late, err := f.plan(ctx, a, pitr.Target{Kind: pitr.ToTime, Time: until, History: plan.History})
	switch {
	case err == nil && late.Cut < plan.Cut:
		return late, nil
	case err == nil:
		return plan, nil
	case fault.CodeOf(err) != fault.Uncovered:
		return nil, err
	}
	// Not covered: all that is archived is older than that, or all of it is younger.
	if h, _ := a.View().History(plan.History); h.RunningMax <= until && plan.Snapshot.Time <= until {
		return plan, nil
	}
	return nil, nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
