// Package session opens connections to a database that is restored into, set up as a restore needs them, and runs SQL on them.
//
// Errors are faults: Usage for what the caller can put right, Unreachable for a server that isn't there (any more), else Failed.
package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
)

// ErrNoDatabase is in the chain of the error for a target database that isn't there.
var ErrNoDatabase = errors.New("the database does not exist")

// Connector opens sessions on one server.
type Connector struct {
	Encoding string // client_encoding: that of the archive's rows
	Plain    bool   // the role may not switch triggers off, and needn't: OpenReplica leaves them on

	config *pgconn.Config
}

// NewConnector reads a DSN, and connects to nothing yet. A DSN without a database means the one that is named as the user.
func NewConnector(dsn string) (*Connector, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// The error's text may show the DSN.
		return nil, fault.New(fault.Usage, "a DSN looks like postgres://user@host:5432/database or host=... dbname=...", "the target's DSN can't be read")
	}
	if config.Database == "" {
		config.Database = config.User
	}
	return &Connector{Encoding: "UTF8", config: config}, nil
}

// EncodingOf is the client_encoding for rows of a database with that encoding: they were archived as UTF8, but for SQL_ASCII, which says
// nothing of what bytes mean.
func EncodingOf(database string) string {
	if database == "SQL_ASCII" {
		return database
	}
	return "UTF8"
}

// Database is the name of the database that the DSN names.
func (c *Connector) Database() string { return c.config.Database }

// SameDatabase reports whether two DSNs plainly name one database.
func (c *Connector) SameDatabase(o *Connector) bool {
	return c.config.Database == o.config.Database && c.config.Host == o.config.Host && c.config.Port == o.config.Port
}

// At names a database of the server, for messages.
func (c *Connector) At(database string) string {
	return fmt.Sprintf("database %q on %s:%d", database, c.config.Host, c.config.Port)
}

// What a session is set to before anything else. Values are read in the forms they were written in
// (docs/format/snapshot.md, "Rows"), names are resolved by nothing but what is written, and no limit
// of the role or the database ends a long statement.
const sessionSettings = `
SET search_path = '';
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off;
SET DateStyle = 'ISO, MDY'; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET lc_monetary = 'C';
SET standard_conforming_strings = on; SET xmloption = content; SET check_function_bodies = off;
SET row_security = off; SET synchronous_commit = off; SET client_min_messages = warning;`

// Open connects to a database of the server. Refused credentials and a missing database (ErrNoDatabase) are Usage, all else Unreachable.
func (c *Connector) Open(ctx context.Context, database string) (*pgconn.PgConn, error) {
	config := c.config.Copy()
	config.Database = database
	config.RuntimeParams["application_name"] = "tidemark restore"
	delete(config.RuntimeParams, "search_path")
	config.RuntimeParams["client_encoding"] = c.Encoding
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == "01007" { // warning_privilege_not_granted
			conn.CustomData()[notGranted] = true
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, c.connectError(err, database)
	}
	if _, err = conn.Exec(ctx, sessionSettings+laterTimeouts(conn)).ReadAll(); err != nil {
		Close(conn)
		return nil, fault.Wrap(err, fault.Failed, "", "set up a session on %s", c.At(database))
	}
	return conn, nil
}

// laterTimeouts switches off the timeouts that not all supported versions know. Looking for them in pg_settings would take
// longer than everything else that a new session is asked.
func laterTimeouts(conn *pgconn.PgConn) (sql string) {
	var major int
	if _, err := fmt.Sscanf(conn.ParameterStatus("server_version"), "%d", &major); err != nil {
		return ""
	}
	if major >= 14 {
		sql += "SET idle_session_timeout = 0;"
	}
	if major >= 17 {
		sql += "SET transaction_timeout = 0;"
	}
	return sql
}

// OpenReplica opens a session in which triggers, rules and foreign keys don't fire. That is checked: with a
// setting that silently did not take, replay would do other things than the source did.
func (c *Connector) OpenReplica(ctx context.Context, database string) (*pgconn.PgConn, error) {
	conn, err := c.Open(ctx, database)
	if err != nil {
		return nil, err
	}
	if c.Plain {
		return conn, nil
	}
	if err := BecomeReplica(ctx, conn); err != nil {
		Close(conn)
		return nil, err
	}
	return conn, nil
}

// BecomeReplica puts a session into the replica role, and makes sure of it. A role that may not is Usage, with the server's error in the chain.
func BecomeReplica(ctx context.Context, conn *pgconn.PgConn) error {
	const hint = "restore as a superuser, or GRANT SET ON PARAMETER session_replication_role TO the restoring role (PostgreSQL 15 and later)"
	if _, err := conn.Exec(ctx, "SET session_replication_role = replica").ReadAll(); err != nil {
		return fault.Wrap(err, fault.Usage, hint, "the restoring role may not switch triggers off")
	}
	role, err := Value(ctx, conn, "SHOW session_replication_role")
	if err != nil {
		return err
	}
	if role != "replica" {
		return fault.New(fault.Usage, hint, "session_replication_role stays %q", role)
	}
	return nil
}

func (c *Connector) connectError(err error, database string) error {
	where := c.At(database)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "28"):
			return fault.New(fault.Usage, "passwords come from the DSN, PGPASSWORD, or ~/.pgpass", "%s refuses the login: %s", where, pgErr.Message)
		case pgErr.Code == "3D000":
			return fault.Wrap(ErrNoDatabase, fault.Usage, "name one that is there, or make it first", "%s", where)
		case pgErr.Code == "42501":
			return fault.New(fault.Usage, "GRANT CONNECT ON DATABASE", "%s can't be entered: %s", where, pgErr.Message)
		}
		return fault.New(fault.Unreachable, "", "connect to %s: %s", where, pgErr.Message)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.New(fault.Unreachable, "is the server running, and reachable from here?", "connect to %s: %s", where, fault.Plain(err))
}

// replaySettings are those of a session that finds rows: by an index wherever there is one. The planner knows no
// statistics of tables that have just been filled and would read small ones from end to end; but replay
// leaves a dead row with each update, so that small tables grow large within one transaction. Just-in-time
// compilation, which the price of a forbidden plan would call for, can't pay for single rows.
const replaySettings = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"

// FindByIndex has a session find rows by an index wherever there is one.
func FindByIndex(ctx context.Context, conn *pgconn.PgConn) error {
	if err := Exec(ctx, conn, replaySettings); err != nil {
		return fault.Wrap(err, fault.CodeOf(err), "", "set up a session for replay")
	}
	return nil
}

// OpenReplay connects to the database that the DSN names as a replay does: no trigger, rule or foreign key fires but those that are
// ENABLE ALWAYS or REPLICA, and rows are found by an index wherever there is one. Encoding is the archived database's. The caller closes
// the session.
func OpenReplay(ctx context.Context, dsn, encoding string) (*pgconn.PgConn, error) {
	c, err := NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	c.Encoding = EncodingOf(encoding)
	conn, err := c.OpenReplica(ctx, c.Database())
	if err != nil {
		return nil, err
	}
	if err := FindByIndex(ctx, conn); err != nil {
		Close(conn)
		return nil, err
	}
	return conn, nil
}
