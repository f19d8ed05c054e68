package pitr

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

// meddler is a store whose objects can be made to fail or to hold other bytes.
type meddler struct {
	objectstore.Store
	get func(key string) (replace []byte, err error) // nil, nil: as it is
}

func (m *meddler) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	replace, err := m.get(key)
	if err != nil {
		return nil, err
	}
	if replace == nil {
		return m.Store.Get(ctx, key, offset, length)
	}
	end := int64(len(replace))
	if length >= 0 {
		end = min(end, offset+length)
	}
	return io.NopCloser(strings.NewReader(string(replace[min(offset, end):end]))), nil
}

const shopSchema = `
CREATE TABLE orders (id serial PRIMARY KEY, what text);
CREATE TABLE log (at timestamptz, what text);
INSERT INTO orders (what) SELECT 'w' || i FROM generate_series(1, 1000) i`

// shop is a small world with a few transactions.
func shop(t *testing.T, name string) *world {
	w := newWorld(t, name, shopSchema)
	for range 10 {
		w.sql("INSERT INTO orders (what) SELECT 'n' || i FROM generate_series(1, 100) i; INSERT INTO log VALUES (now(), 'x'); UPDATE orders SET what = 'u' WHERE id % 10 = 0")
	}
	w.archive()
	return w
}

func (w *world) try(store objectstore.Store, into string, change func(*Options)) (*Report, error) {
	w.t.Helper()
	a := NewArchive(store, w.log.View())
	p, err := MakePlan(w.t.Context(), a, Target{Kind: ToLatest}, time.UTC)
	require.NoError(w.t, err)
	o := Options{Archive: a, Plan: p, DSN: server.DSN(into), Jobs: 2}
	if change != nil {
		change(&o)
	}
	return Restore(w.t.Context(), o)
}

func databases(t *testing.T) string {
	return server.MustQuery(t, "postgres", "select string_agg(datname, ' ' order by datname) from pg_database")
}

func TestRestoreAgainAfterAFailure(t *testing.T) {
	w := shop(t, "again")
	want := hashes(t, w.db)
	broken := false
	failing := &meddler{Store: w.store, get: func(key string) ([]byte, error) {
		if strings.HasPrefix(key, "segments/") && broken {
			return nil, objectstore.ErrUnavailable
		}
		return nil, nil
	}}
	create := func(o *Options) { o.Create = true }

	t.Run("a new database", func(t *testing.T) {
		a := NewArchive(failing, w.log.View())
		p, err := MakePlan(t.Context(), a, Target{Kind: ToLatest}, time.UTC)
		require.NoError(t, err)
		broken = true
		_, err = Restore(t.Context(), Options{Archive: a, Plan: p, DSN: server.DSN("again_new"), Create: true})
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		require.Equal(t, fault.Unreachable, fault.CodeOf(err))
		require.Contains(t, databases(t), "again_new_tidemark_unfinished")
		require.NotContains(t, strings.Fields(databases(t)), "again_new")
		broken = false
		_, err = w.try(w.store, "again_new", create)
		require.NoError(t, err)
		require.NotContains(t, databases(t), "again_new_tidemark_unfinished")
		require.Equal(t, want, hashes(t, "again_new"))
		_, err = w.try(w.store, "again_new", create)
		require.ErrorIs(t, err, ErrNotEmpty)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
	})

	t.Run("a database that was there", func(t *testing.T) {
		server.CreateDatabase(t, "again_old")
		server.MustExec(t, "again_old", `CREATE EXTENSION IF NOT EXISTS plpgsql; COMMENT ON SCHEMA public IS 'mine'`)
		a := NewArchive(failing, w.log.View())
		p, err := MakePlan(t.Context(), a, Target{Kind: ToLatest}, time.UTC)
		require.NoError(t, err)
		broken = true
		_, err = Restore(t.Context(), Options{Archive: a, Plan: p, DSN: server.DSN("again_old")})
		require.ErrorIs(t, err, objectstore.ErrUnavailable)
		broken = false
		require.Equal(t, "1", server.MustQuery(t, "again_old", "select count(*)::text from tidemark_unfinished.restore"))
		// More that a failed restore may leave.
		server.MustExec(t, "again_old", `CREATE SCHEMA s; CREATE TYPE public.e AS ENUM ('a'); CREATE FUNCTION public.f(e) RETURNS int LANGUAGE sql AS 'select 1';
CREATE PUBLICATION p FOR ALL TABLES; CREATE DOMAIN public.d AS int; CREATE OPERATOR public.=== (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION public.to_e(int) RETURNS e LANGUAGE sql AS 'select null::public.e'; CREATE CAST (int AS e) WITH FUNCTION public.to_e(int); CREATE FOREIGN DATA WRAPPER w; CREATE SERVER srv FOREIGN DATA WRAPPER w`)
		_, err = w.try(w.store, "again_old", nil)
		require.NoError(t, err)
		require.Equal(t, want, hashes(t, "again_old"))
		require.Equal(t, "0", server.MustQuery(t, "again_old", "select count(*)::text from pg_namespace where nspname in ('s', 'tidemark_unfinished')"))
	})

	t.Run("what bears only the name is left alone", func(t *testing.T) {
		server.CreateDatabase(t, "again_fake_tidemark_unfinished")
		server.MustExec(t, "again_fake_tidemark_unfinished", "CREATE TABLE precious (a int)")
		_, err := w.try(w.store, "again_fake", create)
		require.Error(t, err)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
		require.Equal(t, "0", server.MustQuery(t, "again_fake_tidemark_unfinished", "select count(*)::text from precious"))
	})
}

func TestRestoreRefusals(t *testing.T) {
	w := shop(t, "refuse")
	server.CreateDatabase(t, "refuse_full")
	server.MustExec(t, "refuse_full", "CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)")
	server.CreateDatabase(t, "refuse_type")
	server.MustExec(t, "refuse_type", "CREATE TYPE mine AS ENUM ('a')")
	server.CreateDatabase(t, "refuse_empty")
	server.MustExec(t, "postgres", "CREATE ROLE plain LOGIN; GRANT ALL ON DATABASE refuse_empty TO plain")
	server.MustExec(t, "postgres", "CREATE DATABASE refuse_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
	stop := errors.New("no")
	cases := []struct {
		name, into string
		change     func(*Options)
		code       fault.Code
		says       string
	}{
		{"a table", "refuse_full", nil, fault.Usage, "table public.mine"},
		{"a type", "refuse_type", nil, fault.Usage, "type public.mine"},
		{"no such database", "refuse_none", nil, fault.Usage, "--create"},
		{"another encoding", "refuse_latin", nil, fault.Usage, "LATIN1"},
		{"nobody there", "x", func(o *Options) { o.DSN = "postgres://postgres@127.0.0.1:1/x" }, fault.Unreachable, "connect to"},
		{"not a DSN", "x", func(o *Options) { o.DSN = "postgres://a:secret@:b" }, fault.Usage, "DSN"},
		{"no right to switch triggers off", "refuse_empty", func(o *Options) { o.DSN, o.DataOnly = server.DSNFor("plain", "", "refuse_empty"), true }, fault.Usage, "session_replication_role"},
		{"no right to make tables", "refuse_empty", func(o *Options) { o.DSN = server.DSNFor("plain", "", "refuse_empty") }, fault.Usage, "GRANT CREATE ON SCHEMA public"},
		{"a pattern without a table", "refuse_empty", func(o *Options) { o.Tables = []string{"nope"} }, fault.Usage, "nope"},
		{"schema and data", "refuse_empty", func(o *Options) { o.SchemaOnly, o.DataOnly = true, true }, fault.Usage, "exclude each other"},
		{"rows alone without tables", "refuse_empty", func(o *Options) { o.DataOnly = true }, fault.Usage, "has no table public."},
		{"not confirmed", "refuse_empty", func(o *Options) { o.Confirm = func(*Plan) error { return stop } }, fault.Failed, "no"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := databases(t)
			_, err := w.try(w.store, c.into, c.change)
			require.Error(t, err)
			require.Equal(t, c.code, fault.CodeOf(err), err)
			require.Contains(t, err.Error()+" | "+fault.HintOf(err), c.says)
			require.NotContains(t, err.Error(), "secret")
			require.Equal(t, before, databases(t))
			require.Equal(t, "0", server.MustQuery(t, "refuse_empty", "select count(*)::text from pg_class where relnamespace = 'public'::regnamespace"))
		})
	}
	require.Equal(t, "1", server.MustQuery(t, "refuse_full", "select count(*)::text from mine"))
	t.Run("two at a time", func(t *testing.T) {
		_, err := w.try(w.store, "refuse_empty", func(o *Options) {
			o.Confirm = func(*Plan) error {
				_, err := w.try(w.store, "refuse_empty", nil)
				require.Equal(t, fault.Conflict, fault.CodeOf(err))
				return nil
			}
		})
		require.NoError(t, err)
	})
}

func TestRestoreStopsAtDamageBeforeUsingIt(t *testing.T) {
	w := shop(t, "damage")
	var keys []string
	for info, err := range w.store.List(t.Context(), "", "") {
		require.NoError(t, err)
		if strings.HasPrefix(info.Key, "segments/") || strings.HasPrefix(info.Key, "snapshots/") {
			keys = append(keys, info.Key)
		}
	}
	require.NotEmpty(t, keys)
	for i, key := range keys {
		body, err := w.store.Get(t.Context(), key, 0, -1)
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		for n, bad := range [][]byte{flip(data, len(data)*(i+1)/(len(keys)+1)), data[:len(data)-1], append(append([]byte(nil), data...), 0), nil} {
			if n > 0 && i%4 != n {
				continue
			}
			damaged := &meddler{Store: w.store, get: func(k string) ([]byte, error) {
				switch {
				case k != key:
					return nil, nil
				case bad == nil:
					return nil, objectstore.ErrNotFound
				}
				return bad, nil
			}}
			a := NewArchive(damaged, w.log.View())
			p, err := MakePlan(t.Context(), NewArchive(w.store, w.log.View()), Target{Kind: ToLatest}, time.UTC)
			require.NoError(t, err)
			_, err = Restore(t.Context(), Options{Archive: a, Plan: p, DSN: server.DSN("damage_into"), Create: true, Jobs: 2})
			require.Error(t, err, "%s %d", key, n)
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%s %d: %v", key, n, err)
			require.Contains(t, err.Error(), key)
		}
	}
	require.NotContains(t, strings.Fields(databases(t)), "damage_into")
}

func flip(b []byte, i int) []byte {
	c := append([]byte(nil), b...)
	c[i] ^= 0x10
	return c
}

func TestRestoreRefusesWhatChangedWithoutASnapshot(t *testing.T) {
	for name, ddl := range map[string]string{
		"column added":   "ALTER TABLE orders ADD COLUMN more int",
		"column dropped": "ALTER TABLE orders DROP COLUMN what",
		"column renamed": "ALTER TABLE orders RENAME COLUMN what TO other",
		"type changed":   "ALTER TABLE orders ALTER COLUMN id TYPE bigint",
		"length changed": "ALTER TABLE orders ALTER COLUMN what TYPE varchar(5)",
		"table renamed":  "ALTER TABLE orders RENAME TO shifted",
		"table added":    "CREATE TABLE shifted (id int PRIMARY KEY)",
	} {
		t.Run(name, func(t *testing.T) {
			db := "ddl_" + strings.ReplaceAll(name, " ", "_")
			w := newWorld(t, db, shopSchema)
			w.sql(ddl)
			table := "orders"
			if strings.Contains(ddl, "shifted") {
				table = "shifted"
			}
			w.sql("INSERT INTO " + table + " (id) VALUES (5000)")
			w.archive()
			_, err := w.try(w.store, db+"_into", func(o *Options) { o.Create = true })
			require.Error(t, err)
			require.Equal(t, fault.Failed, fault.CodeOf(err))
			require.Contains(t, err.Error(), "table public."+table+" does not fit the transactions from LSN")
		})
	}
}

func TestRestoreNamesTheRowThatDoesNotFit(t *testing.T) {
	w := newWorld(t, "misfit", shopSchema)
	// The row is gone from the snapshot's copy, as if the archive had lost a transaction.
	w.sql("DELETE FROM orders WHERE id = 5")
	w.archive()
	a := w.view()
	p := w.plan(Target{Kind: ToLatest})
	_, err := Restore(t.Context(), Options{Archive: a, Plan: p, DSN: server.DSN("misfit_into"), Create: true, Jobs: 2, Progress: func(p Progress) {
		if p.Phase == PhaseKeys && p.Done == 0 {
			server.MustExec(t, "misfit_into_tidemark_unfinished", "DELETE FROM orders WHERE id = 5")
		}
	}})
	require.Error(t, err)
	require.Equal(t, fault.Failed, fault.CodeOf(err))
	require.Contains(t, err.Error(), "delete on public.orders (id) = (5), transaction ")
	require.Contains(t, err.Error(), p.LastKept.LSN.String())
	require.Contains(t, err.Error(), "there is no such row")
}

// A source may hold rows that break a foreign key which it calls valid: written with triggers that don't fire. A restore
// doesn't hide that, for rows of its own that are missing look the same, and can be told to go on.
func TestRestoreOfBrokenReferences(t *testing.T) {
	w := newWorld(t, "broken", `CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY, one int REFERENCES one DEFERRABLE);
		INSERT INTO one VALUES (1); INSERT INTO two VALUES (1, 1); SET session_replication_role = replica; INSERT INTO two VALUES (2, 2)`)
	w.sql("RESET session_replication_role; INSERT INTO two VALUES (3, 1)")
	w.archive()
	_, err := w.try(w.store, "broken_refused", func(o *Options) { o.Create = true })
	require.Equal(t, fault.Failed, fault.CodeOf(err))
	require.ErrorContains(t, err, "make fk constraint public.two two_one_fkey")
	require.Contains(t, fault.HintOf(err), "--accept-inexact makes it NOT VALID")

	rep := w.restore(Target{Kind: ToLatest}, "broken_accepted", func(o *Options) { o.AcceptInexact = true })
	require.Contains(t, strings.Join(rep.Notes, "\n"), "foreign key public.two two_one_fkey is NOT VALID")
	require.Equal(t, hashes(t, "broken"), hashes(t, "broken_accepted"))
	require.Equal(t, strings.Replace(schemaOf(t, "broken"), "DEFERRABLE;", "DEFERRABLE NOT VALID;", 1), schemaOf(t, "broken_accepted"))
}
