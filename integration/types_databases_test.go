package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
)

// encodedSQL uses every byte that text of the database's encoding can hold; chr makes them in single-byte
// encodings, and bytes of any meaning in SQL_ASCII.
const encodedSQL = `
CREATE TABLE "größe" ("straße" text PRIMARY KEY, v varchar(300), e "Ä", n int); ALTER TABLE "größe" ALTER v SET STORAGE EXTERNAL;
CREATE TABLE by_row (v text, j json, n int); ALTER TABLE by_row REPLICA IDENTITY FULL; COMMENT ON TABLE by_row IS 'für alle';
INSERT INTO "größe" SELECT chr(i) || 'x' || chr(256 - i), string_agg(chr(i), '') OVER (ORDER BY i), 'größer', i FROM generate_series(1, 255) i;
INSERT INTO by_row SELECT repeat(chr(i), 3000), ('"' || chr(i) || '"')::json, i FROM generate_series(128, 255) i;
`

const encodedStream = `
UPDATE "größe" SET n = -n WHERE n % 2 = 0; UPDATE "größe" SET "straße" = 'new' || "straße" WHERE n % 5 = 0; DELETE FROM "größe" WHERE n % 7 = 0;
INSERT INTO "größe" SELECT chr(i) || 'y', chr(i), 'kleiner', i FROM generate_series(1, 255) i;
UPDATE by_row SET n = 0 WHERE n % 3 = 0; DELETE FROM by_row WHERE n % 4 = 1; INSERT INTO by_row VALUES (repeat(chr(233), 2000000), NULL, 1); UPDATE by_row SET j = '"ÿ"' WHERE n = 1;
`

// testEncodings: databases that are not UTF8.
func testEncodings(t *testing.T, s *postgres.Server) {
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			name := "in_" + strings.ToLower(encoding)
			o := fidelity{
				options: "ENCODING '" + encoding + "' LC_COLLATE 'C' LC_CTYPE 'C'",
				setup:   []string{`CREATE TYPE "Ä" AS ENUM ('größer', 'kleiner')`, encodedSQL},
				stream:  []string{encodedStream},
			}.archived(t, s, name)
			last := o.check(t)
			require.Equal(t, encoding, s.MustQuery(t, last, "SHOW server_encoding"))
			if encoding == "SQL_ASCII" {
				return
			}
			s.MustExec(t, "postgres", "CREATE DATABASE "+name+"_utf8 TEMPLATE template0 ENCODING 'UTF8'")
			must(t, o.archive.Restorer("restore", "--into", s.DSN(name+"_utf8")))
			const all = `SELECT md5(string_agg(encode(convert_to("straße" || v || e, 'UTF8'), 'hex'), ',' ORDER BY n, "straße" COLLATE "C")) FROM "größe"`
			require.Equal(t, s.MustQuery(t, name, all), s.MustQuery(t, name+"_utf8", all))
		})
	}
}

// transactionsSQL is for transactions of every form.
const transactionsSQL = `
CREATE TABLE ledger (id int PRIMARY KEY, v text, big text); ALTER TABLE ledger ALTER big SET STORAGE EXTERNAL;
CREATE TABLE event (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ledger int REFERENCES ledger DEFERRABLE INITIALLY DEFERRED, what text);
INSERT INTO ledger SELECT i, 'v' || i, repeat(md5(i::text), 100) FROM generate_series(1, 20) i;
`

// nestedSavepoints opens more savepoints than a backend remembers (64), gives up every third with all that
// was done since, and lets go of the others.
func nestedSavepoints(depth int) string {
	var sql strings.Builder
	sql.WriteString("BEGIN;\n")
	for i := range depth {
		fmt.Fprintf(&sql, "SAVEPOINT s%d;\nINSERT INTO ledger VALUES (%d, 'nested', repeat('n', 5000));\nUPDATE ledger SET v = v || '+' WHERE id = %d;\n", i, 1000+i, i%20+1)
		switch i % 6 {
		case 2:
			fmt.Fprintf(&sql, "ROLLBACK TO s%d;\n", i)
		case 5:
			fmt.Fprintf(&sql, "ROLLBACK TO s%d;\nINSERT INTO ledger VALUES (%d, 'instead', NULL);\nRELEASE s%[1]d;\n", i-1, 5000+i)
		}
	}
	sql.WriteString("COMMIT")
	return sql.String()
}

const transactionsStream = `BEGIN;
INSERT INTO ledger VALUES (100, 'kept', NULL);
SAVEPOINT a;
INSERT INTO ledger VALUES (101, 'gone', repeat('x', 5000)); UPDATE ledger SET v = 'gone' WHERE id = 1; DELETE FROM ledger WHERE id = 2;
ROLLBACK TO a;
INSERT INTO ledger VALUES (101, 'again', repeat('y', 5000)); UPDATE ledger SET v = 'kept' WHERE id = 1;
SAVEPOINT a;
SAVEPOINT b;
DELETE FROM ledger WHERE id = 3; TRUNCATE event;
ROLLBACK TO a;
INSERT INTO event (ledger, what) VALUES (102, 'before its ledger'); INSERT INTO ledger VALUES (102, 'late', NULL);
COMMIT;
BEGIN;
INSERT INTO ledger VALUES (200, 'never', repeat('z', 5000));
ROLLBACK;
BEGIN;
INSERT INTO ledger SELECT i, 'many', repeat('m', 1000) FROM generate_series(10000, 12000) i;
SAVEPOINT half;
UPDATE ledger SET v = 'given up' WHERE id >= 10000; DELETE FROM ledger WHERE id % 2 = 0;
ROLLBACK TO half;
DELETE FROM ledger WHERE id BETWEEN 10100 AND 11900;
COMMIT;
INSERT INTO ledger VALUES (4, 'conflict', NULL), (300, 'new', NULL) ON CONFLICT (id) DO UPDATE SET v = excluded.v; INSERT INTO ledger VALUES (5, 'no', NULL) ON CONFLICT DO NOTHING;
MERGE INTO ledger l USING (VALUES (6, 'merged'), (301, 'merged'), (7, NULL)) x (id, v) ON l.id = x.id WHEN MATCHED AND x.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = x.v WHEN NOT MATCHED THEN INSERT VALUES (x.id, x.v, NULL);
WITH gone AS (DELETE FROM ledger WHERE id = 8 RETURNING *), back AS (INSERT INTO event (what) SELECT v FROM gone) UPDATE ledger SET v = 'cte' WHERE id = 9;
DO $$ BEGIN FOR i IN 1..30 LOOP BEGIN INSERT INTO ledger VALUES (400 + i, 'do', NULL); IF i % 3 = 0 THEN RAISE 'no'; END IF; EXCEPTION WHEN raise_exception THEN INSERT INTO event (what) VALUES ('caught'); END; IF i % 10 = 0 THEN COMMIT; END IF; END LOOP; END $$`

// testTransactions: savepoints, transactions that began before others and ended after them, and prepared ones
// across runs of the archiver, base snapshots and targets.
func testTransactions(t *testing.T, s *postgres.Server) {
	ctx := context.Background()
	f := fidelity{setup: []string{"ALTER DATABASE tx SET logical_decoding_work_mem = '64kB'", transactionsSQL}, stream: []string{nestedSavepoints(130), transactionsStream}}
	o := f.archived(t, s, "tx")
	o.check(t)

	late, other := s.Connect(t, "tx"), s.Connect(t, "tx")
	exec := func(conn *pgx.Conn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err, sql)
		}
	}
	exec(late, "BEGIN; INSERT INTO ledger VALUES (600, 'late', NULL)")
	exec(other, "BEGIN; SAVEPOINT a; UPDATE ledger SET v = 'prepared' WHERE id = 10; ROLLBACK TO a; UPDATE ledger SET v = 'two', big = NULL WHERE id = 10; INSERT INTO event (ledger, what) VALUES (10, 'prepared')")
	var xid string
	require.NoError(t, other.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&xid))
	exec(other, "PREPARE TRANSACTION 'tx one'", "BEGIN; INSERT INTO ledger VALUES (601, 'thrown away', NULL); PREPARE TRANSACTION 'tx two'")
	exec(late, "COMMIT", "INSERT INTO ledger VALUES (602, 'between', NULL)")
	without := o.hashes(t, "tx")
	o.archive.CatchUp(t)
	o.restore(t, "_prepared", without)

	exec(late, "ROLLBACK PREPARED 'tx two'", "COMMIT PREPARED 'tx one'")
	with := o.hashes(t, "tx")
	exec(late, "BEGIN; DELETE FROM ledger WHERE id < 6; DELETE FROM event; PREPARE TRANSACTION 'tx three'")
	snapshot := harness.Start(t, o.archive.Archiver("snapshot"))
	snapshot.WaitFor(t, "the transaction in its way", time.Minute, func() bool { return strings.Contains(snapshot.Stderr(), "tx three") })
	exec(other, "UPDATE ledger SET v = 'meanwhile' WHERE id = 12")
	exec(late, "COMMIT PREPARED 'tx three'", "INSERT INTO ledger VALUES (603, 'after', NULL)")
	require.Zero(t, snapshot.Wait(t, time.Minute).Code, snapshot.Stderr())
	o.after = o.hashes(t, "tx")
	o.archive.CatchUp(t)
	o.restore(t, "_xid", with, "--to-xid", xid)
	o.restore(t, "_before_xid", without, "--to-xid", xid, "--exclusive")
	o.restore(t, "_end", o.after)
	require.Len(t, o.archive.List(t).Snapshots, 2)
}

// testOwnPublication: a publication of the user's own that leaves rows and columns out is refused with the
// statements that mend it; mended, it serves.
func testOwnPublication(t *testing.T, s *postgres.Server) {
	s.MustExec(t, "postgres", "CREATE DATABASE own_publication")
	s.MustExec(t, "own_publication", `
		CREATE TABLE orders (id int PRIMARY KEY, total int, note text); CREATE TABLE lines (id int PRIMARY KEY, v text); CREATE TABLE rest (id int PRIMARY KEY);
		CREATE PUBLICATION mine FOR TABLE orders WHERE (id > 10), lines (id), rest WITH (publish = 'insert, update')`)
	a := harness.Archive{URL: t.TempDir(), Source: s.DSN("own_publication")}
	found := harness.Run(t, a.Archiver("check", "--publication", "mine", "-o", "json"))
	require.Equal(t, codeFinding, found.Code, found.Stderr)
	for _, id := range []string{"publication_operations", "publication_row_filter", "publication_columns"} {
		require.Contains(t, found.Stdout, id)
	}
	refused := harness.Run(t, a.Archiver("run", "--publication", "mine", "--until", "current"))
	require.Equal(t, codeUsage, refused.Code, refused.Stderr)
	require.Contains(t, refused.Stderr, "ALTER PUBLICATION")
	s.MustExec(t, "own_publication", harness.Run(t, a.Archiver("check", "--publication", "mine", "--sql")).Stdout)

	o := &outcome{server: s, name: "own_publication", archive: a}
	s.MustExec(t, o.name, "INSERT INTO orders SELECT i, i, 'n' FROM generate_series(1, 20) i; INSERT INTO lines VALUES (1, 'v'); INSERT INTO rest VALUES (1), (2)")
	o.before = o.hashes(t, o.name)
	a.CatchUp(t, "--publication", "mine")
	s.MustExec(t, o.name, "UPDATE orders SET note = 'm' WHERE id < 5; UPDATE lines SET v = 'w'; DELETE FROM rest WHERE id = 1; DELETE FROM orders WHERE id = 3")
	o.after = o.hashes(t, o.name)
	a.CatchUp(t)
	o.restore(t, "_snapshot", o.before, "--to-snapshot", a.List(t).Snapshots[0].ID)
	o.restore(t, "_last", o.after)
}

// testNeverCarried: what an archive can't hold is named by check before anything is archived, and by restore.
func testNeverCarried(t *testing.T, s *postgres.Server) {
	s.MustExec(t, "postgres", "CREATE DATABASE uncarried")
	s.MustExec(t, "uncarried", `
		SELECT lo_create(4711); SELECT lo_put(4711, 0, 'bytes'); CREATE UNLOGGED TABLE not_logged (id int PRIMARY KEY); INSERT INTO not_logged VALUES (1);
		CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE elsewhere (id int) SERVER far;
		CREATE TABLE half (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id) STORED);
		CREATE TABLE by_generated (tenant int, a int, g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (tenant, g));
		CREATE TABLE trees (id int PRIMARY KEY, def pg_node_tree); CREATE TYPE holds AS (a int, d pg_dependencies); CREATE TABLE nested_trees (id int PRIMARY KEY, h holds);
		CREATE TYPE color AS ENUM ('red', 'green'); CREATE TABLE by_enum (c color, v int, PRIMARY KEY (c, v)) PARTITION BY HASH (c); CREATE TABLE by_enum_0 PARTITION OF by_enum FOR VALUES WITH (MODULUS 1, REMAINDER 0);`)
	a := harness.Archive{URL: t.TempDir(), Source: s.DSN("uncarried")}
	check := harness.Run(t, a.Archiver("check", "-o", "json"))
	require.Equal(t, codeFinding, check.Code, check.Stderr)
	for _, word := range []string{"large_objects", "public.not_logged", "public.elsewhere", "generated_key", "public.by_generated", "unreadable_type", "public.trees", "public.nested_trees", "hash_of_enum", "public.by_enum"} {
		require.Contains(t, check.Stdout, word)
	}
	require.NotContains(t, check.Stdout, "public.half")
	require.Equal(t, codeUsage, harness.Run(t, a.Archiver("run", "--until", "current")).Code)
	s.MustExec(t, "uncarried", harness.Run(t, a.Archiver("check", "--sql")).Stdout)

	s.MustExec(t, "uncarried", "INSERT INTO by_generated VALUES (1, 1), (1, 2), (2, 1); DROP TABLE by_enum; ALTER TABLE not_logged SET UNLOGGED")
	a.CatchUp(t)
	s.MustExec(t, "uncarried", "UPDATE by_generated SET a = 3 WHERE a = 2; DELETE FROM by_generated WHERE tenant = 2; INSERT INTO not_logged VALUES (2)")
	o := &outcome{server: s, name: "uncarried", archive: a}
	want := o.hashes(t, "uncarried")
	a.CatchUp(t)
	restored := must(t, a.Restorer("restore", "--into", s.DSN("uncarried_last"), "--create"))
	require.Empty(t, want.Diff(o.hashes(t, "uncarried_last")))
	require.Contains(t, restored.Stdout+restored.Stderr, "large objects are not in the archive")
	require.Contains(t, restored.Stdout+restored.Stderr, "unlogged table public.not_logged are not in the archive")
	require.Equal(t, "0", s.MustQuery(t, "uncarried_last", "SELECT count(*) FROM not_logged"))
}
