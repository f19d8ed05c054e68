package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/segment"
)

// closeConn ends a connection without waiting long for the server.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// The connection is of no more use, whatever the server answers.
	_ = conn.Close(ctx)
}

// lsnScanner scans an LSN from its text.
type lsnScanner struct{ to *segment.LSN }

// Scan implements sql.Scanner.
func (s lsnScanner) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("an LSN came as %T", src)
	}
	lsn, err := segment.ParseLSN(text)
	*s.to = lsn
	return err
}

// flushLSN reads how far the server's WAL is flushed: unlike the insert position, it always arrives in the
// stream (rule 3).
func flushLSN(ctx context.Context, conn *pgx.Conn) (lsn segment.LSN, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(lsnScanner{&lsn})
	return lsn, err
}

// sourceFacts is what an ordinary connection knows of the source.
type sourceFacts struct {
	systemID string
	database string
	encoding string
	version  int
	flush    segment.LSN
}

func readFacts(ctx context.Context, conn *pgx.Conn) (f sourceFacts, err error) {
	err = conn.QueryRow(ctx, `
		SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
		       current_setting('server_encoding'), current_setting('server_version_num')::int,
		       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text`).
		Scan(&f.systemID, &f.database, &f.encoding, &f.version, lsnScanner{&f.flush})
	return f, err
}
