package pitr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/pitr/apply"
)

// ErrNoDatabase is in the chain of the error for a target database that isn't there.
var ErrNoDatabase = errors.New("the database does not exist")

// connector opens sessions on the target server.
type connector struct {
	config   *pgconn.Config
	encoding string // client_encoding: that of the archive's rows
	plain    bool   // the role may not switch triggers off, and needn't: openReplica leaves them on
}

func newConnector(dsn string) (*connector, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// The error's text may show the DSN.
		return nil, fault.New(fault.Usage, "a DSN looks like postgres://user@host:5432/database or host=... dbname=...", "the target's DSN can't be read")
	}
	if config.Database == "" {
		config.Database = config.User
	}
	return &connector{config: config, encoding: "UTF8"}, nil
}

// at names a database of the server, for messages.
func (c *connector) at(database string) string {
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

// open connects to a database of the server. Errors are faults: Usage for refused credentials or a
// missing database, else Unreachable.
func (c *connector) open(ctx context.Context, database string) (*pgconn.PgConn, error) {
	config := c.config.Copy()
	config.Database = database
	config.RuntimeParams["application_name"] = "tidemark restore"
	delete(config.RuntimeParams, "search_path")
	config.RuntimeParams["client_encoding"] = c.encoding
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
		closeNow(conn)
		return nil, fault.Wrap(err, fault.Failed, "", "set up a session on %s", c.at(database))
	}
	return conn, nil
}

// notGranted marks a connection on which a GRANT passed over what its role may not grant.
const notGranted = "tidemark: privilege not granted"

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

// openReplica opens a session in which triggers, rules and foreign keys don't fire. That is checked: with a
// setting that silently did not take, replay would do other things than the source did.
func (c *connector) openReplica(ctx context.Context, database string) (*pgconn.PgConn, error) {
	conn, err := c.open(ctx, database)
	if err != nil {
		return nil, err
	}
	if c.plain {
		return conn, nil
	}
	if err := becomeReplica(ctx, conn); err != nil {
		closeNow(conn)
		return nil, err
	}
	return conn, nil
}

func becomeReplica(ctx context.Context, conn *pgconn.PgConn) error {
	const hint = "restore as a superuser, or GRANT SET ON PARAMETER session_replication_role TO the restoring role (PostgreSQL 15 and later)"
	if _, err := conn.Exec(ctx, "SET session_replication_role = replica").ReadAll(); err != nil {
		return fault.Wrap(err, fault.Usage, hint, "the restoring role may not switch triggers off")
	}
	role, err := queryValue(ctx, conn, "SHOW session_replication_role")
	if err != nil {
		return err
	}
	if role != "replica" {
		return fault.New(fault.Usage, hint, "session_replication_role stays %q", role)
	}
	return nil
}

func (c *connector) connectError(err error, database string) error {
	where := c.at(database)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "28"):
			return fault.New(fault.Usage, "passwords come from the DSN, PGPASSWORD, or ~/.pgpass", "%s refuses the login: %s", where, pgErr.Message)
		case pgErr.Code == "3D000":
			return fault.Wrap(ErrNoDatabase, fault.Usage, "--create makes it", "%s", where)
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

// closeNow closes without waiting for the server's goodbye.
func closeNow(conn *pgconn.PgConn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Close(ctx) // the connection is given up in any case
}

// exec runs SQL without results.
func exec(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return sqlError(err)
}

// queryRows runs a query with text parameters and gives its rows as text; NULL is "".
func queryRows(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) ([][]string, error) {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	res := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, sqlError(res.Err)
	}
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		for _, v := range r {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// queryValue gives the first column of the first row, "" if there is none.
func queryValue(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) (string, error) {
	rows, err := queryRows(ctx, conn, sql, params...)
	if err != nil || len(rows) == 0 || len(rows[0]) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

// ownTable reports whether a table that Tidemark keeps on a target is there. One of another role that is no superuser is
// an error.
func ownTable(ctx context.Context, conn *pgconn.PgConn, name string) (bool, error) {
	rows, err := queryRows(ctx, conn, apply.OwnTableSQL, name)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if rows[0][0] != "1" {
		return false, fault.New(fault.Usage, "run this as that role if the table is Tidemark's; else drop it", "%s on the target belongs to role %q", name, rows[0][1])
	}
	return true, nil
}

// sqlError gives an error of the server, or of the way to it, its exit code.
func sqlError(err error) error {
	if err == nil {
		return nil
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case !ok:
		return fault.Wrap(err, fault.Unreachable, "", "the target database")
	case strings.HasPrefix(pgErr.Code, "57P"), strings.HasPrefix(pgErr.Code, "08"):
		return fault.Wrap(err, fault.Unreachable, "", "the target database")
	case pgErr.Code == "53100":
		return fault.Wrap(err, fault.Failed, "the target server's disk is full", "")
	}
	return fault.Wrap(err, fault.Failed, "", "")
}
