package walstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"tidemark/internal/fault"
)

const connectTimeout = 15 * time.Second

// streamSettings fix the text form of every value, whatever the role, the database or the DSN sets.
// Output that depends on search_path (regclass) or lc_monetary (money) must read the same in
// snapshots, stream and restore. client_min_messages keeps the warnings that announce a gap.
var streamSettings = map[string]string{
	"datestyle":                           "ISO, YMD",
	"intervalstyle":                       "postgres",
	"extra_float_digits":                  "3",
	"timezone":                            "UTC",
	"client_encoding":                     "UTF8",
	"bytea_output":                        "hex",
	"lc_monetary":                         "C",
	"search_path":                         "",
	"client_min_messages":                 "warning",
	"synchronous_commit":                  "local",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
}

// controlSettings are those of ordinary sessions: never waiting for a synchronous standby (which may be
// ourselves), never waiting long for a lock.
var controlSettings = map[string]string{
	"client_encoding":    "UTF8",
	"search_path":        "",
	"synchronous_commit": "local",
	"lock_timeout":       "10s",
}

// Connect opens an ordinary session on the source, for Check, EnsurePublication, ReadSlot and the
// like. The caller closes it. Errors are fault errors: Usage for a bad DSN or refused credentials,
// Unreachable otherwise.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN(err)
	}
	prepare(&cfg.Config, controlSettings)
	cfg.DialFunc = dialSockets(cfg.DialFunc)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectFault(err, target(&cfg.Config))
	}
	if conn.PgConn().ParameterStatus("server_encoding") == sqlASCII {
		if _, err := conn.Exec(ctx, setSQLASCII); err != nil {
			return nil, errors.Join(connectFault(err, target(&cfg.Config)), conn.Close(ctx))
		}
	}
	return conn, nil
}

// An SQL_ASCII database may hold bytes that are no UTF-8: asking for UTF8 there ends in error 22021.
const (
	sqlASCII    = "SQL_ASCII"
	setSQLASCII = "SET client_encoding = 'SQL_ASCII'"
)

func prepare(cfg *pgconn.Config, settings map[string]string) {
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = DefaultApplication
	}
	maps.Copy(cfg.RuntimeParams, settings)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
}

// replConn is a replication connection with what is needed to take it over from pgconn.
type replConn struct {
	*pgconn.PgConn
	step *stepReader // what pgconn reads through
}

// connectReplication opens a session in logical replication mode.
func connectReplication(ctx context.Context, dsn string) (*replConn, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN(err)
	}
	prepare(cfg, streamSettings)
	cfg.RuntimeParams["replication"] = "database"
	rc := &replConn{}
	cfg.DialFunc = dialSockets(dialer().DialContext)
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		rc.step = &stepReader{r: r}
		return pgproto3.NewFrontend(rc.step, w)
	}
	if rc.PgConn, err = pgconn.ConnectConfig(ctx, cfg); err != nil {
		return nil, connectFault(err, target(cfg))
	}
	if err := rc.finishSettings(ctx); err != nil {
		rc.abandon()
		return nil, connectFault(err, target(cfg))
	}
	return rc, nil
}

// dialer notices a peer that vanished, busy or idle, within about a minute.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3},
		Control:         limitUnacknowledged,
	}
}

// finishSettings sets what depends on server and database.
func (rc *replConn) finishSettings(ctx context.Context) error {
	var set []string
	if rc.ParameterStatus("server_encoding") == sqlASCII {
		set = append(set, setSQLASCII)
	}
	if majorOf(rc.PgConn) >= 17 {
		set = append(set, "SET transaction_timeout = 0")
	}
	if len(set) == 0 {
		return nil
	}
	_, err := rc.Exec(ctx, strings.Join(set, "; ")).ReadAll()
	return err
}

// query runs a command that answers with one row of text and returns the row.
func (rc *replConn) query(ctx context.Context, sql string) ([][]byte, error) {
	results, err := rc.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("%s: one row expected", sql)
	}
	return results[0].Rows[0], nil
}

// abandon closes the connection without long goodbyes.
func (rc *replConn) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = rc.Close(ctx) // nothing of value is lost with a session that is given up
}

// majorOf reads the major version from what the server announced; 0 if that can't be read.
func majorOf(conn *pgconn.PgConn) int {
	var major int
	_, err := fmt.Sscanf(conn.ParameterStatus("server_version"), "%d", &major)
	if err != nil {
		return 0
	}
	return major
}

// target names a server without secrets.
func target(cfg *pgconn.Config) string {
	if strings.HasPrefix(cfg.Host, "/") {
		return fmt.Sprintf("%s on %s/.s.PGSQL.%d", cmp.Or(cfg.Database, cfg.User), cfg.Host, cfg.Port)
	}
	return fmt.Sprintf("%s on %s", cmp.Or(cfg.Database, cfg.User), net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)))
}

func badDSN(err error) error {
	return fault.Wrap(flat{err}, fault.Usage,
		"a DSN looks like postgres://user@host:5432/database or host=... dbname=...", "the source's DSN can't be read")
}

// flat shows an error's text on one line.
type flat struct{ error }

func (f flat) Error() string { return fault.Plain(f.error) }
func (f flat) Unwrap() error { return f.error }

// connectFault turns a failed connection into an error for people.
func connectFault(err error, where string) error {
	if ctxErr := canceled(err); ctxErr != nil {
		return ctxErr
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fault.Wrap(flat{err}, fault.Unreachable, "is the server up, and is that its address?", "can't connect to %s", where)
	}
	code, hint := fault.Unreachable, "the server answers but takes no connection now; it is tried again"
	switch {
	case pg.Code == "28P01":
		code, hint = fault.Usage, "check user and password (PGPASSWORD, .pgpass or the DSN)"
	case strings.HasPrefix(pg.Code, "28"):
		code, hint = fault.Usage, "check user, password and pg_hba.conf: a line for this user and database, which also covers replication=database"
	case pg.Code == "42501":
		code, hint = fault.Usage, "ALTER ROLE ... REPLICATION; archiver check --sql prints what is missing"
	case pg.Code == "3D000":
		code, hint = fault.Usage, "check the database's name in the DSN"
	case pg.Code == "53300":
		hint = "raise max_connections or max_wal_senders, or close sessions that aren't needed"
	case pg.Code == "0A000" && strings.Contains(pg.Message, "conversion between"):
		code, hint = fault.Usage, "PostgreSQL has no conversion of the database's encoding to UTF8: such a database can't be archived"
	case strings.HasPrefix(pg.Code, "22"), strings.HasPrefix(pg.Code, "42"), pg.Code == "0A000":
		code, hint = fault.Usage, "remove the setting that the server refuses from the DSN"
	}
	return fault.Wrap(flat{pg}, code, hint, "can't connect to %s", where)
}

// canceled returns err if it stems from a cancelled context (not from a deadline).
func canceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return nil
}

// stepReader keeps pgconn from reading past the message that it is waiting for, so that after
// START_REPLICATION no byte of the stream is left in a buffer that can't be reached.
type stepReader struct {
	r    io.Reader
	head [5]byte // type and length of the message being read
	have int     // bytes of head read
	body int     // bytes of the body still to read
}

func (s *stepReader) Read(p []byte) (int, error) {
	if s.body > 0 {
		n, err := s.r.Read(p[:min(len(p), s.body)])
		s.body -= n
		return n, err
	}
	n, err := s.r.Read(p[:min(len(p), len(s.head)-s.have)])
	copy(s.head[s.have:], p[:n])
	if s.have += n; s.have == len(s.head) {
		size := uint32(s.head[1])<<24 | uint32(s.head[2])<<16 | uint32(s.head[3])<<8 | uint32(s.head[4])
		s.have, s.body = 0, max(0, int(int32(size))-4)
	}
	return n, err
}
