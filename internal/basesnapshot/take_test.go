package basesnapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

const testArchive = "0f8fad5b-d9cb-469f-a165-70867728950e"

func options(dsn string, store objectstore.Store) Options {
	return Options{DSN: dsn, Store: store, Archive: testArchive, History: 1, LockTimeout: 200 * time.Millisecond, WaitTimeout: 20 * time.Second}
}

// take takes a snapshot and reads its manifest back.
func take(t *testing.T, o Options) (*Result, *Manifest) {
	result, err := Take(context.Background(), o)
	require.NoError(t, err)
	m, err := ReadManifest(context.Background(), o.Store, result.Snapshot)
	require.NoError(t, err)
	return result, m
}

func tableOf(t *testing.T, m *Manifest, name string) *Table {
	for i := range m.Tables {
		if m.Tables[i].String() == name {
			return &m.Tables[i]
		}
	}
	require.Fail(t, "no table "+name, "%q", m.Tables)
	return nil
}

func itemOf(t *testing.T, m *Manifest, kind, name string) *SchemaItem {
	for i := range m.Schema {
		if m.Schema[i].Kind == kind && m.Schema[i].Name == name {
			return &m.Schema[i]
		}
	}
	require.Fail(t, "no item "+kind+" "+name)
	return nil
}

func TestRichDatabaseComesBack(t *testing.T) {
	name, dsn := newRichDatabase(t)
	store := newStore(t)
	result, m := take(t, options(dsn, store))
	require.Equal(t, result.LSN, m.LSN)
	require.EqualValues(t, len(m.Tables), result.Snapshot.Tables)
	restored := restoreAll(t, store, m)
	want, got := tableHashes(t, testServer().Connect(t, name)), tableHashes(t, testServer().Connect(t, restored))
	require.Equal(t, want, got)

	t.Run("schema", func(t *testing.T) {
		// Dumping what was restored gives what was dumped, but for what was redacted.
		dump := func(database string) string {
			out, err := exec.Command(testServer().Path("pg_dump"), "--schema-only", testServer().SocketDSN(database)).Output()
			require.NoError(t, err)
			return redactScript(plainScript(string(out)))
		}
		require.Equal(t, strings.Split(strings.ReplaceAll(dump(name), "E'redacted'", "'redacted'"), "\n"), strings.Split(dump(restored), "\n"))
	})
	t.Run("no secrets", func(t *testing.T) {
		text, err := json.Marshal(m)
		require.NoError(t, err)
		require.NotContains(t, string(text), "secret")
		require.True(t, itemOf(t, m, "USER MAPPING", "USER MAPPING member SERVER far").Redacted)
		require.True(t, itemOf(t, m, "SUBSCRIPTION", "suburi").Redacted)
		require.False(t, itemOf(t, m, "TABLE", "item").Redacted)
	})
	t.Run("tables", func(t *testing.T) {
		require.EqualValues(t, 10, tableOf(t, m, "public.parent").Rows)
		require.EqualValues(t, 7, tableOf(t, m, "public.nothing_at_all").Rows)
		require.EqualValues(t, 30, tableOf(t, m, "public.secured").Rows)
		require.Equal(t, []Name{{"public", "parent"}}, tableOf(t, m, "public.child").Parents)
		leaf := tableOf(t, m, "public.part_rest_1")
		require.Equal(t, &Name{"public", "part"}, leaf.Root)
		require.Equal(t, []Name{{"public", "part_rest"}}, leaf.Parents)
		require.Equal(t, []string{"id", "region"}, leaf.Key)
		require.Equal(t, []string{"k"}, tableOf(t, m, "public.identity_index").Key)
		require.Equal(t, []string{"a", "c"}, tableOf(t, m, "public.identity_full").Key)
		item := tableOf(t, m, "public.item")
		require.Equal(t, Column{Name: "id", Type: "bigint", TypeOID: 20, NotNull: true, Identity: "a"}, item.Columns[0])
		require.Equal(t, "s", item.Columns[4].Generated)
		require.NotContains(t, item.CopyColumns(), "twice")
		require.Equal(t, "public.mood", item.Columns[2].Type)
	})
	t.Run("the rest", func(t *testing.T) {
		require.Equal(t, []Matview{{"public", "counted", true}, {"public", "never", false}}, m.Matviews)
		require.Contains(t, m.Omitted, Omission{Kind: "unlogged table", Namespace: "public", Name: "scratch"})
		require.Contains(t, m.Omitted, Omission{Kind: "foreign table", Namespace: "public", Name: "far_table"})
		require.Contains(t, m.Omitted, Omission{Kind: "large objects", Count: 1})
		requireSequences(t, m)
		requireRoles(t, m)
		require.Equal(t, "UTF8", m.Database.Encoding)
		require.Contains(t, m.Database.Settings, Setting{Name: "work_mem", Value: "7MB"})
		require.Contains(t, m.Database.Settings, Setting{Name: "app.api_token", Value: "redacted", Redacted: true})
		require.Contains(t, m.Database.Settings, Setting{Role: "member", Name: "work_mem", Value: "8MB"})
	})
	t.Run("dependencies", func(t *testing.T) {
		view := itemOf(t, m, "VIEW", "cheap")
		require.Contains(t, view.Deps, itemOf(t, m, "TABLE", "item").ID)
		require.Equal(t, "ALTER TABLE \"public\".\"cheap\" OWNER TO \"grp\";\n", view.OwnerSQL)
		require.Contains(t, itemOf(t, m, "TRIGGER", "item touch").Deps, itemOf(t, m, "FUNCTION", "touch()").ID)
		require.Equal(t, "post-data", itemOf(t, m, "FK CONSTRAINT", "serial_one serial_one_item_id_fkey").Section)
		for _, kind := range []string{"DOMAIN", "TYPE", "AGGREGATE", "OPERATOR", "POLICY", "ROW SECURITY", "RULE", "STATISTICS", "EVENT TRIGGER", "EXTENSION", "COLLATION"} {
			found := false
			for _, it := range m.Schema {
				found = found || it.Kind == kind
			}
			require.True(t, found, kind)
		}
	})
}

func requireSequences(t *testing.T, m *Manifest) {
	byName := map[string]Sequence{}
	for _, s := range m.Sequences {
		byName[s.Name] = s
	}
	shared := byName["shared"]
	require.Equal(t, segment.Sequence{Namespace: "public", Name: "shared", LastValue: 500}, shared.Sequence)
	require.Nil(t, shared.OwnedBy)
	require.Equal(t, []ColumnRef{{"public", "uses_shared", "m", false}, {"public", "uses_shared", "n", false}}, shared.UsedBy)
	serial := byName["serial_one_id_seq"]
	require.Equal(t, &ColumnRef{"public", "serial_one", "id", false}, serial.OwnedBy)
	require.Equal(t, "integer", serial.Type)
	require.EqualValues(t, 100, serial.LastValue)
	require.True(t, serial.IsCalled)
	identity := byName["item_id_seq"]
	require.Equal(t, &ColumnRef{"public", "item", "id", true}, identity.OwnedBy)
	require.Len(t, identity.UsedBy, 1)
	require.GreaterOrEqual(t, m.SequencesLSN, m.LSN)
}

func requireRoles(t *testing.T, m *Manifest) {
	byName := map[string]Role{}
	for _, r := range m.Roles {
		byName[r.Name] = r
	}
	require.Contains(t, byName, `Odd "Owner"`)
	require.Contains(t, byName, "postgres")
	require.NotContains(t, byName, "unrelated")
	require.Equal(t, Role{Name: "member", Inherit: true, Login: true, ConnectionLimit: 3, ValidUntil: "2031-01-01 00:00:00+00",
		MemberOf: []Membership{{Role: "grp", Admin: true}}}, byName["member"])
	require.Equal(t, []Setting{{Name: "work_mem", Value: "5MB"}}, byName["reader"].Settings)
}

// bank keeps the sum of all balances the same in every transaction, over two tables.
const bank = `CREATE TABLE left_side (id integer PRIMARY KEY, balance bigint, filler text);
CREATE TABLE right_side (id integer PRIMARY KEY, balance bigint, filler text);
INSERT INTO left_side SELECT i, 100, repeat('x', 300) FROM generate_series(1, 20000) i;
INSERT INTO right_side SELECT i, 100, repeat('y', 300) FROM generate_series(1, 20000) i;`

// load moves money about until the function returned is called, which gives the first error.
func moveMoney(t *testing.T, dsn string) func() error {
	ctx, cancel := context.WithCancel(context.Background())
	group, _ := errgroup.WithContext(ctx)
	for client := range 3 {
		conn, err := pgx.Connect(ctx, dsn)
		require.NoError(t, err)
		group.Go(func() error {
			defer conn.Close(context.Background())
			for i := 0; ctx.Err() == nil; i++ {
				_, err := conn.Exec(context.Background(), fmt.Sprintf(`BEGIN; UPDATE left_side SET balance = balance - 7, filler = filler || 'z' WHERE id = %d;
					UPDATE right_side SET balance = balance + 7 WHERE id = %d; COMMIT`, 1+(i*7919+client)%20000, 1+(i*104729+client)%20000))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return func() error { cancel(); return group.Wait() }
}

func TestSnapshotUnderLoadIsConsistent(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, bank)
	testServer().MustExec(t, name, "CREATE PUBLICATION pub FOR ALL TABLES")
	stop := moveMoney(t, dsn)
	store := newStore(t)
	o := options(dsn, store)
	o.Publication, o.Jobs = "pub", 3
	for range 3 {
		_, m := take(t, o)
		restored := restoreAll(t, store, m)
		require.Equal(t, "4000000", testServer().MustQuery(t, restored, "SELECT (SELECT sum(balance) FROM left_side) + (SELECT sum(balance) FROM right_side)"))
		require.Equal(t, "40000", testServer().MustQuery(t, restored, "SELECT (SELECT count(*) FROM left_side) + (SELECT count(*) FROM right_side)"))
	}
	require.NoError(t, stop())
	require.Equal(t, "0", testServer().MustQuery(t, "postgres", "SELECT count(*) FROM pg_replication_slots WHERE database = $1", name))
}

func TestExportedSnapshotIsTheOneTaken(t *testing.T) {
	ctx := context.Background()
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, bank)
	stop := moveMoney(t, dsn)
	exporter := testServer().Connect(t, name)
	_, err := exporter.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	require.NoError(t, err)
	var exported string
	require.NoError(t, exporter.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&exported))
	want := tableHashes(t, exporter)
	store := newStore(t)
	o := options(dsn, store)
	o.Exported = &Exported{Name: exported, LSN: 0x1234}
	imported := false
	o.Imported = func() {
		imported = true
		_, err := exporter.Exec(ctx, "COMMIT")
		require.NoError(t, err)
	}
	result, m := take(t, o)
	require.True(t, imported)
	require.EqualValues(t, 0x1234, result.LSN)
	require.NoError(t, stop())
	require.Equal(t, want, tableHashes(t, testServer().Connect(t, restoreAll(t, store, m))))
}

func TestLargeTableIsCutIntoRanges(t *testing.T) {
	tables := []*source{
		{Table: Table{Name: "big"}, pages: 1000, bytes: 10 * rangeBytes, heap: true},
		{Table: Table{Name: "fat"}, pages: 4, bytes: 10 * rangeBytes, heap: true},
		{Table: Table{Name: "columnar"}, pages: 1000, bytes: 10 * rangeBytes},
		{Table: Table{Name: "small"}, pages: 1, bytes: 8192, heap: true},
	}
	tasks := tasksOf(tables)
	require.Equal(t, "small", tasks[0].source.Name)
	count := map[string]int{}
	var end int64
	for _, task := range tasks {
		count[task.source.Name]++
		if task.source.Name == "big" {
			require.Equal(t, end, task.first)
			end = task.end
			sql := copySQL(task.source, task.first, task.end, task.last)
			require.Equal(t, task.last, !strings.Contains(sql, "ctid <"))
			require.Equal(t, task.first == 0, !strings.Contains(sql, "ctid >="))
		}
	}
	require.Equal(t, map[string]int{"small": 1, "fat": 1, "columnar": 1, "big": 10}, count)
}

func TestRangesGiveEveryRowOnce(t *testing.T) {
	ctx := context.Background()
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i; DELETE FROM t WHERE i % 3 = 0; INSERT INTO t SELECT 0 FROM generate_series(1, 5)")
	s, err := openSession(ctx, dsn)
	require.NoError(t, err)
	defer s.close()
	src := &source{Table: Table{Namespace: "public", Name: "t", Columns: []Column{{Name: "i"}}}, heap: true, pages: 40, bytes: 7 * rangeBytes}
	src.pages = 7 * pagesPerRange // fewer than there are: the last range takes the rest
	var all bytes.Buffer
	for _, task := range tasksOf([]*source{src}) {
		require.NoError(t, s.copyOut(ctx, copySQL(task.source, task.first, task.end, task.last), func(b []byte) error { all.Write(b); return nil }))
	}
	lines := strings.Split(strings.TrimSuffix(all.String(), "\n"), "\n")
	require.Len(t, lines, 66672)
	seen := map[string]int{}
	for _, l := range lines {
		seen[l]++
	}
	require.Equal(t, 5, seen["0"])
	require.Len(t, seen, 66668)
}

func TestWideTableAndOddNames(t *testing.T) {
	name, dsn := newDatabase(t)
	var columns []string
	for i := range 1600 {
		columns = append(columns, fmt.Sprintf(`"c %d ""q"""  integer DEFAULT %d`, i, i))
	}
	testServer().MustExec(t, name, "CREATE TABLE wide ("+strings.Join(columns, ", ")+"); INSERT INTO wide DEFAULT VALUES; INSERT INTO wide DEFAULT VALUES")
	store := newStore(t)
	_, m := take(t, options(dsn, store))
	require.Len(t, tableOf(t, m, "public.wide").Columns, 1600)
	require.Equal(t, tableHashes(t, testServer().Connect(t, name)), tableHashes(t, testServer().Connect(t, restoreAll(t, store, m))))
}

func TestOnlyPublishedTablesAreTaken(t *testing.T) {
	name, dsn := newRichDatabase(t)
	testServer().MustExec(t, name, `CREATE PUBLICATION two FOR TABLE part, secured WITH (publish_via_partition_root = true)`)
	o := options(dsn, newStore(t))
	o.Publication = "two"
	_, m := take(t, o)
	var names []string
	for _, table := range m.Tables {
		names = append(names, table.Name)
	}
	require.Equal(t, []string{"part_eu", "part_rest_0", "part_rest_1", "part_us", "secured"}, names)
	require.Contains(t, m.Omitted, Omission{Kind: "unpublished table", Namespace: "public", Name: "item"})
	o.Publication = "missing"
	_, err := Take(context.Background(), o)
	require.Equal(t, fault.Usage, fault.CodeOf(err))
}

func TestPrivilegesThatAreMissingAreNamed(t *testing.T) {
	name, _ := newDatabase(t)
	testServer().MustExec(t, name, `DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN REPLICATION PASSWORD 'weak-password'; CREATE TABLE t (i integer); INSERT INTO t VALUES (1);
		CREATE TABLE s (i integer); ALTER TABLE s ENABLE ROW LEVEL SECURITY; INSERT INTO s VALUES (1)`)
	dsn := testServer().DSNFor("weak", "weak-password", name)
	store := newStore(t)
	_, err := Take(context.Background(), options(dsn, store))
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "permission denied")
	testServer().MustExec(t, name, "GRANT pg_read_all_data TO weak")
	_, err = Take(context.Background(), options(dsn, store))
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "row-level security")
	for range store.List(context.Background(), "", "") {
		require.Fail(t, "a failed snapshot left something")
	}
	testServer().MustExec(t, name, "ALTER ROLE weak BYPASSRLS")
	_, m := take(t, options(dsn, store))
	require.EqualValues(t, 1, tableOf(t, m, "public.s").Rows)
	testServer().MustExec(t, name, "ALTER ROLE weak NOREPLICATION")
	_, err = Take(context.Background(), options(dsn, store))
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
	testServer().MustExec(t, name, "ALTER ROLE weak REPLICATION")
	_, err = Take(context.Background(), options(testServer().DSNFor("weak", "wrong-password", name), store))
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
	require.NotContains(t, err.Error(), "wrong-password")
}

// TestSQLASCIIDatabase: bytes that are no text come back as they are.
func TestSQLASCIIDatabase(t *testing.T) {
	testServer().MustExec(t, "postgres", "CREATE DATABASE ascii TEMPLATE template0 ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C'")
	testServer().MustExec(t, "ascii", `SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (v text); INSERT INTO t VALUES (E'\xff\xfe\x0a\x5c')`)
	store := newStore(t)
	_, m := take(t, options(testServer().DSN("ascii"), store))
	require.Equal(t, "\xff\xfe\\n\\\\\n", chunkText(t, store, tableOf(t, m, "public.t").Chunks))
	require.Equal(t, "SQL_ASCII", m.Database.Encoding)
}

func TestLatin1DatabaseIsTakenAsUTF8(t *testing.T) {
	testServer().MustExec(t, "postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'")
	runAll(t, "latin", "SET client_encoding = 'UTF8';\n"+`CREATE TABLE "größe" (v text); COMMENT ON TABLE "größe" IS 'wie groß'; INSERT INTO "größe" VALUES ('ä');`)
	store := newStore(t)
	_, m := take(t, options(testServer().DSN("latin"), store))
	require.Equal(t, "ä\n", chunkText(t, store, tableOf(t, m, "public.größe").Chunks))
	require.Contains(t, itemOf(t, m, "COMMENT", `TABLE "größe"`).SQL, "wie groß")
	require.Equal(t, "ä", testServer().MustQuery(t, restoreAll(t, store, m), `SELECT v FROM "größe"`))
}

func TestVerifyNamesEveryDamagedObject(t *testing.T) {
	ctx := context.Background()
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v integer); INSERT INTO a VALUES (1); CREATE TABLE b AS SELECT v FROM generate_series(1, 5000) v")
	store := newStore(t)
	result, m := take(t, options(dsn, store))
	objects := []catalog.Object{result.Snapshot.Manifest}
	for _, table := range m.Tables {
		for _, c := range table.Chunks {
			objects = append(objects, c.Objects...)
		}
	}
	require.Len(t, objects, 3)
	verify := func(store objectstore.Store, level Level) (damaged []string) {
		seen, err := Verify(ctx, store, result.Snapshot, level, func(c *segment.CorruptError) { damaged = append(damaged, c.Name) })
		require.NoError(t, err)
		if len(damaged) == 0 {
			require.EqualValues(t, 3, seen.Objects)
		}
		return damaged
	}
	require.Empty(t, verify(store, LevelPresent))
	require.Empty(t, verify(store, LevelChecksum))
	require.Empty(t, verify(store, LevelDecode))
	for _, o := range objects {
		for at := 0; at < int(o.Size); at += max(1, int(o.Size)/50) {
			bad := &flipStore{Store: store, key: o.Key, at: at, bit: at % 8}
			require.Equal(t, []string{o.Key}, verify(bad, LevelChecksum))
			require.Equal(t, []string{o.Key}, verify(bad, LevelDecode))
		}
	}
	require.NoError(t, store.Delete(ctx, objects[1].Key))
	for level := LevelPresent; level <= LevelDecode; level++ {
		require.Equal(t, []string{objects[1].Key}, verify(store, level))
	}
}

func TestStoreFailureEndsTheSnapshot(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a AS SELECT v FROM generate_series(1, 5000) v")
	_, err := Take(context.Background(), options(dsn, brokenStore{newStore(t)}))
	require.ErrorIs(t, err, objectstore.ErrUnavailable)
	require.True(t, strings.HasSuffix(err.Error(), objectstore.ErrUnavailable.Error()), err.Error())
	require.Equal(t, fault.Unreachable, fault.CodeOf(err))
}

type brokenStore struct{ objectstore.Store }

func (brokenStore) Put(context.Context, string, []byte) error { return objectstore.ErrUnavailable }
