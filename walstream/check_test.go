package walstream

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
)

func (s *testSource) check(t *testing.T) map[string]Finding {
	t.Helper()
	list, err := Check(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	out := make(map[string]Finding)
	for _, f := range list {
		require.NotEmpty(t, f.ID)
		require.NotEmpty(t, f.Object)
		require.NotEmpty(t, f.Problem)
		out[f.ID+" "+f.Object] = f
	}
	return out
}

// applyFixes runs the SQL of every finding, as a person would.
func (s *testSource) applyFixes(t *testing.T, found map[string]Finding) {
	t.Helper()
	for _, f := range found {
		if f.Fix != "" {
			s.exec(t, f.Fix)
		}
	}
}

func TestCheckFindsNothing(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run("version "+version, func(t *testing.T) {
			s := ownSource(t, postgres.Options{Version: version})
			s.exec(t, "create table a (id int primary key); create table p (id int primary key) partition by list (id); create table p1 partition of p default")
			require.Empty(t, s.check(t))
			s.prepare(t)
			require.Empty(t, s.check(t))
			s.start(t)
			require.Empty(t, s.check(t), "beside our own stream")
		})
	}
}

func TestReplicaIdentity(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, `
		create table keyless (a int);
		create table nothing (id int primary key); alter table nothing replica identity nothing;
		create table lazy (id int primary key deferrable);
		create table indexed (id int not null); create unique index indexed_i on indexed (id); alter table indexed replica identity using index indexed_i;
		create table dropped (id int not null); create unique index dropped_i on dropped (id); alter table dropped replica identity using index dropped_i; drop index dropped_i;
		create table "full" (a int); alter table "full" replica identity full;
		create table part (a int) partition by list (a); create table part1 partition of part default;
		create temp table t (a int); create unlogged table u (a int);
		create schema "S p"; create table "S p"."T" (a int)`)
	found := s.check(t)
	want := []string{
		"replica_identity public.keyless", "replica_identity public.nothing", "replica_identity public.lazy",
		"replica_identity public.dropped", "replica_identity public.part1", `replica_identity "S p"."T"`, "unlogged_table public.u",
	}
	for _, key := range want {
		require.Contains(t, found, key)
		require.Equal(t, key != "unlogged_table public.u", found[key].Fatal, key)
	}
	require.Len(t, found, len(want))
	require.Equal(t, "ALTER TABLE public.keyless REPLICA IDENTITY FULL", found["replica_identity public.keyless"].Fix)
	require.Equal(t, "ALTER TABLE public.nothing REPLICA IDENTITY DEFAULT", found["replica_identity public.nothing"].Fix)

	_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	wantFault(t, err, fault.Usage, "no usable replica identity", "UPDATE and DELETE fail")
	require.Contains(t, fault.HintOf(err), "ALTER TABLE")
	require.Contains(t, fault.HintOf(err), "and 5 more")
	pub, err := ReadPublication(t.Context(), s.conn, s.cfg.Publication)
	require.NoError(t, err)
	require.Nil(t, pub, "nothing was changed")

	// What is found is what PostgreSQL refuses: after the fixes every UPDATE works under a publication.
	delete(found, "unlogged_table public.u")
	s.applyFixes(t, found)
	created, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	require.True(t, created)
	for _, table := range []string{"keyless", "part", `"S p"."T"`, `"full"`} {
		s.exec(t, "update "+table+" set a = 1")
	}
	for _, table := range []string{"nothing", "indexed", "dropped"} {
		s.exec(t, "update "+table+" set id = 1")
	}
	// PostgreSQL never takes a deferrable key: FULL is what is left.
	s.exec(t, "alter table lazy replica identity full; update lazy set id = 1")

	// A table that comes later is no reason to stop archiving.
	s.exec(t, "create table later (a int)")
	require.False(t, s.check(t)["replica_identity public.later"].Fatal)
	created, err = EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	require.False(t, created)
}

// Since 18 REPLICA IDENTITY FULL doesn't go with generated columns that are not published.
func TestGeneratedColumnsOn18(t *testing.T) {
	s := ownSource(t, postgres.Options{Version: "18"})
	s.exec(t, `create table g (a int, b int generated always as (a + 1) stored); alter table g replica identity full;
		create table v (a int, b int generated always as (a + 1)); create table ok (a int primary key, b int generated always as (a + 1))`)
	found := s.check(t)
	require.Len(t, found, 2)
	require.Contains(t, found["replica_identity public.g"].Problem, "generated")
	require.Contains(t, found["replica_identity public.v"].Fix, "PRIMARY KEY")
	s.exec(t, "create publication p for all tables")
	for _, table := range []string{"g", "v"} {
		require.ErrorContains(t, s.Exec(t.Context(), s.db, "alter table "+table+" replica identity full; update "+table+" set a = 1"), "cannot update table")
	}
}

func TestPublicationNarrower(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, `create table a (id int primary key, v int); create table b (id int primary key);
		create publication tidemark for table a (id) where (id > 5), b with (publish = 'insert, delete', publish_via_partition_root)`)
	s.exec(t, "create table c (id int primary key)")
	found := s.check(t)
	for _, key := range []string{"publication_operations tidemark", "publication_via_root tidemark", "publication_row_filter tidemark",
		"publication_columns tidemark", "publication_table tidemark"} {
		require.Contains(t, found, key)
		require.True(t, found[key].Fatal, key)
	}
	require.Contains(t, found["publication_operations tidemark"].Problem, "update, truncate missing")
	_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	wantFault(t, err, fault.Usage, "publication tidemark can't be used")
	delete(found, "publication_columns tidemark") // the row filter's fix mends it too
	s.applyFixes(t, found)
	require.Empty(t, s.check(t))
	created, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	require.False(t, created)
}

func TestListedTables(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, `create schema app; create schema other;
		create table app.orders (id int primary key); create table app.items (id int primary key);
		create table other.orders (id int primary key); create table other.keyless (id int);
		create table app.parts (id int primary key) partition by list (id); create table other.part1 partition of app.parts default;
		create table app.base (id int primary key); create table other.derived (primary key (id)) inherits (app.base);
		create unlogged table app.volatile (id int)`)
	s.cfg.Tables = []string{"app.*"}
	require.Len(t, s.check(t), 1, "the unlogged table")
	created, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	require.True(t, created)
	pub, err := ReadPublication(t.Context(), s.conn, s.cfg.Publication)
	require.NoError(t, err)
	var names []string
	for _, table := range pub.Tables {
		names = append(names, table.Namespace+"."+table.Name)
	}
	require.ElementsMatch(t, []string{"app.orders", "app.items", "app.parts", "app.base"}, names)
	require.False(t, pub.AllTables)
	_, err = CreateSlot(t.Context(), s.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { dropSlotForGood(s) })
	r := s.start(t)
	s.exec(t, "insert into app.parts values (1)")
	s.exec(t, "insert into other.orders values (1); insert into other.derived values (1)")
	s.exec(t, "insert into app.orders values (1)")
	require.Equal(t, [][]string{{"I part1 N 1"}, {"I orders N 1"}}, r.waitFor(t, 2))

	s.cfg.Tables = []string{"orders", "app.none*"}
	found := s.check(t)
	require.True(t, found["pattern_no_table app.none*"].Fatal)
	_, err = parsePatterns([]string{"app."})
	wantFault(t, err, fault.Usage, "app.")
}

func TestPatterns(t *testing.T) {
	p, err := parsePatterns([]string{"public.*", "order_?", "a+b.x"})
	require.NoError(t, err)
	for name, want := range map[[2]string]bool{
		{"public", "x"}: true, {"Public", "x"}: false, {"any", "order_1"}: true, {"any", "order_12"}: false,
		{"a+b", "x"}: true, {"aab", "x"}: false, {"publicx", "x"}: false,
	} {
		require.Equal(t, want, p.match(name[0], name[1]), name)
	}
	require.True(t, patterns(nil).match("any", "thing"))
}

func TestPrivileges(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	s.MustExec(t, "postgres", "create role archiver login; create role boss")
	s.exec(t, `create table public.boss_table (id int primary key); alter table public.boss_table owner to boss;
		create table public.guarded (id int primary key); alter table public.guarded owner to boss; alter table public.guarded enable row level security;
		create schema hidden; create table hidden.t (id int primary key); alter table hidden.t owner to boss; alter schema hidden owner to boss`)
	s.cfg.DSN = s.DSNFor("archiver", "", s.db)
	s.conn = s.as(t, "archiver")
	found := s.check(t)
	for _, key := range []string{"role_replication archiver", "database_create " + s.db, "table_owner public.boss_table",
		"table_select hidden.t", "table_row_security public.guarded"} {
		require.Contains(t, found, key)
		require.True(t, found[key].Fatal, key)
	}
	require.Contains(t, found, "all_tables archiver")
	require.False(t, found["all_tables archiver"].Fatal)
	_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	wantFault(t, err, fault.Usage, "publication tidemark can't be used")

	delete(found, "all_tables archiver")
	s.applyFixes(t, found)
	s.conn = s.as(t, "archiver")
	left := s.check(t)
	require.Len(t, left, 1, "%v", left)
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "insert into hidden.t values (1)")
	require.Equal(t, []string{"I t N 1"}, r.waitFor(t, 1)[0])
}

func (s *testSource) as(t *testing.T, role string) *pgx.Conn {
	t.Helper()
	conn, err := Connect(t.Context(), s.DSNFor(role, "", s.db))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func TestCapacity(t *testing.T) {
	s := ownSource(t, postgres.Options{Settings: map[string]string{
		"max_replication_slots": "1", "max_wal_senders": "1", "wal_sender_timeout": "3s", "max_slot_wal_keep_size": "100MB",
	}})
	found := s.check(t)
	require.Len(t, found, 4)
	for key, f := range found {
		require.False(t, f.Fatal, key)
	}
	s.prepare(t)
	s.cfg.Slot = "another"
	require.True(t, s.check(t)["max_replication_slots max_replication_slots"].Fatal)
	_, err := CreateSlot(t.Context(), s.cfg)
	wantFault(t, err, fault.Usage, "all replication slots are in use")
}

func TestCheckNamesWhatIsNeverCarried(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create extension postgres_fdw; create server srv foreign data wrapper postgres_fdw; create foreign table ft (a int) server srv; select lo_create(0)")
	found := s.check(t)
	require.Contains(t, found, "foreign_table public.ft")
	require.Contains(t, found, "large_objects "+s.db)
	s.exec(t, "select lo_unlink(oid) from pg_largeobject_metadata")
}

func TestStandbyIsRefused(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	backup, err := s.BaseBackup("standby")
	require.NoError(t, err)
	standby := postgres.Start(t, postgres.Options{Populate: postgres.CopyTree(backup), Settings: map[string]string{"hot_standby": "on", "restore_command": "false"}})
	require.NoError(t, standby.Stop(postgres.Fast))
	require.NoError(t, os.WriteFile(standby.DataDir+"/standby.signal", nil, 0o644))
	require.NoError(t, standby.Run())
	conn, err := Connect(t.Context(), standby.DSN(s.db))
	require.NoError(t, err)
	defer closeQuietly(conn)
	list, err := Check(t.Context(), conn, s.cfg)
	require.NoError(t, err)
	require.Contains(t, ids(list), "hot_standby")
	s.cfg.DSN = standby.DSN(s.db)
	_, err = Start(t.Context(), s.cfg)
	wantFault(t, err, fault.Unreachable, "standby")
	_, err = CreateSlot(t.Context(), s.cfg)
	wantFault(t, err, fault.Unreachable, "standby")
}
