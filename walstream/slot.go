package walstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/segment"
)

// SlotState is a row of pg_replication_slots, as far as it matters here.
type SlotState struct {
	Name           string
	Plugin         string // "" for a physical slot
	Database       string
	Temporary      bool
	TwoPhase       bool
	Failover       bool // 17 and later
	Active         bool
	ActivePID      int32  // 0 when nobody holds it
	Application    string // application_name of the holder, where we may see it
	RestartLSN     segment.LSN
	ConfirmedFlush segment.LSN // where the server would go on
	WALStatus      string      // reserved, extended, unreserved or lost; "" when nothing is reserved
	SafeWALSize    int64       // bytes that may be written before the slot is in danger; -1: no limit
	RetainedBytes  int64       // WAL between restart_lsn and the end
	CatalogXminAge int64       // transactions; grows with an idle slot, no size limit bounds it
	Invalidation   string      // why the slot is lost (16 and later), else ""
}

// Lost reports whether WAL that the slot needs is gone: it can never be read again.
func (s *SlotState) Lost() bool { return s.WALStatus == "lost" || s.Invalidation != "" }

// Columns that older versions lack are read through to_jsonb, which leaves them null there.
const slotQuery = `
select s.slot_name, coalesce(s.plugin, ''), coalesce(s.database, ''), s.temporary, s.two_phase,
  coalesce((to_jsonb(s)->>'failover')::bool, false), s.active, coalesce(s.active_pid, 0),
  coalesce((select a.application_name from pg_stat_activity a where a.pid = s.active_pid), ''),
  coalesce(s.restart_lsn, '0/0')::text, coalesce(s.confirmed_flush_lsn, '0/0')::text,
  coalesce(s.wal_status, ''), coalesce(s.safe_wal_size, -1),
  coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
    else pg_current_wal_flush_lsn() end, s.restart_lsn), 0)::bigint,
  coalesce(age(s.catalog_xmin), 0)::bigint,
  coalesce(to_jsonb(s)->>'invalidation_reason',
    case when (to_jsonb(s)->>'conflicting')::bool then 'conflict' end, '')
from pg_replication_slots s where s.slot_name = $1`

// ReadSlot returns the slot's state, nil when there is no slot of that name.
func ReadSlot(ctx context.Context, conn *pgx.Conn, slot string) (*SlotState, error) {
	var s SlotState
	var restart, confirmed string
	err := conn.QueryRow(ctx, slotQuery, slot).Scan(&s.Name, &s.Plugin, &s.Database, &s.Temporary, &s.TwoPhase,
		&s.Failover, &s.Active, &s.ActivePID, &s.Application, &restart, &confirmed,
		&s.WALStatus, &s.SafeWALSize, &s.RetainedBytes, &s.CatalogXminAge, &s.Invalidation)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, queryFault(err, "reading replication slot %s", slot)
	}
	if s.RestartLSN, err = segment.ParseLSN(restart); err == nil {
		s.ConfirmedFlush, err = segment.ParseLSN(confirmed)
	}
	if err != nil {
		return nil, fmt.Errorf("replication slot %s: %w", slot, err)
	}
	return &s, nil
}

// fault returns why the slot can't be streamed from in database, nil if it can. A slot in use is no
// fault here.
func (s *SlotState) fault(slot, database string) error {
	switch {
	case s == nil:
		return fault.New(fault.Gap, "archiver run --accept-gap records the hole and goes on behind it with a new slot",
			"replication slot %s does not exist", slot)
	case s.Plugin != "pgoutput":
		return fault.New(fault.Usage, "name another slot with --slot", "replication slot %s uses the plugin %q, not pgoutput", slot, s.Plugin)
	case s.Database != database:
		return fault.New(fault.Usage, "name another slot with --slot, or the slot's database in the DSN",
			"replication slot %s belongs to database %s, not %s", slot, s.Database, database)
	case s.TwoPhase:
		return fault.New(fault.Usage, s.twoPhaseCure(), "replication slot %s can't be used: %s", slot, s.twoPhaseProblem())
	case s.Lost():
		const hint = "archiver run --accept-gap records the hole and goes on behind it with a new slot; raise max_slot_wal_keep_size so that it doesn't happen again"
		return fault.New(fault.Gap, hint, "replication slot %s is lost: the server removed WAL that it needs (%s)", slot, s.lostReason())
	}
	return nil
}

// twoPhaseProblem is why a slot that decodes transactions when they are prepared does not do: what is prepared may be rolled back.
func (s *SlotState) twoPhaseProblem() string {
	return "the slot has two_phase = true, and sends transactions before they are committed"
}

// twoPhaseCure is not SQL alone: dropping a slot may be somebody else's loss.
func (s *SlotState) twoPhaseCure() string {
	return "name another with --slot, or drop it (SELECT pg_drop_replication_slot(" + sqltext.QuoteLiteral(s.Name) + ")): run makes one that serves, with --accept-gap where an archive goes on"
}

func (s *SlotState) lostReason() string {
	if s.Invalidation != "" {
		return s.Invalidation
	}
	return "wal_status " + s.WALStatus
}

// inUse is the error for a slot that another session holds.
func (s *SlotState) inUse() error {
	who := fmt.Sprintf("pid %d", s.ActivePID)
	if s.Application != "" {
		who += fmt.Sprintf(" (%s)", s.Application)
	}
	return fault.New(fault.Conflict, "stop the other reader first; one archiver reads one slot",
		"replication slot %s is in use by %s", s.Name, who)
}

// DropSlot drops the slot. A slot that isn't there is fine; one in use is a Conflict.
func DropSlot(ctx context.Context, conn *pgx.Conn, slot string) error {
	s, err := ReadSlot(ctx, conn, slot)
	if err != nil || s == nil {
		return err
	}
	if s.Active {
		return s.inUse()
	}
	_, err = conn.Exec(ctx, "select pg_drop_replication_slot($1)", slot)
	if hasState(err, "42704") {
		return nil
	}
	return queryFault(err, "dropping replication slot %s", slot)
}

// hasState reports whether err is a server error of that SQLSTATE.
func hasState(err error, state string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == state
}

// queryFault wraps the error of a statement on an open connection; nil for nil.
func queryFault(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if ctxErr := canceled(err); ctxErr != nil {
		return ctxErr
	}
	what := fmt.Sprintf(format, args...)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fault.Wrap(flat{err}, fault.Unreachable, "the connection to the source broke; it is tried again", "%s", what)
	}
	code, hint := serverCode(pg)
	return fault.Wrap(flat{pg}, code, hint, "%s", what)
}
