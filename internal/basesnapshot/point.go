package basesnapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// point is a consistent point whose snapshot is exported for as long as it is held.
type point struct {
	LSN  segment.LSN
	Name string // for SET TRANSACTION SNAPSHOT
	conn *pgconn.PgConn
}

// release ends the transaction that exports the snapshot. Sessions that imported it keep it.
func (p *point) release() {
	if p != nil && p.conn != nil {
		abandon(p.conn)
		p.conn = nil
	}
}

// makePoint makes a consistent point without keeping a slot: a temporary slot's snapshot becomes that of a
// transaction, which exports it, and the slot is dropped at once, so that no WAL is held. monitor is an
// ordinary session, used to say who keeps the slot waiting.
func makePoint(ctx context.Context, opt *Options, monitor *pgx.Conn) (*point, error) {
	conn, _, err := connectReplication(ctx, opt.DSN)
	if err != nil {
		return nil, err
	}
	p, err := exportPoint(ctx, opt, conn, monitor)
	if err != nil {
		abandon(conn)
		return nil, err
	}
	return p, nil
}

func exportPoint(ctx context.Context, opt *Options, conn *pgconn.PgConn, monitor *pgx.Conn) (*point, error) {
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").ReadAll(); err != nil {
		return nil, sqlFault(err, "beginning the snapshot's transaction")
	}
	slot := "tidemark_snapshot_" + randomID()
	lsn, err := createSlot(ctx, opt, conn, monitor, slot)
	if err != nil {
		return nil, err
	}
	name, err := oneValue(ctx, conn, "SELECT pg_catalog.pg_export_snapshot()", 0)
	if err != nil {
		return nil, sqlFault(err, "exporting the snapshot")
	}
	if _, err := conn.Exec(ctx, "DROP_REPLICATION_SLOT "+slot).ReadAll(); err != nil {
		return nil, sqlFault(err, "dropping the temporary slot")
	}
	return &point{LSN: lsn, Name: name, conn: conn}, nil
}

// randomID gives 16 random hexadecimal digits.
func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

func oneValue(ctx context.Context, conn *pgconn.PgConn, sql string, column int) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) <= column {
		return "", fmt.Errorf("%s: one row expected", sql)
	}
	return string(results[0].Rows[0][column]), nil
}

// createSlot makes the temporary slot. That waits for every transaction that is older, of any database,
// prepared ones too, so the wait is watched and limited.
func createSlot(ctx context.Context, opt *Options, conn *pgconn.PgConn, monitor *pgx.Conn, slot string) (segment.LSN, error) {
	type answer struct {
		lsn string
		err error
	}
	answers := make(chan answer, 1)
	// Not ended by ctx: a walsender doesn't notice that its client is gone. It is ended below.
	go func() {
		lsn, err := oneValue(context.WithoutCancel(ctx), conn, "CREATE_REPLICATION_SLOT "+slot+" TEMPORARY LOGICAL pgoutput USE_SNAPSHOT", 1)
		answers <- answer{lsn, err}
	}()
	deadline := time.NewTimer(opt.WaitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(blockerInterval)
	defer tick.Stop()
	told := ""
	for {
		select {
		case a := <-answers:
			if a.err != nil {
				return 0, slotFault(a.err)
			}
			return segment.ParseLSN(a.lsn)
		case <-tick.C:
			if who := describeBlockers(ctx, monitor, conn.PID()); who != "" && who != told {
				opt.Log.Warn("the base snapshot waits for older transactions to end", "blockers", who)
				told = who
			}
		case <-deadline.C:
			who := describeBlockers(ctx, monitor, conn.PID())
			err := endBackend(opt.DSN, conn.PID())
			if err == nil {
				<-answers
			}
			return 0, errors.Join(waitedTooLong(opt.WaitTimeout, who), err)
		case <-ctx.Done():
			err := endBackend(opt.DSN, conn.PID())
			if err == nil {
				<-answers
			}
			return 0, errors.Join(context.Cause(ctx), err)
		}
	}
}

const blockerInterval = time.Second

func waitedTooLong(limit time.Duration, blockers string) error {
	if blockers == "" {
		blockers = "not known"
	}
	return fault.New(fault.Failed, "end them (SELECT pg_terminate_backend(PID), ROLLBACK PREPARED 'NAME'), or let them finish, and try again",
		"a base snapshot must wait for all older transactions, and waited %s; those in the way: %s", limit, blockers)
}

func slotFault(err error) error {
	switch sqlState(err) {
	case "53400":
		return fault.Wrap(err, fault.Failed, "raise max_replication_slots by one: a snapshot needs a slot for a moment", "making the snapshot's temporary slot")
	case "55000":
		return fault.Wrap(err, fault.Usage, "ALTER SYSTEM SET wal_level = logical, and restart the server", "making the snapshot's temporary slot")
	}
	return sqlFault(err, "making the snapshot's temporary slot")
}

// blockersSQL finds who holds the transactions that backend $1 waits for. What they run is not shown: it may
// hold secrets.
const blockersSQL = `
SELECT CASE WHEN a.pid IS NULL THEN format('prepared transaction %L in %s', p.gid, p.database)
  ELSE format('pid %s (%s in %s, %s, for %s s)', a.pid, a.usename, a.datname, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::bigint) END
FROM pg_catalog.pg_locks w
LEFT JOIN pg_catalog.pg_locks h ON h.granted AND h.pid IS NOT NULL AND h.pid <> w.pid
  AND h.locktype = w.locktype AND h.transactionid IS NOT DISTINCT FROM w.transactionid AND h.virtualxid IS NOT DISTINCT FROM w.virtualxid
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = w.transactionid
WHERE w.pid = $1 AND NOT w.granted AND coalesce(a.pid::text, p.gid) IS NOT NULL
ORDER BY 1 LIMIT 20`

// describeBlockers names them, or returns "" where none is seen (or can be asked for).
func describeBlockers(ctx context.Context, monitor *pgx.Conn, pid uint32) string {
	// A query that is cancelled would take the session with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	rows, err := monitor.Query(ctx, blockersSQL, int32(pid))
	if err != nil {
		return ""
	}
	who, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return ""
	}
	return strings.Join(who, "; ")
}

// endBackend ends a waiting walsender, also after the caller's context has ended, over a session of its own.
func endBackend(dsn string, pid uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, _, err := connect(ctx, dsn)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", int32(pid))
		closeConn(conn)
	}
	return fault.Wrap(err, fault.Failed, fmt.Sprintf("end it yourself: SELECT pg_terminate_backend(%d)", pid), "the waiting walsender %d could not be ended", pid)
}
