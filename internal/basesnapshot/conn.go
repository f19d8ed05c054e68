package basesnapshot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/walstream"
)

const applicationName = "tidemark snapshot"

// sessionSettings make values read the same whatever role, database and DSN set, and let nothing end a
// session that has to hold a snapshot for hours.
const sessionSettings = `SET application_name = 'tidemark snapshot'; SET row_security = off; SET search_path = '';
SET bytea_output = hex; SET datestyle = 'ISO, YMD'; SET intervalstyle = postgres; SET extra_float_digits = 3;
SET lc_monetary = 'C'; SET timezone = 'UTC'; SET statement_timeout = 0; SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; SET synchronous_commit = local;
SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off; SET default_transaction_read_only = off;
SET max_parallel_workers_per_gather = 0; SET synchronize_seqscans = off; SET standard_conforming_strings = on; SET quote_all_identifiers = off`

// serverInfo is what a session knows of its server.
type serverInfo struct {
	Version  int // server_version_num
	Encoding string
}

// clientEncoding is UTF8, or SQL_ASCII where values may be no text at all.
func (s serverInfo) clientEncoding() string {
	if s.Encoding == "SQL_ASCII" {
		return "SQL_ASCII"
	}
	return "UTF8"
}

// connect opens a session with sessionSettings. The caller closes it.
func connect(ctx context.Context, dsn string) (*pgx.Conn, serverInfo, error) {
	conn, err := walstream.Connect(ctx, dsn)
	if err != nil {
		return nil, serverInfo{}, err
	}
	info, err := prepareSession(ctx, conn.PgConn())
	if err != nil {
		closeConn(conn)
		return nil, serverInfo{}, sqlFault(err, "preparing a session")
	}
	return conn, info, nil
}

// prepareSession sets up a session through the simple protocol, which replication connections need.
func prepareSession(ctx context.Context, conn *pgconn.PgConn) (serverInfo, error) {
	info := serverInfo{Encoding: conn.ParameterStatus("server_encoding")}
	results, err := conn.Exec(ctx, "SHOW server_version_num").ReadAll()
	if err != nil {
		return info, err
	}
	if _, err := fmt.Sscan(string(results[0].Rows[0][0]), &info.Version); err != nil {
		return info, fmt.Errorf("server_version_num: %w", err)
	}
	set := sessionSettings + "; SET client_encoding = '" + info.clientEncoding() + "'"
	if info.Version >= 170000 {
		set += "; SET transaction_timeout = 0"
	}
	_, err = conn.Exec(ctx, set).ReadAll()
	return info, err
}

// connectReplication opens a connection with replication=database.
func connectReplication(ctx context.Context, dsn string) (*pgconn.PgConn, serverInfo, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, serverInfo{}, fault.New(fault.Usage, "a DSN looks like postgres://user@host:5432/database", "the source's DSN can't be read")
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, serverInfo{}, replicationFault(err)
	}
	info, err := prepareSession(ctx, conn)
	if err != nil {
		abandon(conn)
		return nil, info, sqlFault(err, "preparing a replication connection")
	}
	return conn, info, nil
}

func replicationFault(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pg.Code, "28"), pg.Code == "42501":
			return fault.Wrap(errors.New(pg.Message), fault.Usage, "the role needs REPLICATION and a line in pg_hba.conf; archiver check --sql prints it", "can't open a replication connection")
		case pg.Code == "53300":
			return fault.Wrap(errors.New(pg.Message), fault.Unreachable, "raise max_wal_senders", "can't open a replication connection")
		}
	}
	return sqlFault(err, "opening a replication connection")
}

// sqlFault gives an error from the server or the connection its exit code.
func sqlFault(err error, format string, args ...any) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	what := fmt.Sprintf(format, args...)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fault.Wrap(err, fault.Unreachable, "is the server up? the snapshot can be taken again", "%s", what)
	}
	switch {
	case pg.Code == "42501":
		return fault.Wrap(err, fault.Usage, "archiver check --sql prints the privileges that a snapshot needs", "%s", what)
	case strings.HasPrefix(pg.Code, "57P"), strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"):
		return fault.Wrap(err, fault.Unreachable, "the snapshot can be taken again", "%s", what)
	}
	return fault.Wrap(err, fault.Failed, "", "%s", what)
}

// goodbye bounds what closing a connection may take.
const goodbye = 2 * time.Second

func closeConn(conn *pgx.Conn) { abandon(conn.PgConn()) }

// abandon closes a connection; a session that is given up has nothing of value that could be lost.
func abandon(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = conn.Close(ctx)
}

// peerOf returns the address that the connection reached.
func peerOf(conn *pgx.Conn) net.Addr { return conn.PgConn().Conn().RemoteAddr() }

// sqlState returns the SQLSTATE of a server error, else "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
