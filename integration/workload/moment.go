package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/segment"
)

// Moment is a position in the WAL and what the database held there: exactly the transactions whose
// commit LSN is less than LSN.
type Moment struct {
	LSN    segment.LSN
	Hashes Hashes
}

var errRewritten = errors.New("a table was truncated while the moment was taken")

// TakeMoment hashes a database that is being written to, under the snapshot that a temporary slot
// exports at its consistent point. Nothing else gives a read an LSN: a reader may see a commit and
// not one with a lower LSN.
func TakeMoment(ctx context.Context, dsn string) (Moment, error) {
	return TakeMomentAnd(ctx, dsn, func(string) error { return nil })
}

// TakeMomentAnd is TakeMoment, and calls f with the name of the snapshot while other sessions can still import
// it; with f's error the moment is none. f may be called more than once.
func TakeMomentAnd(ctx context.Context, dsn string, f func(snapshot string) error) (Moment, error) {
	for attempt := 0; ; attempt++ {
		m, err := takeMoment(ctx, dsn, f)
		var pg *pgconn.PgError
		again := errors.Is(err, errRewritten) || errors.As(err, &pg) && pg.Code == "55P03"
		if !again || attempt == 20 {
			return m, err
		}
	}
}

func takeMoment(ctx context.Context, dsn string, f func(snapshot string) error) (m Moment, err error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return m, err
	}
	config.RuntimeParams["replication"] = "database"
	slot, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return m, err
	}
	defer slot.Close(ctx)
	// Named by the backend, so that concurrent moments don't collide.
	name := fmt.Sprintf("moment_%d", slot.PID())
	results, err := slot.Exec(ctx, "CREATE_REPLICATION_SLOT "+name+" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT").ReadAll()
	if err != nil {
		return m, err
	}
	created := results[0].Rows[0] // slot_name, consistent_point, snapshot_name, output_plugin
	if m.LSN, err = segment.ParseLSN(string(created[1])); err != nil {
		return m, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return m, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SET lock_timeout = '2s'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '"+
		string(created[2])+"'", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return m, err
	}
	if err := lockTables(ctx, conn); err != nil {
		return m, err
	}
	if m.Hashes, err = HashTables(ctx, conn); err != nil {
		return m, err
	}
	return m, f(string(created[2]))
}

// lockTables keeps TRUNCATE away from here on, and fails if one came before: it is not MVCC-safe.
func lockTables(ctx context.Context, conn *pgx.Conn) error {
	tables, err := listTables(ctx, conn)
	if err != nil {
		return err
	}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	if _, err := conn.Exec(ctx, "LOCK TABLE ONLY "+strings.Join(names, ", ONLY ")+" IN ACCESS SHARE MODE"); err != nil {
		return err
	}
	if tables, err = listTables(ctx, conn); err != nil {
		return err
	}
	for _, t := range tables {
		if t.rewritten {
			return fmt.Errorf("%s: %w", t.name, errRewritten)
		}
	}
	return nil
}
