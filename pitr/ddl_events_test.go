package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// An event trigger that fires for replicas as well must not see what the replay does to hold it back, to find rows, or to
// make the source's changes again: what it wrote there comes with the stream.
func TestEventTriggersDoNotSeeTheReplay(t *testing.T) {
	w := newWorld(t, "noted", `CREATE TABLE noted (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tag text); CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'b' FROM generate_series(1, 100) i;
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.noted (tag) VALUES (tg_tag); END $$;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION keep(); ALTER TABLE t ENABLE ALWAYS TRIGGER always;
CREATE EVENT TRIGGER a_note ON ddl_command_end EXECUTE FUNCTION note(); ALTER EVENT TRIGGER a_note ENABLE ALWAYS;
CREATE EVENT TRIGGER z_note ON ddl_command_start EXECUTE FUNCTION note(); ALTER EVENT TRIGGER z_note ENABLE REPLICA`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.snapshot()
	w.sql("UPDATE t SET b = 'c' WHERE a < 50; ALTER TABLE t ADD c int; DELETE FROM t WHERE a < 20; CREATE TABLE u (id int PRIMARY KEY)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "noted_1", nil)
	w.sameRows("noted_1")
	const states = "select string_agg(evtname || ' ' || evtenabled::text, ' ' order by evtname) from pg_event_trigger where evtname like '%note'"
	require.Equal(t, "a_note A z_note R", server.MustQuery(t, "noted_1", states))
}
