package basesnapshot

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
)

// stepStore runs a function at the first put.
type stepStore struct {
	objectstore.Store
	once sync.Once
	step func()
}

func (s *stepStore) Put(ctx context.Context, key string, data []byte) error {
	s.once.Do(s.step)
	return s.Store.Put(ctx, key, data)
}

// TestChangesMeanwhileBeginTheSnapshotAgain changes what is still to be copied after the first object was
// stored, which is after the schema was dumped.
func TestChangesMeanwhileBeginTheSnapshotAgain(t *testing.T) {
	for what, sql := range map[string]string{
		"truncate": "TRUNCATE b", "rewrite": "ALTER TABLE b ALTER v TYPE bigint", "rename": "ALTER TABLE b RENAME TO bb", "drop": "DROP TABLE b",
		"column": "ALTER TABLE b RENAME v TO w", "replaced column": "ALTER TABLE b DROP v; ALTER TABLE b ADD v integer DEFAULT 3",
		"swap": "ALTER TABLE b RENAME TO c; CREATE TABLE b (v integer)", "label": "ALTER TYPE color RENAME VALUE 'red' TO 'blue'",
		"row type": "ALTER TABLE point3 ADD z integer",
	} {
		t.Run(what, func(t *testing.T) {
			name, dsn := newDatabase(t)
			testServer().MustExec(t, name, `CREATE TYPE color AS ENUM ('red'); CREATE TABLE point3 (x integer); CREATE TABLE a (v integer); INSERT INTO a VALUES (1);
				CREATE TABLE b AS SELECT v, 'red'::color AS c, row(1)::point3 AS p FROM generate_series(1, 5000) v`)
			inner := newStore(t)
			step := &stepStore{Store: inner, step: func() { testServer().MustExec(t, name, sql) }}
			var logged bytes.Buffer
			o := options(dsn, step)
			o.Jobs, o.Log = 1, slog.New(slog.NewTextHandler(&logged, nil))
			result, m := take(t, o)
			require.Contains(t, logged.String(), "begins again")
			require.Equal(t, tableHashes(t, testServer().Connect(t, name)), tableHashes(t, testServer().Connect(t, restoreAll(t, inner, m))))
			// Nothing of the first attempt is left.
			for info, err := range inner.List(context.Background(), "", "") {
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(info.Key, Prefix(1, result.LSN, result.Snapshot.ID)), info.Key)
			}
		})
	}
}

// TestHarmlessChangesDontDisturb: indexes, other tables and temporary tables come and go.
func TestHarmlessChangesDontDisturb(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v integer); INSERT INTO a VALUES (1); CREATE TABLE b AS SELECT v FROM generate_series(1, 5000) v")
	step := &stepStore{Store: newStore(t), step: func() {
		testServer().MustExec(t, name, "CREATE INDEX ON b (v); CREATE TABLE c (x integer); CREATE TEMP TABLE d (x integer); ANALYZE b; CREATE TYPE fresh AS ENUM ('x'); GRANT SELECT ON b TO PUBLIC; ALTER TABLE b ADD CHECK (v > 0)")
	}}
	o := options(dsn, step)
	o.Jobs, o.Attempts = 1, 1
	_, m := take(t, o)
	require.EqualValues(t, 5000, tableOf(t, m, "public.b").Rows)
	require.Len(t, m.Tables, 2)
}

func TestSchemaThatKeepsChangingIsNamed(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v integer); INSERT INTO a VALUES (1); CREATE TABLE b AS SELECT v FROM generate_series(1, 5000) v")
	o := options(dsn, newStore(t))
	o.Jobs, o.Attempts = 1, 2
	var logged bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&logged, nil))
	o.Progress = func(p Progress) {
		if p.Phase == "copying" && p.TablesDone == 0 {
			testServer().MustExec(t, name, "TRUNCATE b")
		}
	}
	_, err := Take(context.Background(), o)
	require.ErrorContains(t, err, "table public.b was truncated or rewritten")
	require.Equal(t, fault.Failed, fault.CodeOf(err))
	require.True(t, isChanged(err))
	require.Equal(t, 1, strings.Count(logged.String(), "begins again"))
}

// TestDDLDuringTheDumpIsNoticed compares the catalogs as schema does, with a change in between.
func TestDDLDuringTheDumpIsNoticed(t *testing.T) {
	ctx := context.Background()
	name, dsn := newRichDatabase(t)
	main, info, err := connect(ctx, dsn)
	require.NoError(t, err)
	defer closeConn(main)
	monitor, _, err := connect(ctx, dsn)
	require.NoError(t, err)
	defer closeConn(monitor)
	for sql, object := range map[string]string{
		"CREATE TABLE fresh (i integer)": "fresh", "ALTER TABLE item ADD more text": "item", "CREATE OR REPLACE VIEW cheap AS SELECT id, name FROM public.item": "cheap",
		"COMMENT ON TABLE item IS 'x'": "", "ALTER TYPE mood ADD VALUE 'new'": "mood", "DROP FUNCTION double_it(integer) CASCADE": "",
		"ALTER SEQUENCE shared INCREMENT 3": "shared", "CREATE POLICY p ON secured": "secured", "GRANT SELECT ON parent TO reader": "parent",
		"ALTER EXTENSION pgcrypto SET SCHEMA \"Shop \"\"x\"\"\"": "", "DROP SUBSCRIPTION sub": "", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader": "",
	} {
		_, err = main.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
		require.NoError(t, err)
		then, err := takeFingerprint(ctx, main, info.Version)
		require.NoError(t, err)
		require.NoError(t, schemaUnchanged(ctx, main, monitor, info.Version, then))
		if sql == "DROP SUBSCRIPTION sub" {
			testServer().MustExec(t, name, "ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
		}
		testServer().MustExec(t, name, "CREATE TEMP TABLE x (y serial); ANALYZE")
		testServer().MustExec(t, name, sql)
		changed := schemaUnchanged(ctx, main, monitor, info.Version, then)
		require.True(t, isChanged(changed), sql)
		require.Contains(t, changed.Error(), object, sql)
		_, err = main.Exec(ctx, "COMMIT")
		require.NoError(t, err)
	}
}

func TestOlderTransactionsAreNamedAndWaitedForOnlySoLong(t *testing.T) {
	ctx := context.Background()
	_, dsn := newDatabase(t)
	other, _ := newDatabase(t)
	blocker := testServer().Connect(t, other)
	_, err := blocker.Exec(ctx, "BEGIN; CREATE TABLE x (); SELECT 'blocker-secret'")
	require.NoError(t, err)
	testServer().MustExec(t, other, "BEGIN; CREATE TABLE y (); PREPARE TRANSACTION 'prepared one'")
	var logged bytes.Buffer
	o := options(dsn, newStore(t))
	o.WaitTimeout, o.Log = 2500*time.Millisecond, slog.New(slog.NewTextHandler(&logged, nil))
	_, err = Take(ctx, o)
	require.Error(t, err)
	require.Contains(t, logged.String()+err.Error(), fmt.Sprintf("pid %d", blocker.PgConn().PID()))
	require.NotContains(t, logged.String()+err.Error(), "blocker-secret")
	require.Contains(t, err.Error(), "waited 2.5s")
	requireNoWalsender(t)

	_, err = blocker.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	_, err = Take(ctx, o)
	require.ErrorContains(t, err, "prepared transaction 'prepared one'")
	requireNoWalsender(t)

	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err = Take(short, o)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	requireNoWalsender(t)
	testServer().MustExec(t, other, "ROLLBACK PREPARED 'prepared one'")
	take(t, o)
}

func requireNoWalsender(t *testing.T) {
	require.Eventually(t, func() bool {
		return testServer().MustQuery(t, "postgres", "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender') + (SELECT count(*) FROM pg_replication_slots)") == "0"
	}, 10*time.Second, 20*time.Millisecond)
}

// TestLockedTablesAreWaitedFor: an exclusive lock delays the copy, and does no harm.
func TestLockedTablesAreWaitedFor(t *testing.T) {
	ctx := context.Background()
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v integer); INSERT INTO a VALUES (1); CREATE TABLE b AS SELECT v FROM generate_series(1, 5000) v")
	locker := testServer().Connect(t, name)
	// The lock is held until the copier says that it waits.
	logged := &lockedBuffer{seen: "waits for a lock", then: func() {
		_, err := locker.Exec(ctx, "COMMIT")
		require.NoError(t, err)
	}}
	step := &stepStore{Store: newStore(t), step: func() {
		_, err := locker.Exec(ctx, "BEGIN; LOCK TABLE b")
		require.NoError(t, err)
	}}
	o := options(dsn, step)
	o.Jobs, o.Log = 1, slog.New(slog.NewTextHandler(logged, nil))
	_, m := take(t, o)
	require.EqualValues(t, 5000, tableOf(t, m, "public.b").Rows)
	require.Contains(t, logged.String(), fmt.Sprintf("pid %d", locker.PgConn().PID()))
}

// lockedBuffer takes log lines; at the first that holds seen it calls then.
type lockedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	seen string
	then func()
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.then != nil && bytes.Contains(p, []byte(l.seen)) {
		l.then()
		l.then = nil
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestBrokenWorkerTriesAgain ends the copying backend once.
func TestBrokenWorkerTriesAgain(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE a (v integer); INSERT INTO a VALUES (1); CREATE TABLE b AS SELECT v, md5(v::text) FROM generate_series(1, 300000) v")
	var logged lockedBuffer
	step := &stepStore{Store: newStore(t), step: func() {
		testServer().MustQuery(t, name, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'COPY%' OR query LIKE 'ROLLBACK TO SAVEPOINT t%' OR query LIKE 'SAVEPOINT t%'")
	}}
	o := options(dsn, step)
	o.Jobs, o.Log = 1, slog.New(slog.NewTextHandler(&logged, nil))
	_, m := take(t, o)
	require.Contains(t, logged.String(), "copying is tried again")
	require.EqualValues(t, 300000, tableOf(t, m, "public.b").Rows)
}

// TestNewerServers runs what depends on the server's version on 18: the point, the inventory, the fingerprints.
func TestNewerServers(t *testing.T) {
	ctx := context.Background()
	newer := postgres.Start(t, postgres.Options{Version: "18"})
	dsn := newer.CreateDatabase(t, "shop")
	newer.MustExec(t, "shop", `CREATE ROLE grp; CREATE ROLE member IN ROLE grp; CREATE TABLE a (i serial PRIMARY KEY, v integer GENERATED ALWAYS AS (i * 2) VIRTUAL); ALTER TABLE a OWNER TO member;
		INSERT INTO a SELECT FROM generate_series(1, 10); CREATE PUBLICATION pub FOR ALL TABLES`)
	o := options(dsn, newStore(t))
	o.Publication = "pub"
	o = o.withDefaults()
	tk := &taking{opt: &o, progress: &progress{}, manifest: &Manifest{ID: randomID()}}
	var err error
	tk.monitor, tk.info, err = connect(ctx, dsn)
	require.NoError(t, err)
	defer closeConn(tk.monitor)
	tk.main, _, err = connect(ctx, dsn)
	require.NoError(t, err)
	defer closeConn(tk.main)
	require.NoError(t, tk.hold(ctx))
	require.NoError(t, tk.inventory(ctx))
	then, err := takeFingerprint(ctx, tk.main, tk.info.Version)
	require.NoError(t, err)
	require.NoError(t, schemaUnchanged(ctx, tk.main, tk.monitor, tk.info.Version, then))
	require.NoError(t, tk.rows(ctx))
	require.NoError(t, tk.sequences(ctx))
	result, err := tk.finish(ctx, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 10, result.Snapshot.Rows)
	require.Equal(t, "v", result.Manifest.Tables[0].Columns[1].Generated)
	require.Equal(t, "UTF8", result.Manifest.Database.Encoding)
	roles, err := readRoles(ctx, tk.main, tk.info.Version, nil)
	require.NoError(t, err)
	yes := true
	require.Equal(t, []Membership{{Role: "grp", Inherit: &yes, Set: &yes}}, roles[1].MemberOf)
}
