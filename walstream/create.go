package walstream

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// CreatedSlot is a slot that was just made, with the snapshot that fits it.
type CreatedSlot struct {
	ConsistentPoint segment.LSN // the stream holds the commits at or above it, the snapshot those below
	SnapshotName    string      // for SET TRANSACTION SNAPSHOT, until Close
	conn            *replConn
}

// Close ends the session that holds the snapshot. The slot stays.
func (c *CreatedSlot) Close(ctx context.Context) error {
	if err := c.conn.Close(ctx); err != nil {
		return queryFault(err, "closing the session of snapshot %s", c.SnapshotName)
	}
	return nil
}

const (
	blockerPoll   = time.Second
	blockerRepeat = 30 * time.Second // the same blockers are named again after this long
	cleanupLimit  = 5 * time.Second
)

// CreateSlot makes the replication slot and exports its snapshot. The publication must exist before:
// a slot can't decode changes that are older than its publication. Creation waits for every
// transaction of the cluster that is running now; those are named in the log. After
// Config.CreateTimeout, or when ctx is cancelled, the creation is ended on the server too and
// nothing is left behind. A slot of that name is a Conflict.
func CreateSlot(ctx context.Context, cfg Config) (*CreatedSlot, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, err
	}
	control, err := Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(control)
	standby := false
	if err := control.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, queryFault(err, "creating replication slot %s", cfg.Slot)
	}
	if standby {
		return nil, inRecovery(cfg)
	}
	rc, err := connectReplication(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	c := &creation{rc: rc, finished: make(chan struct{})}
	go c.run(context.WithoutCancel(ctx), cfg.Slot)
	w := &creationWatch{cfg: cfg, control: control, creation: c, since: time.Now()}
	if err := w.wait(ctx); err != nil {
		err = w.undo(err)
		rc.abandon()
		return nil, err
	}
	if c.err != nil {
		rc.abandon()
		return nil, createFault(c.err, cfg.Slot)
	}
	point, err := segment.ParseLSN(c.res.ConsistentPoint)
	if err != nil {
		rc.abandon()
		return nil, fmt.Errorf("creating replication slot %s: %w", cfg.Slot, err)
	}
	return &CreatedSlot{ConsistentPoint: point, SnapshotName: c.res.SnapshotName, conn: rc}, nil
}

// creation is the command on its way. res and err may be read once finished is closed.
type creation struct {
	rc       *replConn
	finished chan struct{}
	res      pglogrepl.CreateReplicationSlotResult
	err      error
}

// run sends the command and waits for its end. Its context must not end before: that would leave a
// walsender on the server which waits on without us.
func (c *creation) run(ctx context.Context, slot string) {
	defer close(c.finished)
	c.res, c.err = pglogrepl.ParseCreateReplicationSlot(c.rc.Exec(ctx, createCommand(slot, majorOf(c.rc.PgConn))))
}

// createCommand returns the replication command for a server of that major version. Failover slots
// survive a promotion, from 17 on.
func createCommand(slot string, major int) string {
	head := `CREATE_REPLICATION_SLOT "` + slot + `" LOGICAL pgoutput `
	switch {
	case major >= 17:
		return head + "(SNAPSHOT 'export', FAILOVER true)"
	case major >= 15:
		return head + "(SNAPSHOT 'export')"
	}
	return head + "EXPORT_SNAPSHOT"
}

func createFault(err error, slot string) error {
	const what = "creating replication slot %s"
	switch {
	case hasState(err, "42710"):
		return fault.Wrap(flat{err}, fault.Conflict, "another archiver made it, or an older archive used it: archiver detach removes it", what, slot)
	case hasState(err, "53400"):
		return fault.Wrap(flat{err}, fault.Usage, "drop a slot that isn't needed, or raise max_replication_slots and restart the server", what, slot)
	case hasState(err, "55000"):
		return fault.Wrap(flat{err}, fault.Usage, "ALTER SYSTEM SET wal_level = logical; then restart the server", what, slot)
	}
	return queryFault(err, what, slot)
}

// Blocker is a transaction that the creation of a slot waits for.
type Blocker struct {
	PID         int32  // 0 for a prepared transaction
	Prepared    string // its GID if it is prepared
	Database    string
	User        string
	Application string
	State       string
	Since       time.Time // when it began; zero where we may not see it
}

// String names the transaction.
func (b Blocker) String() string {
	var s strings.Builder
	if b.Prepared != "" {
		fmt.Fprintf(&s, "prepared transaction %q", b.Prepared)
	} else {
		fmt.Fprintf(&s, "pid %d", b.PID)
	}
	fmt.Fprintf(&s, " (database %s, user %s", b.Database, b.User)
	if b.Application != "" {
		fmt.Fprintf(&s, ", application %s", b.Application)
	}
	if b.State != "" {
		fmt.Fprintf(&s, ", %s", b.State)
	}
	if !b.Since.IsZero() {
		fmt.Fprintf(&s, ", since %s", b.Since.UTC().Format(time.RFC3339))
	}
	return s.String() + ")"
}

// A running transaction holds a lock on its own id, which everybody may see; what pg_stat_activity shows
// of other roles' sessions depends on privileges. Of transactions younger than the creation only that
// one counts for which the walsender is waiting this moment.
const blockersQuery = `
select coalesce(l.pid, 0), coalesce(p.gid, ''), coalesce(a.datname, p.database, ''), coalesce(a.usename, p.owner, ''),
  coalesce(a.application_name, ''), coalesce(a.state, ''), coalesce(a.xact_start, p.prepared, 'epoch')
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join pg_prepared_xacts p on p.transaction = l.transactionid and l.pid is null
where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
  and l.pid is distinct from $1 and l.pid is distinct from pg_backend_pid()
  and (coalesce(a.xact_start, p.prepared, 'epoch')
      <= coalesce((select w.query_start from pg_stat_activity w where w.pid = $1), now())
    or l.transactionid in (select w.transactionid from pg_locks w where w.pid = $1 and not w.granted))
  and (l.pid is not null or p.gid is not null)
group by 1, 2, 3, 4, 5, 6, 7 order by 7, 1`

// readBlockers lists what the walsender pid may be waiting for, oldest first.
func readBlockers(ctx context.Context, conn *pgx.Conn, pid int32) ([]Blocker, error) {
	rows, err := conn.Query(ctx, blockersQuery, pid)
	if err == nil {
		var list []Blocker
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
			err = row.Scan(&b.PID, &b.Prepared, &b.Database, &b.User, &b.Application, &b.State, &b.Since)
			if b.Since.Unix() == 0 {
				b.Since = time.Time{}
			}
			return b, err
		})
		if err == nil {
			return list, nil
		}
	}
	return nil, queryFault(err, "looking for transactions that hold up the slot's creation")
}

// creationWatch looks on while the server creates a slot.
type creationWatch struct {
	cfg      Config
	control  *pgx.Conn
	creation *creation
	since    time.Time

	named   []Blocker
	namedAt time.Time
}

func (w *creationWatch) pid() int32 { return int32(w.creation.rc.PID()) }

// wait returns nil once the creation has finished, an error when ctx or the time is over.
func (w *creationWatch) wait(ctx context.Context) error {
	limit := time.NewTimer(w.cfg.CreateTimeout)
	defer limit.Stop()
	poll := time.NewTicker(blockerPoll)
	defer poll.Stop()
	for {
		select {
		case <-w.creation.finished:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return w.timedOut(ctx)
		case now := <-poll.C:
			if err := w.look(ctx, now); err != nil {
				return err
			}
		}
	}
}

// look names the blockers when they change, and from time to time.
func (w *creationWatch) look(ctx context.Context, now time.Time) error {
	list, err := readBlockers(ctx, w.control, w.pid())
	if err != nil {
		return err
	}
	same := slices.EqualFunc(list, w.named, func(a, b Blocker) bool { return a.PID == b.PID && a.Prepared == b.Prepared })
	if len(list) == 0 || (same && now.Sub(w.namedAt) < blockerRepeat) {
		return nil
	}
	w.named, w.namedAt = list, now
	for _, b := range list {
		w.cfg.Log.Warn("creating the replication slot waits for a transaction",
			slog.String("slot", w.cfg.Slot), slog.String("transaction", b.String()),
			slog.Duration("waited", now.Sub(w.since).Round(time.Second)))
	}
	return nil
}

func (w *creationWatch) timedOut(ctx context.Context) error {
	if list, err := readBlockers(ctx, w.control, w.pid()); err == nil {
		w.named = list // without an answer those of the last look are named
	}
	var names []string
	for _, b := range w.named {
		names = append(names, b.String())
	}
	if len(names) == 0 {
		names = []string{"transactions that we may not see"}
	}
	return fault.New(fault.Failed, "let them end, or end them: pg_terminate_backend(pid), ROLLBACK PREPARED; then try again",
		"creating replication slot %s waited %s in vain for %s", w.cfg.Slot, w.cfg.CreateTimeout, strings.Join(names, "; "))
}

// undo ends the creating walsender, which would otherwise wait on after we are gone, and drops the slot if
// it was completed in the meantime. It returns why, with what went wrong here if anything did.
func (w *creationWatch) undo(why error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	err := w.terminate(ctx)
	if err == nil {
		return why
	}
	return fault.Wrap(why, fault.CodeOf(why), fmt.Sprintf("SELECT pg_terminate_backend(%d); then drop the slot if it is there", w.pid()),
		"the slot's creation could not be ended (%s)", flat{err})
}

func (w *creationWatch) terminate(ctx context.Context) error {
	// The session that looked on may be what broke, or in the middle of a cancelled query.
	conn, err := Connect(ctx, w.cfg.DSN)
	if err != nil {
		return err
	}
	defer closeQuietly(conn)
	if _, err := conn.Exec(ctx, "select pg_terminate_backend($1)", w.pid()); err != nil {
		return err
	}
	select {
	case <-w.creation.finished:
	case <-ctx.Done():
		return ctx.Err()
	}
	return w.waitGone(ctx, conn)
}

// waitGone waits until the walsender has let go of the slot. Unless it was completed it goes with the
// walsender; a completed one is ours and is dropped. Never drop any other: it may be somebody's.
func (w *creationWatch) waitGone(ctx context.Context, conn *pgx.Conn) error {
	for {
		slot, err := ReadSlot(ctx, conn, w.cfg.Slot)
		if err != nil || slot == nil {
			return err
		}
		if slot.ActivePID != w.pid() {
			if w.creation.err != nil {
				return nil
			}
			return DropSlot(ctx, conn, w.cfg.Slot)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
