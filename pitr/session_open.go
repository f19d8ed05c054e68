package pitr

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// Session is a connection to a target database that is set up as a restore's own are: no trigger, rule or
// foreign key fires but those that are ENABLE ALWAYS or REPLICA, search_path is empty, no timeout ends a
// statement, and rows are found by an index wherever there is one. It belongs to one goroutine.
type Session struct {
	Conn *pgconn.PgConn
}

// OpenSession connects to the database that the DSN names. Encoding is the archived database's; an empty one
// counts as UTF8. The caller closes Conn. Errors are faults: Usage for a refused login, a missing database
// or a role that may not switch triggers off, else Unreachable.
func OpenSession(ctx context.Context, dsn, encoding string) (Session, error) {
	c, err := newConnector(dsn)
	if err != nil {
		return Session{}, err
	}
	if encoding == "SQL_ASCII" {
		c.encoding = encoding
	}
	conn, err := c.openReplica(ctx, c.config.Database)
	if err != nil {
		return Session{}, err
	}
	s := Session{conn}
	if err := s.Exec(ctx, replaySettings); err != nil {
		s.Close()
		return Session{}, fault.Wrap(err, fault.CodeOf(err), "", "set up a session for replay")
	}
	return s, nil
}

// Exec runs SQL without results. Errors are faults.
func (s Session) Exec(ctx context.Context, sql string) error { return exec(ctx, s.Conn, sql) }

// Rows runs a query with text parameters and gives its rows as text; NULL is "". Errors are faults.
func (s Session) Rows(ctx context.Context, sql string, params ...string) ([][]string, error) {
	return queryRows(ctx, s.Conn, sql, params...)
}

// Value gives the first column of a query's first row, "" if there is none.
func (s Session) Value(ctx context.Context, sql string, params ...string) (string, error) {
	return queryValue(ctx, s.Conn, sql, params...)
}

// Own reports whether a table that Tidemark keeps on a target is there; Usage for one of another role that is no superuser.
func (s Session) Own(ctx context.Context, name string) (bool, error) {
	return ownTable(ctx, s.Conn, name)
}

// Close closes the connection without waiting for the server's goodbye.
func (s Session) Close() { closeNow(s.Conn) }
