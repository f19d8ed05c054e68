package ddl_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// source is a database in which schema changes are captured, and a slot that its messages are read from.
type source struct {
	t      *testing.T
	server *postgres.Server
	name   string
	conn   *pgx.Conn // that the tests' statements run in
	slot   *pgx.Conn
}

// newSource makes a database and installs the capture. create is what CREATE DATABASE gets after the name.
func newSource(t *testing.T, server *postgres.Server, name, create string, o ddl.Options) *source {
	t.Helper()
	server.MustExec(t, "postgres", "CREATE DATABASE "+name+" TEMPLATE template0 "+create)
	s := &source{t: t, server: server, name: name, conn: server.Connect(t, name), slot: server.Connect(t, name)}
	require.NoError(t, ddl.Install(context.Background(), s.conn, o))
	s.must("CREATE PUBLICATION tidemark FOR ALL TABLES")
	s.openSlot()
	return s
}

// openSlot begins to read at the present.
func (s *source) openSlot() {
	s.t.Helper()
	_, err := s.slot.Exec(context.Background(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput', true)", "slot_"+s.name)
	require.NoError(s.t, err)
}

// must runs a string as one simple query.
func (s *source) must(sql string) { s.t.Helper(); s.mustIn(s.conn, sql) }

func (s *source) mustIn(conn *pgx.Conn, sql string) {
	s.t.Helper()
	_, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
	require.NoError(s.t, err, sql)
}

// extended runs one statement by the extended protocol.
func (s *source) extended(sql string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.PgConn().ExecParams(context.Background(), sql, nil, nil, nil, nil).Read().Err, sql)
}

// messages returns what came since the last call.
func (s *source) messages() []*ddl.Message {
	s.t.Helper()
	var list []*ddl.Message
	for _, content := range s.contents() {
		m, err := ddl.Decode(content)
		require.NoError(s.t, err, string(content))
		list = append(list, m)
	}
	return list
}

func (s *source) contents() [][]byte {
	s.t.Helper()
	rows, err := s.slot.Query(context.Background(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'tidemark', 'messages', 'true') WHERE get_byte(data, 0) = ascii('M')`, "slot_"+s.name)
	require.NoError(s.t, err)
	changes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(s.t, err)
	var list [][]byte
	for _, c := range changes {
		prefix, rest, _ := bytes.Cut(c[10:], []byte{0}) // type, flags, LSN
		require.Equal(s.t, "tidemark", string(prefix))
		list = append(list, rest[4:4+binary.BigEndian.Uint32(rest)])
	}
	return list
}

// sqls returns the statements of messages; those that are inexact begin with "INEXACT" and the reason.
func sqls(messages []*ddl.Message) []string {
	list := []string{}
	for _, m := range messages {
		text := m.SQL
		if m.Inexact != "" {
			text = "INEXACT " + m.Inexact + " " + strings.Join(m.Tables, ",") + ": " + text
		}
		list = append(list, text)
	}
	return list
}

// replay executes messages in another database as a restore does, each in a transaction of its own.
func replay(t *testing.T, conn *pgx.Conn, messages []*ddl.Message) {
	t.Helper()
	for _, m := range messages {
		require.NoError(t, replayOne(conn, m), "%s", asJSON(m))
	}
}

func replayOne(conn *pgx.Conn, m *ddl.Message) error {
	ctx := context.Background()
	if m.SQL == "" {
		return fmt.Errorf("no statement: %s", m.Inexact)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if m.Bytes {
			if _, err := tx.Exec(ctx, "SET LOCAL client_encoding = SQL_ASCII"); err != nil {
				return err
			}
		}
		for name, value := range m.Settings {
			if _, err := tx.Exec(ctx, "SELECT set_config($1, $2, true)", name, value); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE "+pgx.Identifier{m.User}.Sanitize()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, m.SQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "RESET ROLE; "+ddl.FingerprintSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		for _, s := range m.State {
			var fp string
			if err := tx.QueryRow(ctx, ddl.FingerprintSQL, s.Schema, s.Name).Scan(&fp); err != nil {
				return fmt.Errorf("%s.%s: %w", s.Schema, s.Name, err)
			}
			if fp != s.Fingerprint {
				return fmt.Errorf("%s.%s differs", s.Schema, s.Name)
			}
		}
		return nil
	})
}

func asJSON(v any) string {
	b, _ := json.MarshalIndent(v, "", " ")
	return string(b)
}

// noise is what differs between two dumps, and what restores leave out.
var noise = regexp.MustCompile(`(?m)^(\\(un)?restrict .*|--.*|)\n`)

// dump returns pg_dump's schema of a database without Tidemark's own things.
func dump(t *testing.T, server *postgres.Server, database string) string {
	t.Helper()
	program := server.Path("pg_dump")
	if _, err := os.Stat(program); err != nil { // a server without client programs: a newer pg_dump does
		installed, err := postgres.FindBinaries("")
		require.NoError(t, err)
		program = installed.Path("pg_dump")
	}
	out, err := exec.Command(program, "--schema-only", "--exclude-schema", "tidemark", server.SocketDSN(database)).Output()
	require.NoError(t, err)
	text := noise.ReplaceAllString(string(out), "")
	text = regexp.MustCompile(`(?ms)^CREATE EVENT TRIGGER "?00_tidemark.*?;\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`(?m)^ALTER EVENT TRIGGER "?00_tidemark.*;\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`(?m)^(CREATE|ALTER) PUBLICATION tidemark .*;\n`).ReplaceAllString(text, "")
}

// sameAfterReplay replays all messages into a new database and compares pg_dump's output with the source's.
func (s *source) sameAfterReplay(messages []*ddl.Message, create string) {
	s.t.Helper()
	target := s.name + "_replayed"
	s.server.MustExec(s.t, "postgres", "CREATE DATABASE "+target+" TEMPLATE template0 "+create)
	replay(s.t, s.server.Connect(s.t, target), messages)
	require.Equal(s.t, dump(s.t, s.server, s.name), dump(s.t, s.server, target))
}

// sqlState is the code of a server's error.
func sqlState(err error) string {
	if e, ok := err.(*pgconn.PgError); ok {
		return e.Code
	}
	return ""
}
