package follow

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// State says what a fed database is about.
type State string

// The states of a fed database.
const (
	Following State = "following" // applies what comes, or would if a follower ran
	Reached   State = "reached"   // came to the target it was told to end at
	Promoting State = "promoting" // a promotion began and did not end yet
	Promoted  State = "promoted"  // is on its own
)

// record is the one row of tidemark.follow: how far the database came. It is written by the transactions
// that bring it there.
type record struct {
	Archive     string      `json:"archive"`
	History     uint32      `json:"history"`
	SnapshotID  string      `json:"snapshot_id"`
	SnapshotLSN segment.LSN `json:"snapshot_lsn"`

	// Position: of the archived commits exactly those with a lower commit LSN are applied.
	Position     segment.LSN       `json:"position"`
	CommitLSN    segment.LSN       `json:"commit_lsn"` // of the last applied commit, and its time and id; 0: none yet
	CommitTime   segment.Timestamp `json:"commit_time"`
	XID          uint32            `json:"xid"`
	Transactions int64             `json:"transactions"` // applied since the first restore

	Sequences uint64 `json:"sequences"` // catalog entry with the newest sample of the sequences passed; 0: the restore's
	Accepted  uint64 `json:"accepted"`  // newest catalog entry whose inexact ranges were accepted

	State        State             `json:"state"`
	Target       string            `json:"target"` // what State reached is about
	NoOwner      bool              `json:"no_owner"`
	NoPrivileges bool              `json:"no_privileges"`
	DelaySeconds int64             `json:"delay_seconds"`
	ArchiveEnd   segment.LSN       `json:"archive_end"` // as last seen
	ArchiveTime  segment.Timestamp `json:"archive_time"`
	SeenAt       segment.Timestamp `json:"seen_at"` // last word of a follower, by the database's clock
	PromotedAt   segment.Timestamp `json:"promoted_at"`
}

// tablesTable remembers which table of the database is which of the source (apply.Options.Known).
const tablesTable = "tidemark.follow_tables"

// latelyTable remembers the last schema changes (apply.Atomic.Lately).
const latelyTable = "tidemark.follow_lately"

// createTables gives the SQL that makes it.
func createTables(tables map[uint32]uint32) string {
	var b strings.Builder
	b.WriteString("CREATE TABLE " + tablesTable + " (source oid PRIMARY KEY, target oid NOT NULL);\nCOMMENT ON TABLE " + tablesTable + " IS 'OIDs of tables at the source of restorer follow, and here';\n")
	separator := "INSERT INTO " + tablesTable + " VALUES "
	for _, source := range slices.Sorted(maps.Keys(tables)) {
		fmt.Fprintf(&b, "%s(%d, %d)", separator, source, tables[source])
		separator = ", "
	}
	if len(tables) > 0 {
		b.WriteString(";\n")
	}
	return b.String()
}

// createRecord gives the SQL that makes a restored database one that is fed.
func createRecord(r record) string {
	text := sqltext.QuoteLiteral
	sql := `
CREATE SCHEMA IF NOT EXISTS tidemark;
CREATE TABLE tidemark.follow (
  id boolean PRIMARY KEY DEFAULT true CHECK (id),
  archive text NOT NULL, history bigint NOT NULL, snapshot_id text NOT NULL, snapshot_lsn pg_lsn NOT NULL,
  position pg_lsn NOT NULL, commit_lsn pg_lsn, commit_time timestamptz, xid bigint, transactions bigint NOT NULL DEFAULT 0,
  sequences bigint NOT NULL DEFAULT 0, accepted bigint NOT NULL DEFAULT 0,
  state text NOT NULL, target text NOT NULL DEFAULT '', no_owner boolean NOT NULL, no_privileges boolean NOT NULL,
  delay_seconds bigint NOT NULL DEFAULT 0, archive_end pg_lsn, archive_time timestamptz, seen_at timestamptz, promoted_at timestamptz
) WITH (fillfactor = 10);
COMMENT ON TABLE tidemark.follow IS 'how far restorer follow has brought this database';
`
	return sql + fmt.Sprintf(`INSERT INTO tidemark.follow (archive, history, snapshot_id, snapshot_lsn, position, commit_lsn, commit_time, xid, accepted, state, target, no_owner, no_privileges, seen_at)
VALUES (%s, %d, %s, %s, %s, %s, %s, %d, %d, %s, %s, %t, %t, clock_timestamp());
`, text(r.Archive), r.History, text(r.SnapshotID), lsnSQL(r.SnapshotLSN), lsnSQL(r.Position), lsnSQL(r.CommitLSN), timeSQL(r.CommitTime), r.XID, r.Accepted,
		text(string(r.State)), text(r.Target), r.NoOwner, r.NoPrivileges)
}

func lsnSQL(l segment.LSN) string {
	if l == 0 {
		return "NULL"
	}
	return "'" + l.String() + "'"
}

func timeSQL(t segment.Timestamp) string {
	if t.IsZero() {
		return "NULL"
	}
	return "'" + t.String() + "'"
}

// readRecord reads the row; nil if the database isn't fed by an archive.
func readRecord(ctx context.Context, s *pgconn.PgConn) (*record, error) {
	found, err := session.OwnTable(ctx, s, "tidemark.follow")
	if err != nil || !found {
		return nil, err
	}
	text, err := session.Value(ctx, s, "select row_to_json(f)::text from tidemark.follow f")
	if err != nil || text == "" {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fault.Wrap(err, fault.Usage, "drop the database and follow into an empty one", "the row in tidemark.follow can't be read")
	}
	return r, nil
}

// lastKept names the last applied commit for people.
func (r *record) lastKept() string {
	if r.CommitLSN == 0 {
		return "nothing after the base snapshot"
	}
	return fmt.Sprintf("transaction %d, commit LSN %s", r.XID, r.CommitLSN)
}

// advanceSQL moves the row on, if it still is where this follower left it.
func advanceSQL(from segment.LSN, state State, at apply.Position, seen seen, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "UPDATE tidemark.follow SET position = %s, transactions = transactions + %d, seen_at = pg_catalog.clock_timestamp(), archive_end = %s, archive_time = %s",
		lsnSQL(at.EndLSN), at.Transactions, lsnSQL(seen.end), timeSQL(seen.time))
	if at.CommitLSN != 0 {
		fmt.Fprintf(&b, ", commit_lsn = %s, commit_time = %s, xid = %d", lsnSQL(at.CommitLSN), timeSQL(at.Time), at.XID)
	}
	fmt.Fprintf(&b, "%s WHERE position = %s AND state = '%s'", more, lsnSQL(from), state)
	return b.String()
}
