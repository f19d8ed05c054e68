package walstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"tidemark/internal/fault"
	"tidemark/segment"
	"tidemark/walstream/pgoutput"
)

// Keepalive is the server's word on where it is.
type Keepalive struct {
	// WALEnd is how far the server has read the WAL. Every transaction that commits below it was
	// sent before, so when none is open and nothing waits to be stored, it may be acknowledged once a
	// watermark says so. It is passed on as the server sent it: after a reconnect it goes back to the
	// slot's restart_lsn and climbs again, so ignore what is not ahead.
	WALEnd         segment.LSN
	ServerTime     segment.Timestamp
	ReplyRequested bool // the answer is sent by the Stream itself
	// Urgent: the server asks again and again, as it does when it is shutting down and waits for
	// everything to be acknowledged. Write the watermark at once, or close the Stream.
	Urgent bool
}

// Handler receives the stream. All calls come from Receive's goroutine.
type Handler interface {
	pgoutput.Sink
	// Keepalive may come inside a transaction too.
	Keepalive(Keepalive) error
	// Tick is called between messages at least every 100 ms, also when nothing arrives. (Inside a
	// single message larger than the read buffer there is no Tick.)
	Tick(now time.Time) error
}

// TimelineSwitch says where a timeline was left for the next one.
type TimelineSwitch struct {
	Timeline    int32       // the timeline that ended
	SwitchPoint segment.LSN // where; the next timeline has the WAL from here on
}

// Identity is what the server said about itself when the stream was started.
type Identity struct {
	SystemID      string
	Timeline      int32
	FlushLSN      segment.LSN // the end of the flushed WAL, taken before the stream began
	Database      string
	ServerVersion int    // server_version_num
	Encoding      string // server_encoding of the database; the stream's text is UTF8 except for SQL_ASCII
	BackendPID    int32  // of the walsender
	Slot          SlotState
	Publication   *Publication     // nil when it does not exist
	Switches      []TimelineSwitch // when Config.KnownTimeline differs from Timeline, oldest first
	SenderTimeout time.Duration    // wal_sender_timeout, 0: none
}

// Stream is a running replication stream. It owns a goroutine and a connection: Close it.
type Stream struct {
	log        *slog.Logger
	id         Identity
	conn       net.Conn
	src        io.Reader // reads conn, beginning with what pgconn had read already
	lowLatency bool
	status     *status
	receiving  chan struct{} // holds a token while no Receive runs
	closing    atomic.Bool
}

// Start connects, identifies the server, starts the slot at its own confirmed position and reads the
// slot's row while it is ours. Nothing is acknowledged yet beyond what the server knows. Errors are
// fault errors: Usage (credentials, privileges, wal_level, a slot of another plugin or database),
// Conflict (slot in use, after Config.SlotWait), Gap (no slot, a lost one), Unreachable.
func Start(ctx context.Context, cfg Config) (*Stream, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, err
	}
	control, err := Connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(control)
	s, rc := &Stream{log: cfg.Log, lowLatency: cfg.LowLatency}, (*replConn)(nil)
	if s.id, rc, err = begin(ctx, cfg, control); err != nil {
		return nil, err
	}
	if err = s.confirm(ctx, rc, cfg, control); err == nil {
		err = s.takeOver(rc)
	}
	if err != nil {
		rc.abandon()
		return nil, err
	}
	s.receiving = make(chan struct{}, 1)
	s.receiving <- struct{}{}
	s.status = newStatus(s.conn, s.id.Slot.ConfirmedFlush, s.id.SenderTimeout)
	go s.status.run()
	return s, nil
}

// begin opens the replication connection and starts the slot on it, waiting for a slot in use: after
// a crash the old walsender may need a moment to notice.
func begin(ctx context.Context, cfg Config, control *pgx.Conn) (Identity, *replConn, error) {
	for deadline := time.Now().Add(cfg.SlotWait); ; {
		rc, err := connectReplication(ctx, cfg.DSN)
		if err != nil {
			return Identity{}, nil, err
		}
		id, err := startOn(ctx, rc, cfg, control)
		if err == nil {
			return id, rc, nil
		}
		rc.abandon()
		if fault.CodeOf(err) != fault.Conflict || time.Now().After(deadline) {
			return Identity{}, nil, err
		}
		select {
		case <-ctx.Done():
			return Identity{}, nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func startOn(ctx context.Context, rc *replConn, cfg Config, control *pgx.Conn) (Identity, error) {
	id, err := identify(ctx, rc, cfg)
	if err != nil {
		return id, err
	}
	slot, err := ReadSlot(ctx, control, cfg.Slot)
	if err != nil {
		return id, err
	}
	if err := slot.fault(cfg.Slot, id.Database); err != nil {
		return id, err
	}
	if slot.Active {
		return id, slot.inUse()
	}
	return id, startReplication(ctx, rc, cfg)
}

// identify asks the server who it is and where.
func identify(ctx context.Context, rc *replConn, cfg Config) (Identity, error) {
	sys, err := pglogrepl.IdentifySystem(ctx, rc.PgConn)
	if err != nil {
		return Identity{}, queryFault(err, "identifying the server")
	}
	id := Identity{
		SystemID:   sys.SystemID,
		Timeline:   sys.Timeline,
		FlushLSN:   segment.LSN(sys.XLogPos),
		Database:   sys.DBName,
		Encoding:   rc.ParameterStatus("server_encoding"),
		BackendPID: int32(rc.PID()),
	}
	row, err := rc.query(ctx, `select current_setting('server_version_num'), current_setting('wal_level'),
		(select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'), pg_catalog.pg_is_in_recovery()::text`)
	if err != nil {
		return id, queryFault(err, "reading the server's settings")
	}
	if string(row[3]) == "true" {
		return id, inRecovery(cfg)
	}
	if level := string(row[1]); level != "logical" {
		return id, fault.New(fault.Usage, "ALTER SYSTEM SET wal_level = logical; then restart the server",
			"the source has wal_level = %s, which has no logical decoding", level)
	}
	millis, err := strconv.Atoi(string(row[2]))
	if err == nil {
		id.SenderTimeout = time.Duration(millis) * time.Millisecond
		id.ServerVersion, err = strconv.Atoi(string(row[0]))
	}
	if err != nil {
		return id, fmt.Errorf("reading the server's settings: %w", err)
	}
	if id.Timeline > 1 && id.Timeline != cfg.KnownTimeline {
		id.Switches, err = timelineSwitches(ctx, rc, id.Timeline, cfg.Log)
	}
	return id, err
}

// inRecovery is the error for a standby. It may be promoted any moment, so it is worth trying again.
func inRecovery(cfg Config) error {
	return fault.New(fault.Unreachable, "give the primary's address; a standby that is being promoted is tried again",
		"the source of slot %s is a standby in recovery", cfg.Slot)
}

// timelineSwitches fetches the history of a timeline. A server without the file (it was made from a
// backup that lacks it) yields none, which proves no continuity to anybody.
func timelineSwitches(ctx context.Context, rc *replConn, timeline int32, log *slog.Logger) ([]TimelineSwitch, error) {
	history, err := pglogrepl.TimelineHistory(ctx, rc.PgConn, timeline)
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		log.Warn("the server has no history of its timeline", "timeline", timeline, "error", flat{err})
		return nil, nil
	}
	if err != nil {
		return nil, queryFault(err, "reading the history of timeline %d", timeline)
	}
	return parseHistory(string(history.Content))
}

// parseHistory reads a timeline history file: "parent<TAB>switch point<TAB>reason" on each line
// (src/backend/access/transam/timeline.c).
func parseHistory(content string) ([]TimelineSwitch, error) {
	var switches []TimelineSwitch
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("timeline history: %q has no switch point", strings.TrimSpace(line))
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
		lsn, err := segment.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
		switches = append(switches, TimelineSwitch{Timeline: int32(timeline), SwitchPoint: lsn})
	}
	return switches, nil
}

// startReplication starts at 0/0, so that the server goes on from its own confirmed position.
func startReplication(ctx context.Context, rc *replConn, cfg Config) error {
	names := strings.ReplaceAll(pgx.Identifier{cfg.Publication}.Sanitize(), "'", "''")
	err := pglogrepl.StartReplication(ctx, rc.PgConn, `"`+cfg.Slot+`"`, 0, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names '" + names + "'", "messages 'true'"},
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		code, hint := streamCode(pg)
		return fault.Wrap(flat{pg}, code, hint, "starting replication slot %s", cfg.Slot)
	}
	return queryFault(err, "starting replication slot %s", cfg.Slot)
}

// confirm reads slot and publication after the start: until it ends, nobody else can move the slot.
func (s *Stream) confirm(ctx context.Context, rc *replConn, cfg Config, control *pgx.Conn) error {
	slot, err := ReadSlot(ctx, control, cfg.Slot)
	if err != nil {
		return err
	}
	if err := slot.fault(cfg.Slot, s.id.Database); err != nil {
		return err
	}
	switch slot.ActivePID {
	case s.id.BackendPID:
	case 0:
		return lastWords(ctx, rc, cfg.Slot)
	default:
		return slot.inUse()
	}
	s.id.Slot = *slot
	s.id.Publication, err = ReadPublication(ctx, control, cfg.Publication)
	return err
}

// lastWords returns why the stream ended right after its start: its first change can't be decoded,
// for instance, or the server is shutting down.
func lastWords(ctx context.Context, rc *replConn, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		msg, err := rc.ReceiveMessage(ctx)
		if e, ok := msg.(*pgproto3.ErrorResponse); ok {
			err = pgconn.ErrorResponseToPgError(e)
		}
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			code, hint := streamCode(pg)
			return fault.Wrap(flat{pg}, code, hint, "the server ended the stream of slot %s", slot)
		}
		if err != nil {
			return fault.Wrap(flat{err}, fault.Unreachable, "the connection is made again", "the server ended the stream of slot %s", slot)
		}
	}
}

// takeOver takes the connection away from pgconn.
func (s *Stream) takeOver(rc *replConn) error {
	hijacked, err := rc.Hijack()
	if err != nil {
		return fmt.Errorf("taking over the replication connection: %w", err)
	}
	if n := hijacked.Frontend.ReadBufferLen(); n != 0 {
		return fmt.Errorf("taking over the replication connection: %d bytes were read ahead", n)
	}
	s.conn, s.src = hijacked.Conn, rc.step.r
	return nil
}

// Identity returns what the server said about itself at the start.
func (s *Stream) Identity() Identity { return s.id }

// Shallow reports whether the connection holds so little that the server waits as soon as the Handler is busy for a
// millisecond: a Unix socket has room for some 160 messages, however small they are.
func (s *Stream) Shallow() bool { return s.conn.RemoteAddr().Network() == "unix" }

// Ack says that everything below lsn (the end of a commit, or a keepalive's WALEnd) is durable. It may
// be called from any goroutine; positions below an earlier one are ignored. The server is told at
// once, but never a position above what it sent on this connection: that part waits until it was.
func (s *Stream) Ack(lsn segment.LSN) { s.status.acknowledge(lsn) }

// Acked returns the position that the server was last told (or had itself at the start).
func (s *Stream) Acked() segment.LSN { return segment.LSN(s.status.told.Load()) }

// Close tells the server the last position, ends the stream and waits for the server to leave, so
// that the slot is free; within about three seconds or ctx, whichever is less. A Receive that is
// running returns ErrClosed. The error says whether the last position may not have arrived.
func (s *Stream) Close(ctx context.Context) error {
	if s.closing.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	s.status.end(time.Now().Add(time.Second))
	idle := false
	select {
	case <-s.receiving:
		idle = true
	case <-time.After(time.Until(deadline) / 2):
	case <-ctx.Done():
	}
	err := s.status.farewell(deadline)
	if idle && err == nil {
		drain(s.conn, deadline)
	}
	// What the close itself says is of no use to anybody: the farewell went out or it didn't.
	_ = s.conn.Close()
	return err
}

// drain reads until the server has closed. Closing with unread data would make the kernel reset the
// connection, and the server might never read our last position.
func drain(conn net.Conn, deadline time.Time) {
	if conn.SetReadDeadline(deadline) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

func closeQuietly(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // an ordinary session; the server cleans up by itself
}
