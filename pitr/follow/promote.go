package follow

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// Promotion is what ended a feed: the JSON of `restorer promote`.
type Promotion struct {
	Archive      string            `json:"archive"`
	History      uint32            `json:"history"`
	LSN          segment.LSN       `json:"lsn"`  // nothing that was committed before it is missing
	Time         segment.Timestamp `json:"time"` // of the last commit before it
	XID          uint32            `json:"xid"`  // of that commit
	Complete     bool              `json:"complete"`
	Missing      string            `json:"missing,omitempty"` // why it is not complete
	Target       string            `json:"target,omitempty"`  // where the feed was told to end
	Transactions int64             `json:"transactions"`
	Sequences    int               `json:"sequences"` // set past what is used
	Notes        []string          `json:"notes,omitempty"`
}

// Promote ends the feed of a database: it applies all that is archived (but for a feed that came to a target:
// that ends there), sets the sequences, and switches on what was switched off. A running follower is
// told to end. With acceptLoss an archive that can't be read, is damaged or has a gap is no obstacle: then
// the database is left with what could be applied. A promotion that was cut off may be run again.
//
// Errors are faults as those of Run; without acceptLoss they leave the database as one that can be followed into.
func Promote(ctx context.Context, o Options, acceptLoss bool) (*Promotion, error) {
	o.defaults()
	o.Delay = 0
	former, err := beginPromotion(ctx, o)
	if err != nil {
		return nil, err
	}
	missing, err := finishFeed(ctx, o, former, acceptLoss)
	if err != nil {
		if undo := endPromotion(context.WithoutCancel(ctx), o, former); undo != nil {
			return nil, errors.Join(err, undo)
		}
		return nil, err
	}
	return promote(ctx, o, former, missing)
}

// beginPromotion tells a running follower to end, and returns the row as it was.
func beginPromotion(ctx context.Context, o Options) (*record, error) {
	s, err := session.OpenReplay(ctx, o.DSN, "")
	if err != nil {
		return nil, err
	}
	defer session.Close(s)
	r, err := readRecord(ctx, s)
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, fault.New(fault.Usage, "restorer follow --into DSN feeds one", "the database is not fed by an archive")
	case r.State == Promoted:
		return nil, fault.New(fault.Usage, "nothing is left to do: it is a database of its own", "the database was promoted already, at LSN %s, %s", r.Position, r.PromotedAt)
	}
	return r, session.Exec(ctx, s, "UPDATE tidemark.follow SET state = 'promoting' WHERE state <> 'promoted'")
}

// endPromotion takes it back.
func endPromotion(ctx context.Context, o Options, former *record) error {
	s, err := session.OpenReplay(ctx, o.DSN, "")
	if err != nil {
		return err
	}
	defer session.Close(s)
	state := Following
	if former.Target != "" {
		state = Reached
	}
	return session.Exec(ctx, s, "UPDATE tidemark.follow SET state = "+sqltext.QuoteLiteral(string(state))+" WHERE state = 'promoting'")
}

// finishFeed applies what is archived. With acceptLoss it returns why that could not be all.
func finishFeed(ctx context.Context, o Options, former *record, acceptLoss bool) (missing error, err error) {
	if former.Target != "" {
		return nil, nil
	}
	f, err := newFollower(ctx, o)
	if err == nil {
		g := &goal{target: pitr.Target{Kind: pitr.ToLatest}}
		never := make(chan struct{})
		err = f.persist(ctx, never, func(ctx context.Context) error { return f.lastSession(ctx, never, g, former.History) })
	}
	switch {
	case errors.Is(err, errEnd):
		return nil, nil
	case errors.Is(err, errMoved):
		return nil, fault.New(fault.Conflict, "run it again", "another promotion of this database is under way, or was taken back")
	case errors.Is(err, context.Canceled) || fault.CodeOf(err) == fault.Usage || fault.CodeOf(err) == fault.Conflict:
		return nil, err
	case !acceptLoss:
		return nil, fault.Wrap(err, fault.CodeOf(err), "mend that, or promote with --accept-loss: the database stays as far as it came", "not promoted")
	}
	o.Log.Warn("promoting without all that was committed", "error", err)
	return err, nil
}

// lastSession applies all that is archived.
func (f *follower) lastSession(ctx context.Context, never <-chan struct{}, g *goal, history uint32) error {
	s, r, err := f.enter(ctx, history, Promoting)
	if err != nil {
		return err
	}
	w, err := newFeeder(ctx, f, s, r, Promoting, g)
	if err != nil {
		session.Close(s)
		return err
	}
	f.start(r)
	return w.run(ctx, never)
}

// promote makes the database one of its own.
func promote(ctx context.Context, o Options, former *record, missing error) (*Promotion, error) {
	s, err := session.OpenReplay(ctx, o.DSN, "")
	if err != nil {
		return nil, err
	}
	defer session.Close(s)
	r, err := lockPromoting(ctx, s)
	if err != nil {
		return nil, err
	}
	p := &Promotion{
		Archive: r.Archive, History: r.History, LSN: r.Position, Time: r.CommitTime, XID: r.XID, Transactions: r.Transactions,
		Target: former.Target, Complete: missing == nil,
	}
	if missing != nil {
		p.Missing = missing.Error()
	}
	samples, stale, err := lastSamples(ctx, o, r)
	if err != nil && missing == nil && former.Target == "" {
		return nil, err
	}
	if stale || err != nil {
		p.Notes = append(p.Notes, "no sample of the sequences that is newer than the last commit is archived: those that no column uses may give out a value again")
	}
	if p.Sequences, err = settleSequences(ctx, s, samples); err != nil {
		return nil, err
	}
	if err := apply.Release(ctx, s); err != nil {
		return nil, err
	}
	// Waits until all that went before is on disk, too.
	err = session.Exec(ctx, s, "BEGIN; SET LOCAL synchronous_commit = on; "+
		"UPDATE tidemark.follow SET state = 'promoted', promoted_at = pg_catalog.clock_timestamp() WHERE state = 'promoting'; COMMIT")
	if err != nil {
		return nil, fault.Wrap(err, fault.CodeOf(err), "run it again", "end the feed")
	}
	return p, nil
}

// lockPromoting takes the followers' lock and reads the row.
func lockPromoting(ctx context.Context, s *pgconn.PgConn) (*record, error) {
	f := &follower{}
	r, err := f.lockAndRead(ctx, s)
	if err == nil && (r == nil || r.State != Promoting) {
		err = fault.New(fault.Conflict, "run it again", "another promotion of this database is under way, or was taken back")
	}
	return r, err
}
