package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/segment"
)

// TestSequencesSetBackAfterTheTarget: TRUNCATE … RESTART IDENTITY is no schema change, and what one restores from most.
func TestSequencesSetBackAfterTheTarget(t *testing.T) {
	w := newWorld(t, "set_back", `CREATE TABLE t (id serial PRIMARY KEY); CREATE SEQUENCE down INCREMENT -1; CREATE SEQUENCE round MAXVALUE 100 CYCLE; INSERT INTO t DEFAULT VALUES`)
	sample := func(up, down, round int64) {
		w.sequences = []segment.Sequence{{Namespace: "public", Name: "t_id_seq", LastValue: up, IsCalled: true}, {Namespace: "public", Name: "down", LastValue: down, IsCalled: true},
			{Namespace: "public", Name: "round", LastValue: round, IsCalled: true}}
		w.archive()
	}
	w.sql("INSERT INTO t VALUES (2000)")
	w.sql("DELETE FROM t WHERE id = 2000")
	sample(2000, -70, 90)
	w.sql("INSERT INTO t VALUES (2)")
	target := w.here()
	w.sql("TRUNCATE t RESTART IDENTITY; INSERT INTO t DEFAULT VALUES")
	sample(1, -1, 3)
	rep := w.restore(Target{Kind: ToLSN, LSN: target, Exclusive: true}, "set_back_1", nil)
	require.Equal(t, "2000 -70 3", server.MustQuery(t, "set_back_1", "select (select last_value from t_id_seq) || ' ' || (select last_value from down) || ' ' || (select last_value from round)"))
	require.Equal(t, []string{"sequence public.down was set back after the target: it is as of the last sample before that, or as high as its columns need",
		"sequence public.t_id_seq was set back after the target: it is as of the last sample before that, or as high as its columns need"}, rep.Notes)
}

// TestSequencesOfOtherColumns: values may be kept in columns of a domain, or of numeric.
func TestSequencesOfOtherColumns(t *testing.T) {
	w := newWorld(t, "seq_columns", `CREATE DOMAIN inner_id AS bigint; CREATE DOMAIN did AS inner_id; CREATE SEQUENCE a; CREATE SEQUENCE b; CREATE SEQUENCE c INCREMENT -1; CREATE SEQUENCE d;
CREATE TABLE t (a did DEFAULT nextval('a'), b numeric DEFAULT nextval('b'), c numeric(10,2) DEFAULT nextval('c'), "D d" text DEFAULT 't' || nextval('d'), id int PRIMARY KEY)`)
	w.sql(`INSERT INTO t VALUES (110, 120.7, -130, 't9', 1), (3, 1e30, 5, 't8', 2)`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "seq_columns_1", nil)
	require.Equal(t, "110 120 -130 1", server.MustQuery(t, "seq_columns_1", "select (select last_value from a) || ' ' || (select last_value from b) || ' ' || (select last_value from c) || ' ' || (select last_value from d)"))
}

// TestSequencesAcrossSchemaChanges: a sample after the target may be of another sequence of that name.
func TestSequencesAcrossSchemaChanges(t *testing.T) {
	w := newWorld(t, "sequenced", `CREATE SCHEMA tidemarket; CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE tickets; CREATE SEQUENCE tidemarket.numbers; INSERT INTO t VALUES (1)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("ALTER TABLE t ADD COLUMN v text; SELECT setval('tickets', 500); SELECT setval('tidemarket.numbers', 700)")
	w.sql("INSERT INTO t VALUES (2)")
	w.sequences = []segment.Sequence{{Namespace: "public", Name: "tickets", LastValue: 500, IsCalled: true}, {Namespace: "tidemarket", Name: "numbers", LastValue: 700, IsCalled: true}}
	w.archive()
	w.sql("INSERT INTO t VALUES (3)")
	target := w.here()
	w.sql("DROP SEQUENCE tickets; CREATE SEQUENCE tickets START 10; INSERT INTO t VALUES (4)")
	w.sequences = []segment.Sequence{{Namespace: "public", Name: "tickets", LastValue: 10}, {Namespace: "tidemarket", Name: "numbers", LastValue: 710, IsCalled: true}}
	w.archive()
	w.restore(Target{Kind: ToLSN, LSN: target, Exclusive: true}, "sequenced_into", nil)
	require.Equal(t, "710", server.MustQuery(t, "sequenced_into", "select last_value from tidemarket.numbers"))
	require.Equal(t, "500", server.MustQuery(t, "sequenced_into", "select last_value from tickets"))
}
