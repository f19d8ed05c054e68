package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/walstream"
)

// How often the monitor looks at the source.
const (
	monitorTick     = time.Second
	monitorInterval = 5 * time.Second
)

// activity is what the stream tells the monitor: when commits came, and whether a later one is still needed
// to settle the time of the newest (rule 11).
type activity struct {
	lastCommit atomic.Int64 // Unix nanoseconds of receipt
	unsettled  atomic.Bool
}

func (a *activity) commit(received time.Time, heartbeat bool) {
	a.lastCommit.Store(received.UnixNano())
	a.unsettled.Store(!heartbeat)
}

// monitor watches the source over an ordinary connection of its own: how much WAL and vacuum the slot holds
// back, whether the server is shutting down; and it writes heartbeats when the database is idle. It never touches
// the stream.
type monitor struct {
	cfg      *Config
	metrics  *metrics
	activity *activity
	stopping func() // called when the server says that it shuts down
	alive    func() // called when it answers
	log      *slog.Logger

	heartbeatAt time.Time
	looked      time.Time
}

// run works until ctx ends, connecting again whenever the connection is lost.
func (m *monitor) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.connected(ctx); err != nil && ctx.Err() == nil {
			m.lost(err)
			select {
			case <-time.After(monitorTick):
			case <-ctx.Done():
			}
		}
	}
}

func (m *monitor) lost(err error) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "57P01" || pg.Code == "57P02" || pg.Code == "57P03") {
		m.log.Info("the source is shutting down or starting up", "code", pg.Code)
		m.stopping()
		return
	}
	m.metrics.errors.WithLabelValues("monitor").Inc()
	m.log.Warn("monitoring connection lost, connecting again", "err", err)
}

func (m *monitor) connected(ctx context.Context) error {
	conn, err := walstream.Connect(ctx, m.cfg.DSN)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	m.alive()
	for {
		if err := m.once(ctx, conn); err != nil {
			return err
		}
		// Waiting for a notification that never comes reads whatever the server says by itself: the
		// FATAL of a shutdown arrives at once and not at the next query.
		wait, cancel := context.WithTimeout(ctx, monitorTick)
		_, err := conn.WaitForNotification(wait)
		expired := wait.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !expired {
			return err
		}
	}
}

func (m *monitor) once(ctx context.Context, conn *pgx.Conn) error {
	query, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	now := time.Now()
	if now.Sub(m.looked) >= monitorInterval {
		m.looked = now
		if err := m.look(query, conn); err != nil {
			return err
		}
	}
	return m.beat(query, conn, now)
}

// look reads the server's flush position and what the slot holds back.
func (m *monitor) look(ctx context.Context, conn *pgx.Conn) error {
	flush, err := flushLSN(ctx, conn)
	if err != nil {
		return err
	}
	slot, err := walstream.ReadSlot(ctx, conn, m.cfg.Slot)
	if err != nil {
		return err
	}
	m.metrics.sourceFlush.Store(uint64(flush))
	if slot != nil {
		m.metrics.retainedWAL.Set(float64(slot.RetainedBytes))
		m.metrics.xminAge.Set(float64(slot.CatalogXminAge))
	}
	return nil
}

// beat writes a heartbeat: soon after the last commit, so that its time is settled, and then once an interval.
// Nobody needs one while this process does not stream: a standby that waits leaves the source alone.
func (m *monitor) beat(ctx context.Context, conn *pgx.Conn, now time.Time) error {
	if !m.metrics.streaming.Load() {
		return nil
	}
	last := m.activity.lastCommit.Load()
	if last == 0 && m.heartbeatAt.IsZero() {
		m.heartbeatAt = now
	}
	settle := max(monitorTick, m.cfg.SegmentMaxAge/4)
	idle := now.Sub(time.Unix(0, last))
	due := m.activity.unsettled.Load() && idle >= settle && now.Sub(m.heartbeatAt) >= settle
	if !due && (idle < m.cfg.HeartbeatInterval || now.Sub(m.heartbeatAt) < m.cfg.HeartbeatInterval) {
		return nil
	}
	m.heartbeatAt = now
	_, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, $1, $2)", MessagePrefix, heartbeatContent)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}
