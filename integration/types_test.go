package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// fidelity is a database that goes through a base snapshot, through the stream and through restores, and
// has to come out the same.
type fidelity struct {
	options string   // of CREATE DATABASE
	setup   []string // what the base snapshot sees
	stream  []string // what comes after it
	run     []string // flags of the archiver's
}

// outcome is what went through.
type outcome struct {
	server        *postgres.Server
	name          string
	archive       harness.Archive
	before, after workload.Hashes
}

// archived runs the database through the archiver: once for the base snapshot, once for the stream.
func (f fidelity) archived(t *testing.T, s *postgres.Server, name string) *outcome {
	t.Helper()
	s.MustExec(t, "postgres", "CREATE DATABASE "+name+" TEMPLATE template0 "+f.options)
	o := &outcome{server: s, name: name, archive: harness.Archive{URL: t.TempDir(), Source: s.DSN(name)}}
	execLines(t, s, name, f.setup)
	o.before = o.hashes(t, name)
	o.archive.CatchUp(t, f.run...)
	execLines(t, s, name, f.stream)
	o.after = o.hashes(t, name)
	o.archive.CatchUp(t, f.run...)
	return o
}

// execLines runs scripts in one session, line by line where a line ends a statement: each line is a
// transaction, and an error names it.
func execLines(t *testing.T, s *postgres.Server, database string, scripts []string) {
	t.Helper()
	conn := s.Connect(t, database)
	for _, script := range scripts {
		for _, sql := range strings.Split(script, ";\n") {
			_, err := conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err, "%.500s", sql)
		}
	}
	require.NoError(t, conn.Close(context.Background()))
}

func (o *outcome) hashes(t *testing.T, database string) workload.Hashes {
	t.Helper()
	h, err := workload.HashDatabase(context.Background(), o.server.DSN(database))
	require.NoError(t, err)
	return h
}

// restore restores and compares rows.
func (o *outcome) restore(t *testing.T, suffix string, want workload.Hashes, args ...string) string {
	t.Helper()
	name := o.name + suffix
	o.archive.Restore(t, o.server.DSN(name), args...)
	require.Empty(t, want.Diff(o.hashes(t, name)), "source and restored database differ, %v", args)
	return name
}

// check restores the base snapshot alone and the newest state, and compares with the source: rows by
// hashes, the schema by pg_dump's text. It returns the name of the database with the newest state.
func (o *outcome) check(t *testing.T) string {
	t.Helper()
	o.restore(t, "_snapshot", o.before, "--to-snapshot", o.archive.List(t).Snapshots[0].ID)
	return o.checkLast(t, "_last")
}

// checkLast is check for the newest state alone.
func (o *outcome) checkLast(t *testing.T, suffix string) string {
	t.Helper()
	last := o.restore(t, suffix, o.after)
	onlyWant, onlyGot := apart(dumpSchema(t, o.server, o.name), dumpSchema(t, o.server, last))
	require.Equal(t, onlyWant, onlyGot, "objects that only the source has, and that only the restored database has")
	return last
}

// apart gives the objects that only one of two dumps has.
func apart(a, b string) (onlyA, onlyB []string) {
	left, right := strings.Split(a, "\n\n"), strings.Split(b, "\n\n")
	without := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
	}
	return without(left, right), without(right, left)
}

// ofTidemark are objects that the archiver makes for itself.
var ofTidemark = regexp.MustCompile(`(?m)^(CREATE|ALTER|COMMENT ON) (PUBLICATION|EVENT TRIGGER) "?(00_)?tidemark`)

// dumpSchema is what pg_dump says of a schema, object by object, each with its comment line, sorted:
// the restored database's OIDs, by which pg_dump orders some, are others.
func dumpSchema(t *testing.T, s *postgres.Server, database string) string {
	t.Helper()
	cmd := exec.Command(s.Path("pg_dump"), "--dbname", s.DSN(database), "--schema-only", "--exclude-schema", "tidemark")
	cmd.Env = append(cmd.Environ(), "PGTZ=UTC", "PGOPTIONS=-c lc_monetary=C")
	out, err := cmd.Output()
	require.NoError(t, err)
	return workload.SortDump(string(out), func(object string) bool { return !ofTidemark.MatchString(object) })
}

// publishAll makes the publication by hand: tables without a key that only see inserts are then no reason
// to refuse the database.
const publishAll = "CREATE PUBLICATION tidemark FOR ALL TABLES"

// startTypesServer runs a server that knows a locale in which 1234.56 is "1.234,56 €".
func startTypesServer(t *testing.T) *postgres.Server {
	t.Helper()
	locales, err := os.MkdirTemp("", "tidemark-locales-") // not the test's own folder, which is closed to the server's user
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(locales) })
	require.NoError(t, os.Chmod(locales, 0o755))
	out, err := exec.Command("localedef", "-i", "de_DE", "-f", "UTF-8", filepath.Join(locales, "de_DE.utf8")).CombinedOutput()
	require.NoError(t, err, string(out))
	return postgres.Start(t, postgres.Options{
		Settings: map[string]string{"max_prepared_transactions": "10", "max_replication_slots": "20", "max_wal_senders": "20"},
		Env:      []string{"LOCPATH=" + locales},
	})
}

func TestRowsAndTypes(t *testing.T) {
	t.Parallel()
	s := startTypesServer(t)
	t.Run("EveryType", func(t *testing.T) { t.Parallel(); testEveryType(t, s) })
	t.Run("Shapes", func(t *testing.T) { t.Parallel(); testShapes(t, s) })
	t.Run("Encodings", func(t *testing.T) { t.Parallel(); testEncodings(t, s) })
	t.Run("Transactions", func(t *testing.T) { t.Parallel(); testTransactions(t, s) })
	t.Run("OwnPublication", func(t *testing.T) { t.Parallel(); testOwnPublication(t, s) })
	t.Run("NeverCarried", func(t *testing.T) { t.Parallel(); testNeverCarried(t, s) })
}

// testEveryType: values of every type and its arrays, in tables found by a key, by an index and by the
// whole row.
func testEveryType(t *testing.T, s *postgres.Server) {
	own := everyType{types: append(append([]valuesOf(nil), builtinTypes...), ownTypes...)}
	const rows = 12
	tables := []string{"keyed", "by_index", "by_row"}
	setup := []string{publishAll, ownTypesSQL,
		`ALTER DATABASE every SET lc_monetary = 'de_DE.utf8'; ALTER DATABASE every SET DateStyle = 'German'; ALTER DATABASE every SET bytea_output = 'escape'`,
		"CREATE TABLE keyed (id int PRIMARY KEY, " + own.columns() + ")",
		"CREATE TABLE by_index (id int NOT NULL UNIQUE, " + own.columns() + "); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key",
		"CREATE TABLE by_row (id int, " + own.columns() + "); ALTER TABLE by_row REPLICA IDENTITY FULL",
		"SET lc_monetary = 'de_DE.utf8';\nCREATE TABLE priced (id int PRIMARY KEY, price money DEFAULT '1.234,56' CHECK (price < '9.999,00'))",
	}
	stream := []string{"INSERT INTO priced VALUES (2)"}
	for _, table := range tables {
		setup = append(setup, "SET lc_monetary = 'C';"+own.inserts(table, 0, rows))
		stream = append(stream,
			"SET lc_monetary = 'C';"+own.inserts(table, rows, 2*rows)+own.updates(table, 2*rows),
			fmt.Sprintf("UPDATE %s SET id = -id WHERE id %% 5 = 1; UPDATE %[1]s SET id = id + 100; DELETE FROM %[1]s WHERE id %% 3 = 0", table))
	}
	setup = append(setup, "INSERT INTO priced VALUES (1)")
	keys := keyTypes()
	setup, stream = append(setup, keys.setup...), append(stream, keys.stream...)
	o := fidelity{setup: setup, stream: stream}.archived(t, s, "every")
	last := o.check(t)
	newer := &outcome{server: postgres.Start(t, postgres.Options{Version: "18"}), name: o.name, archive: o.archive}
	newer.restore(t, "_newer", o.after)
	s.MustExec(t, last, "INSERT INTO priced VALUES (3)")
	require.Equal(t, "123456", s.MustQuery(t, last, "SELECT (price::numeric * 100)::int FROM priced WHERE id = 3"))
}

// keyTypes are tables whose key is of each type that a B-tree can order: rows are found by its equality,
// and keys change to others that are equal but not the same where the type has such.
func keyTypes() fidelity {
	var f fidelity
	for i, k := range []struct{ typ, a, b, c string }{
		{"numeric", "1.0", "1.00", "NaN"}, {"double precision", "0", "-0", "NaN"}, {"interval", "1 day", "24:00:00", "1 mon"},
		{`"Ty pes".citext`, "Straße", "STRASSE", "x"}, {`text COLLATE "Ty pes".loose`, "a", "A", "b"}, {"char(4)", "a", "b ", "c"}, {"varchar(9)", "a", "a ", ""},
		{"name", "a", "b", "c"}, {`"char"`, "a", "b", "c"}, {"bytea", `\x00`, `\x0000`, `\x`}, {"uuid", strings.Repeat("0", 32), strings.Repeat("1", 32), strings.Repeat("2", 32)},
		{"timestamptz", "infinity", "-infinity", "0044-03-15 00:00+00 BC"}, {"timetz", "12:00+00", "13:00+01", "14:00+00"}, {`"Ty pes".mood`, "sad", "", "between"},
		{"inet", "10.0.0.1/8", "10.0.0.1/9", "::1"}, {`"Ty pes"."Pair"`, "(2,a,sad,{})", "(2,b,sad,{})", `(4,"",,{})`}, {"int4range", "empty", "[1,2)", "(,)"},
		{"nummultirange", "{[1.0,2]}", "{[1.00,2]}", "{}"}, {"numeric[]", "{1.0}", "{1.00}", "{}"}, {"jsonb", `{"a":1.0}`, `{"a":1.00}`, "null"}, {"tsvector", "a:1", "a:2", "b"},
		{`"Ty pes".even`, "2", "4", "6"}, {"money", "1", "2", "3"}, {"bit varying", "1", "10", ""}, {"oid", "1", "2", "4294967295"}, {"pg_lsn", "0/1", "0/2", "0/3"},
		{"tid", "(1,1)", "(1,2)", "(2,1)"}, {"ltree", "a", "a.b", ""}, {"macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06", "08:00:2b:01:02:03:04:07"},
		{"textrange", "[a,b)", "[a,c)", "empty"}, {"xid8", "1", "2", "3"}, {"boolean", "t", "f", ""}, {"hstore", "a=>1", "a=>2", ""},
		{"information_schema.sql_identifier", "a", "b", "c"},
	} {
		table := fmt.Sprintf(`"Ty pes"."key %d"`, i)
		f.setup = append(f.setup, fmt.Sprintf("CREATE TABLE %s (k %s PRIMARY KEY, n int, t text); INSERT INTO %[1]s VALUES (%[3]s, 1, 'x')", table, k.typ, literal(k.a)))
		f.stream = append(f.stream, fmt.Sprintf("UPDATE %s SET n = 2; UPDATE %[1]s SET k = %s; UPDATE %[1]s SET t = 'y'", table, literal(k.b)))
		if k.typ != "boolean" {
			f.stream = append(f.stream, fmt.Sprintf("INSERT INTO %s VALUES (%s, 3, 'z'); DELETE FROM %[1]s WHERE n = 2; UPDATE %[1]s SET t = 'w'", table, literal(k.c)))
		}
	}
	f.setup = append([]string{`CREATE COLLATION "Ty pes".loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`}, f.setup...)
	return f
}

// must runs a command that has to succeed.
func must(t *testing.T, c harness.Command) harness.Result {
	t.Helper()
	r := harness.Run(t, c)
	require.Zero(t, r.Code, "%v\n%s", c.Args, r.Stderr)
	return r
}
