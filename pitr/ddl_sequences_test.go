package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/segment"
)

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
