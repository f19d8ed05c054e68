package walstream

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// changedTables reads the state again, compares, and returns the tables of each change; all stands for any.
func changedTables(t *testing.T, s *testSource, name string, last *PublicationState) (*PublicationState, [][]string) {
	t.Helper()
	now, err := ReadPublicationState(t.Context(), s.conn, name, last)
	require.NoError(t, err)
	require.NotNil(t, now)
	require.False(t, now.Pending)
	recorded, err := json.Marshal(last.Recorded())
	require.NoError(t, err)
	var before PublicationState
	require.NoError(t, json.Unmarshal(recorded, &before))
	changes, err := PublicationChanges(t.Context(), s.conn, &before, now)
	require.NoError(t, err)
	var tables [][]string
	for _, c := range changes {
		require.NotEmpty(t, c.Reason)
		tables = append(tables, c.Tables)
	}
	return now, tables
}

// TestPublicationChangesThatLoseRowsAreSeen: each step is compared with the reading before, which is as old as
// the last look or, at a START, as the last run.
func TestPublicationChangesThatLoseRowsAreSeen(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, `create schema live; create table a (id int primary key, v text); create table b (id int primary key);
		create table live.c (id int primary key); create table root (id int) partition by range (id);
		create table low partition of root for values from (0) to (10); create table old (id int); insert into old values (15);
		create publication p for table a, root, tables in schema live; create publication every for all tables`)
	last, err := ReadPublicationState(t.Context(), s.conn, "p", nil)
	require.NoError(t, err)
	require.Len(t, last.Members, 3)
	var anyTable []string
	for _, step := range []struct {
		what, sql string
		want      [][]string
	}{
		{"nothing", "", nil},
		{"rows and other tables", "insert into a values (1); create table unrelated (id int)", nil},
		{"made and published at once", "begin; create table d (id int); alter publication p add table d; commit", nil},
		{"published after it was made", "alter publication p add table b", [][]string{{"public.b"}}},
		{"a row filter", "alter publication p set table a where (id > 0), b, d, root, tables in schema live", [][]string{{"public.a"}, {"public.root", "public.low"}, {"public.b"}, {"public.d"}}},
		{"dropped", "drop table d", nil},
		{"taken out", "alter publication p drop table b", [][]string{{"public.b"}}},
		{"a partition made in place", "create table mid partition of root for values from (20) to (30)", nil},
		{"a partition with rows", "alter table root attach partition old for values from (10) to (20)", [][]string{{"public.old"}}},
		{"a partition detached", "alter table root detach partition low", [][]string{{"public.low"}}},
		{"made in the schema", "create table live.e (id int primary key)", nil},
		{"moved out of the schema", "alter table live.c set schema public", [][]string{{"live.c", "public.c"}}},
		{"moved into the schema", "alter table c set schema live", [][]string{{"live.c"}}},
		{"for a moment fewer operations", "alter publication p set (publish = 'insert'); alter publication p set (publish = 'insert, update, delete, truncate')", [][]string{anyTable}},
		{"fewer operations", "alter publication p set (publish = 'insert, update')", [][]string{anyTable}},
		{"made again", "drop publication p; create publication p for table a", [][]string{anyTable}},
	} {
		if step.sql != "" {
			s.exec(t, step.sql)
		}
		now, tables := changedTables(t, s, "p", last)
		if step.what == "a row filter" {
			require.Contains(t, tables, []string{"public.a"}, step.what)
		} else {
			require.Equal(t, step.want, tables, step.what)
		}
		last = now
	}

	all, err := ReadPublicationState(t.Context(), s.conn, "every", nil)
	require.NoError(t, err)
	require.Empty(t, all.MissingOperations())
	s.exec(t, "create table late (id int)")
	all, tables := changedTables(t, s, "every", all)
	require.Empty(t, tables)
	s.exec(t, "alter publication every set (publish = 'insert, delete')")
	all, tables = changedTables(t, s, "every", all)
	require.Len(t, tables, 1)
	require.Equal(t, "update, truncate", all.MissingOperations())
	gone, err := ReadPublicationState(t.Context(), s.conn, "none", nil)
	require.NoError(t, err)
	require.Nil(t, gone)
}

// TestPublicationStateOfALongList keeps only the hash, and then any table may be the one.
func TestPublicationStateOfALongList(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, `do $$ begin for i in 1..1001 loop execute format('create table t%s (id int)', i); end loop; end $$;
		create publication p for tables in schema public`)
	state, err := ReadPublicationState(t.Context(), s.conn, "p", nil)
	require.NoError(t, err)
	_, tables := changedTables(t, s, "p", state)
	require.Empty(t, tables)
	s.exec(t, "create table one_more (id int)")
	_, tables = changedTables(t, s, "p", state)
	require.Equal(t, [][]string{nil}, tables)
}

// TestPublicationStatePends while a transaction that changes it has not ended: it may have committed in the
// WAL already and wait for a standby.
func TestPublicationStatePends(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run(version, func(t *testing.T) {
			s := ownSource(t, postgres.Options{Version: version})
			s.exec(t, "create table a (id int primary key); create publication p for table a")
			read := func(last *PublicationState) *PublicationState {
				state, err := ReadPublicationState(t.Context(), s.conn, "p", last)
				require.NoError(t, err)
				return state
			}
			state := read(nil)
			require.False(t, state.Pending)
			require.Equal(t, "public.a", state.Members[0].Name)
			other := s.Connect(t, s.db)
			_, err := other.Exec(t.Context(), "begin; savepoint s; alter publication p set (publish = 'insert'); release s")
			require.NoError(t, err)
			pending := read(state)
			require.True(t, pending.Pending)
			require.True(t, pending.Same(state))
			_, err = other.Exec(t.Context(), "rollback")
			require.NoError(t, err)
			require.False(t, read(pending).Pending, "what was rolled back is no change")
		})
	}
}
