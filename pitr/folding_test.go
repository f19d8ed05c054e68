package pitr

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/segment"
)

const foldSchema = `
CREATE TABLE account (id int PRIMARY KEY, balance bigint, note text, big text);
ALTER TABLE account ALTER big SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX account_note ON account (note);
CREATE TABLE odd (big text, at timestamptz, "the key" text, n numeric, v int, PRIMARY KEY ("the key", n, at));
CREATE TABLE ids (id uuid PRIMARY KEY, c char(4), v int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE emptied (id int PRIMARY KEY, v int);
CREATE TABLE floats (f float8 PRIMARY KEY, v int);
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE folk (name text COLLATE blind PRIMARY KEY, big text, v int, at timestamptz); ALTER TABLE folk ALTER big SET STORAGE EXTERNAL;
CREATE TABLE padded (c char(6), b bpchar, at timestamptz, v int, big text, PRIMARY KEY (c, b, at)); ALTER TABLE padded ALTER big SET STORAGE EXTERNAL;
CREATE TABLE scaled (n numeric PRIMARY KEY, big text, v int);
CREATE TABLE always (big text, id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);
ALTER TABLE scaled ALTER big SET STORAGE EXTERNAL; ALTER TABLE always ALTER big SET STORAGE EXTERNAL;
CREATE TABLE history (id int, what text);
ALTER TABLE history REPLICA IDENTITY FULL;
INSERT INTO account SELECT i, 0, 'note ' || i, CASE WHEN i % 5 = 0 THEN repeat(i::text, 3000) END FROM generate_series(1, 2000) i;
INSERT INTO odd SELECT repeat('b', i % 7), '2024-03-31 00:00+00'::timestamptz + i * interval '17 min', E'k\t\\' || i % 50 || E'\nx', i + 0.50, 0 FROM generate_series(1, 1500) i;
INSERT INTO ids SELECT md5(i::text)::uuid, 'a' FROM generate_series(1, 800) i;
INSERT INTO emptied SELECT i, 0 FROM generate_series(1, 300) i;
INSERT INTO floats SELECT i / 3.0, 0 FROM generate_series(1, 100) i;
INSERT INTO folk SELECT 'name ' || i, repeat('s', 3000), 0 FROM generate_series(1, 200) i;
INSERT INTO padded SELECT i, 'b', CASE i % 3 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE '0044-03-15 12:00 BC'::timestamptz END, 0, repeat('p', 3000) FROM generate_series(1, 200) i;
INSERT INTO scaled SELECT i, repeat('s', 3000), 0 FROM generate_series(1, 300) i;
INSERT INTO always (big, v) SELECT repeat('a', 3000), 0 FROM generate_series(1, 300) i;
INSERT INTO history VALUES (0, 'begins')`

// foldSteps are statements with %d for random numbers.
var foldSteps = []string{
	"UPDATE account SET balance = balance + 1 WHERE id % 11 = %d % 11",
	"UPDATE account SET balance = balance + 1, big = repeat('%d', 900) WHERE id % 37 = %d % 37",
	"UPDATE account SET id = id + 100000 WHERE id = (SELECT max(id) FROM account WHERE id <= %d AND big IS NOT NULL)",
	"UPDATE account SET id = id + 100000, big = 'new' WHERE id = (SELECT max(id) FROM account WHERE id <= %d)",
	"DELETE FROM account WHERE id IN (%d, %d, %d)",
	"INSERT INTO account SELECT %d, %d, 'other', repeat('o', 5000) ON CONFLICT DO NOTHING",
	"WITH two AS (SELECT id, note FROM account ORDER BY id LIMIT 2) UPDATE account SET note = note || '-%d-' || gen_random_uuid() WHERE id IN (SELECT id FROM two)",
	"UPDATE odd SET n = n + 0.00, at = at + interval '1 s', v = v + 1 WHERE v % 3 = %d % 3 AND n < %d",
	"UPDATE odd SET \"the key\" = \"the key\" || %d WHERE n = %d + 0.5",
	"DELETE FROM odd WHERE n BETWEEN %d AND %d + 5",
	"INSERT INTO odd VALUES ('%d', now(), '%d', 1.0, 1), ('x', now(), '\\N', 1.00, 1) ON CONFLICT DO NOTHING",
	"UPDATE ids SET c = '%d' WHERE ctid IN (SELECT ctid FROM ids LIMIT 50)",
	"DELETE FROM ids WHERE id IN (SELECT id FROM ids LIMIT 5); INSERT INTO ids SELECT gen_random_uuid(), 'n' FROM generate_series(1, 5)",
	"UPDATE emptied SET v = %d WHERE id % 3 = 0",
	"UPDATE floats SET v = %d WHERE f < 20",
	"UPDATE folk SET name = upper(name), v = %d WHERE v % 2 = %d % 2",
	"UPDATE folk SET name = initcap(name), big = repeat('%d', 700) WHERE v % 3 = %d % 3",
	"UPDATE folk SET v = v + %d",
	"DELETE FROM folk WHERE name = 'name ' || %d % 200; INSERT INTO folk VALUES ('NAME ' || %d % 200, repeat('u', 3000), 1) ON CONFLICT DO NOTHING",
	"UPDATE padded SET b = b || ' ', v = %d WHERE v % 2 = %d % 2 AND length(b::text) < 20",
	"UPDATE padded SET b = rtrim(b), big = repeat('%d', 700) WHERE v % 3 = %d % 3",
	"UPDATE padded SET v = v + %d",
	"UPDATE scaled SET n = n + 0.0, v = %d WHERE n <= 100 AND v % 2 = %d % 2",
	"UPDATE scaled SET n = trim_scale(n), big = repeat('t', %d) WHERE n BETWEEN 50 AND 150",
	"UPDATE scaled SET v = v + %d WHERE n < 200",
	"DELETE FROM scaled WHERE n = %d % 300; INSERT INTO scaled VALUES (%d % 300 + 0.00, repeat('u', 3000), 1) ON CONFLICT DO NOTHING",
	"UPDATE always SET id = DEFAULT, v = %d WHERE id % 7 = %d % 7",
	"UPDATE always SET v = v + 1, big = CASE WHEN id % 2 = 0 THEN big ELSE repeat('z', %d) END",
	"INSERT INTO history VALUES (%d, 'x')",
	"BEGIN; UPDATE account SET balance = -1; SAVEPOINT s; DELETE FROM account WHERE id % 2 = 0; ROLLBACK TO s; UPDATE account SET balance = %d WHERE id % 3 = 0; COMMIT",
}

func foldStep(rnd *rand.Rand) string {
	sql := foldSteps[rnd.IntN(len(foldSteps))]
	for strings.Contains(sql, "%d") {
		sql = strings.Replace(sql, "%d", fmt.Sprint(rnd.IntN(2000)), 1)
	}
	return sql
}

// TestFoldingComesToTheSame restores what random changes came to, folded, folded in several passes, and in order.
func TestFoldingComesToTheSame(t *testing.T) {
	w := newWorld(t, "folding", foldSchema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 120 {
		w.sql(foldStep(rnd))
		if i == 60 {
			w.sql("TRUNCATE emptied, history; INSERT INTO emptied SELECT i, 1 FROM generate_series(1, 50) i; UPDATE emptied SET v = 2 WHERE id < 9")
			w.sql("INSERT INTO history SELECT i % 5, 'twice' FROM generate_series(1, 20) i")
			w.sql("UPDATE history SET what = 'changed' WHERE id = 3; DELETE FROM history WHERE id = 4")
		}
	}
	w.archive()
	want := hashes(t, w.db)
	inOrder := w.restore(Target{Kind: ToLatest}, "folding_in_order", func(o *Options) { o.NoFold = true })
	require.Equal(t, want, hashes(t, "folding_in_order"))
	require.NotContains(t, inOrder.Seconds, PhaseFold)
	for name, memory := range map[string]int64{"folding_once": 0, "folding_often": 24 << 10 * 3} {
		var log strings.Builder
		folded := w.restore(Target{Kind: ToLatest}, name, func(o *Options) {
			o.FoldMemory, o.Log = memory, slog.New(slog.NewTextHandler(&log, nil))
		})
		require.Equal(t, memory != 0, strings.Contains(log.String(), "the archive is read again"))
		require.Equal(t, want, hashes(t, name))
		require.Contains(t, folded.Seconds, PhaseFold)
		require.Equal(t, inOrder.Rows, folded.Rows, "what is said of the rows")
		require.Equal(t, inOrder.Transactions, folded.Transactions)
		require.True(t, folded.Verified)
		require.Equal(t, schemaOf(t, w.db), schemaOf(t, name))
	}
}

// TestFoldingPassesBlocksOver restores to commits in the middle of long segments, from base snapshots at their beginning
// and in their middle: blocks without the last change of any row are not unpacked, and whoever counts wrong takes a row
// from an earlier moment.
func TestFoldingPassesBlocksOver(t *testing.T) {
	w := newWorld(t, "fold_passing", `CREATE TABLE counter (id int PRIMARY KEY, n bigint, what text); INSERT INTO counter SELECT i, 0, repeat('what', 20) FROM generate_series(1, 20) i;
		CREATE TABLE busy (id int PRIMARY KEY, v int); INSERT INTO busy SELECT i, 0 FROM generate_series(1, 3000) i; CREATE TABLE history (id int, what text)`)
	w.tx = 400
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type moment struct {
		at   segment.LSN
		rows map[string]string
	}
	var moments []moment
	for i := range 1000 {
		busy := fmt.Sprintf("UPDATE busy SET v = v + 1 WHERE id BETWEEN %[1]d AND %[1]d + 10;", rnd.IntN(3000))
		if i > 680 && i <= 700 {
			busy = "" // so that the block with the cut has changes of it after the cut alone
		}
		w.sql(fmt.Sprintf("BEGIN; UPDATE counter SET n = n + 1, what = md5(n::text) || left(what, 900) WHERE id > %d; INSERT INTO history VALUES (%d, 'x'); %s COMMIT", rnd.IntN(20), i, busy))
		switch i {
		case 100:
			w.sql("TRUNCATE counter; INSERT INTO counter SELECT i, 0, repeat('that', 20) FROM generate_series(1, 20) i")
		case 200:
			w.snapshot()
		case 150, 390, 700, 999:
			moments = append(moments, moment{w.here(), hashes(t, w.db)})
		}
	}
	w.archive()
	for i, m := range moments {
		into := fmt.Sprint("fold_passed_", i)
		rep := w.restore(Target{Kind: ToLSN, LSN: m.at, Exclusive: true}, into, nil)
		require.Equal(t, m.rows, hashes(t, into), "up to %s", m.at)
		require.Contains(t, rep.Seconds, PhaseFold)
	}
}

// TestFoldingChoosesTables where it can tell rows apart, and where it pays.
func TestFoldingChoosesTables(t *testing.T) {
	w := newWorld(t, "fold_choice", foldSchema+`; CREATE TABLE few (id int PRIMARY KEY); INSERT INTO few SELECT generate_series(1, 2000);
		CREATE TABLE all_of_it (id int PRIMARY KEY, v int); ALTER TABLE all_of_it REPLICA IDENTITY FULL; INSERT INTO all_of_it SELECT i, i FROM generate_series(1, 20) i`)
	w.sql("UPDATE account SET balance = 1; DELETE FROM few WHERE id < 3; UPDATE all_of_it SET v = 0; UPDATE floats SET v = 1; INSERT INTO ids SELECT gen_random_uuid()")
	w.archive()
	chosen := func(change func(*Options)) []string {
		o := Options{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), DSN: server.DSN("nowhere")}
		if change != nil {
			change(&o)
		}
		r, err := newRun(t.Context(), o)
		require.NoError(t, err)
		r.planFold()
		var names []string
		for _, table := range r.fold.Tables() {
			names = append(names, table.Name())
		}
		return names
	}
	require.ElementsMatch(t, []string{"public.account", "public.floats"}, chosen(nil), "few changes of many rows, identity FULL, nothing but inserts")
	require.ElementsMatch(t, []string{"public.account"}, chosen(func(o *Options) { o.Tables = []string{"acc*"} }))
	require.Empty(t, chosen(func(o *Options) { o.NoFold = true }))
	require.Empty(t, chosen(func(o *Options) { o.DataOnly = true }))
	w.restore(Target{Kind: ToLatest}, "fold_chosen", nil)
	require.Equal(t, hashes(t, w.db), hashes(t, "fold_chosen"), "floats are left to a replay in order when their first row comes")
}

// TestFoldingFindsDamage: changes that don't fit the base snapshot are damage, as they are when they are replayed.
func TestFoldingFindsDamage(t *testing.T) {
	w := newWorld(t, "fold_damage", "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i")
	w.sql("UPDATE t SET v = 1 WHERE id = 7")
	w.archive()
	w.sql("DELETE FROM t WHERE id = 8")
	w.taken += 3 // its begin, delete and commit are lost
	w.sql("INSERT INTO t VALUES (8, 3)")
	w.archive()
	for _, noFold := range []bool{false, true} {
		_, err := Restore(t.Context(), Options{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), DSN: server.DSN("fold_damaged"), Create: true, NoFold: noFold})
		require.Error(t, err)
		if !noFold {
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, "public.t")
		}
		require.NotContains(t, server.MustQuery(t, "postgres", "SELECT string_agg(datname, ' ') FROM pg_database"), "fold_damaged ")
	}
}

// TestFoldingBesideUniqueIndexes: where rows may name indexes these come first, and no pass may see rows of different moments side by side.
func TestFoldingBesideUniqueIndexes(t *testing.T) {
	w := newWorld(t, "fold_unique", `CREATE TABLE names (id int PRIMARY KEY, r regclass); INSERT INTO names VALUES (1, 'names_pkey');
CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, big text); CREATE TABLE i (id int PRIMARY KEY, u int, big text); CREATE UNIQUE INDEX ON i (u);
CREATE TABLE x (id int PRIMARY KEY, u int, big text, EXCLUDE USING btree (u WITH =)); CREATE TABLE alone (id int PRIMARY KEY, u int, big text); CREATE INDEX ON alone (u);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE i ALTER big SET STORAGE EXTERNAL; ALTER TABLE x ALTER big SET STORAGE EXTERNAL; ALTER TABLE alone ALTER big SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, i, repeat('b', 2100) FROM generate_series(1, 2000) i; INSERT INTO i SELECT * FROM t; INSERT INTO x SELECT * FROM t; INSERT INTO alone SELECT * FROM t`)
	tables := []string{"t", "i", "x", "alone"}
	for _, table := range tables {
		w.sql("UPDATE " + table + " SET u = -u")
		w.sql("INSERT INTO " + table + " SELECT i + 10000, i, '' FROM generate_series(1, 2000) i")
	}
	w.archive()
	for name, memory := range map[string]int64{"fold_unique_once": 0, "fold_unique_often": 72 << 10} {
		var log strings.Builder
		w.restore(Target{Kind: ToLatest}, name, func(o *Options) {
			o.FoldMemory, o.Log = memory, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		w.sameRows(name)
		for _, table := range tables {
			given := strings.Contains(log.String(), `msg="its changes are replayed in order" table=public.`+table+" ")
			require.Equal(t, memory != 0 && table != "alone", given, "%s %s", name, table)
		}
	}
}
