package follow

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// Status says how a fed database stands: the JSON of `restorer follow --status`.
type Status struct {
	State        string            `json:"state"` // restoring | following | stopped | reached | promoting | promoted
	Database     string            `json:"database,omitempty"`
	Archive      string            `json:"archive"`
	History      uint32            `json:"history"`
	SnapshotID   string            `json:"snapshot_id"`
	AppliedLSN   segment.LSN       `json:"applied_lsn"`  // of the archived commits exactly those with a lower commit LSN are applied
	AppliedTime  segment.Timestamp `json:"applied_time"` // of the last applied commit
	AppliedXID   uint32            `json:"applied_xid"`
	Transactions int64             `json:"transactions"` // applied since the first restore
	Target       string            `json:"target,omitempty"`

	ArchiveEndLSN  segment.LSN       `json:"archive_end_lsn"`
	ArchiveEndTime segment.Timestamp `json:"archive_end_time"`
	ArchiveRead    bool              `json:"archive_read"` // false: the archive can't be read, and its end is as a follower last saw it
	LagBytes       int64             `json:"lag_bytes"`
	LagSeconds     float64           `json:"lag_seconds"` // age of the oldest archived commit that isn't applied; 0 when there is none
	DelaySeconds   int64             `json:"delay_seconds"`
	SeenAt         segment.Timestamp `json:"seen_at"` // last word of a follower
	PromotedAt     segment.Timestamp `json:"promoted_at,omitzero"`
}

// runningQuery tells whether a follower holds its lock.
const runningQuery = `select 1 from pg_catalog.pg_locks l join pg_catalog.pg_database d on d.oid = l.database
where d.datname = current_database() and l.locktype = 'advisory' and l.granted and (l.classid, l.objid) = (1953064045::oid, 1::oid)`

// ReadStatus reads how the database stands. The archive is asked how far it reaches; if it can't be read the
// answer is what the follower last saw. Errors are faults: Usage for a database that is not fed.
func ReadStatus(ctx context.Context, o Options) (*Status, error) {
	o.defaults()
	s, err := session.OpenReplay(ctx, o.DSN, "")
	if err != nil {
		return nil, err
	}
	defer session.Close(s)
	r, err := readRecord(ctx, s)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return restoring(ctx, s)
	}
	running, err := session.Value(ctx, s, runningQuery)
	if err != nil {
		return nil, err
	}
	st := &Status{
		State: string(r.State), Archive: r.Archive, History: r.History, SnapshotID: r.SnapshotID,
		AppliedLSN: r.Position, AppliedTime: r.CommitTime, AppliedXID: r.XID, Transactions: r.Transactions, Target: r.Target,
		ArchiveEndLSN: r.ArchiveEnd, ArchiveEndTime: r.ArchiveTime, DelaySeconds: r.DelaySeconds, SeenAt: r.SeenAt, PromotedAt: r.PromotedAt,
	}
	if r.State == Following && running == "" {
		st.State = "stopped"
	}
	if err := st.compare(ctx, o, r); err != nil {
		return nil, err
	}
	st.LagBytes = max(0, int64(st.ArchiveEndLSN)-int64(st.AppliedLSN))
	return st, nil
}

// restoring is the status of a database without a row.
func restoring(ctx context.Context, s *pgconn.PgConn) (*Status, error) {
	found, err := session.Value(ctx, s, "select coalesce(to_regclass('tidemark_unfinished.restore')::text, '')")
	if err != nil {
		return nil, err
	}
	if found == "" {
		return nil, fault.New(fault.Usage, "restorer follow --into DSN begins", "the database is not fed by an archive")
	}
	return &Status{State: "restoring"}, nil
}

// compare asks the archive how far it reaches.
func (st *Status) compare(ctx context.Context, o Options, r *record) error {
	st.LagSeconds = secondsSince(o, r.CommitTime)
	if st.ArchiveEndLSN <= st.AppliedLSN {
		st.LagSeconds = 0
	}
	log, err := catalog.Open(ctx, o.Store)
	if fault.CodeOf(err) == fault.Unreachable {
		o.Log.Warn("the archive can't be read: its end is as the follower last saw it", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	v := log.View()
	if v.Identity().ID != r.Archive {
		return fault.New(fault.Usage, "name that archive, or a copy of it", "the database follows archive %s, and this is %s", r.Archive, v.Identity().ID)
	}
	h, _ := v.History(r.History)
	st.ArchiveEndLSN, st.ArchiveEndTime, st.ArchiveRead, st.LagSeconds = h.End, h.RunningMax, true, 0
	e, ok, err := v.FirstSegment(ctx, catalog.Range{History: r.History, From: r.Position})
	if err != nil || !ok {
		return err
	}
	first := e.Segment.FirstCommitTime
	if e.Segment.FirstCommitLSN < r.Position {
		first = r.CommitTime // the next one in the segment is a little younger
	}
	st.LagSeconds = secondsSince(o, first)
	return nil
}

func secondsSince(o Options, t segment.Timestamp) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, o.Now().Sub(t.Time()).Round(time.Millisecond).Seconds())
}
