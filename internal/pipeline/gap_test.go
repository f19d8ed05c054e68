package pipeline

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
)

func acceptGap(c *Config) { c.AcceptGap = true }

// requireGap checks that the archiver leaves with exit 6, and then that it goes on with --accept-gap: the
// hole is recorded, a base snapshot stands behind it, and what is committed then is archived.
func requireGap(t *testing.T, w *world) {
	t.Helper()
	err := w.start().wait()
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))
	require.Empty(t, w.view().Gaps(), "nothing is stepped over unasked")
	end := w.newest().End

	r := w.start(acceptGap)
	w.eventually("the gap", func() bool { r.lives(); return len(w.view().Gaps()) == 1 })
	r.protected()
	require.Equal(t, end, w.view().Gaps()[0].From)
	after := w.insert(900, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, after)
	require.NoError(t, r.end())
}

func TestSlotAdvancedByAnotherIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.insert(1, 3)
	w.query("SELECT pg_replication_slot_advance('" + w.slot() + "', pg_current_wal_flush_lsn())::text")
	requireGap(t, w)
}

func TestDroppedSlotIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.insert(1, 3)
	w.query("SELECT pg_drop_replication_slot('" + w.slot() + "')::text")
	requireGap(t, w)
}

// TestLostSlotIsAGap: every command that meets it says what to do.
func TestLostSlotIsAGap(t *testing.T) {
	w := newWorld(t, postgres.Start(t, postgres.Options{Settings: map[string]string{
		"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "48MB",
	}}))
	w.catchUp()
	for range 4 {
		w.exec("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1000, 20000) i; TRUNCATE t")
		w.exec("SELECT pg_switch_wal()")
		w.exec("CHECKPOINT")
	}
	require.Equal(t, "lost", w.query("SELECT wal_status FROM pg_replication_slots"))

	_, err := Mark(t.Context(), w.cfg.DSN, w.store, "too late")
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.Contains(t, fault.HintOf(err), "--accept-gap")
	findings, err := Check(t.Context(), w.cfg)
	require.NoError(t, err)
	at := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == "slot_lost" })
	require.GreaterOrEqual(t, at, 0)
	require.Contains(t, findings[at].Hint, "--accept-gap")
	err = w.start().wait()
	require.Contains(t, fault.HintOf(err), "--accept-gap")
	requireGap(t, w)
}

func TestDroppedPublicationIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	requireGap(t, w)
}

// TestPublicationMadeAgainIsAGap: what was written without the publication can't be decoded, although there
// is one again.
func TestPublicationMadeAgainIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	w.exec("CREATE PUBLICATION tidemark FOR ALL TABLES")
	requireGap(t, w)
}

// TestPublicationDroppedWhileStreaming ends the run, and the run that accepts the gap mends it by itself.
func TestPublicationDroppedWhileStreaming(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	err := r.wait()
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.Contains(t, fault.HintOf(err), "--accept-gap")
	requireGap(t, w)
}

// undecodable commits a transaction that this server can't decode any more, and reports whether there is one. Rolled
// back to savepoints, rows of pg_class leave their places to others of the same transaction, and the commands that the
// decoder remembers of the places are then those of the rows that were there before. It takes a page that gets full, with
// rows that were dead before the slot was made.
func (w *world) undecodable() bool {
	for n := range 40 {
		table := fmt.Sprintf("rewritten_%d", n)
		w.exec("CREATE TABLE " + table + " (id int PRIMARY KEY, v int); INSERT INTO " + table + " SELECT i, i FROM generate_series(1, 10) i")
		for i := range 5 {
			w.exec(fmt.Sprintf("ALTER TABLE %s SET (fillfactor = %d)", table, 50+i))
		}
		for range 2 { // the slot lets go of what was dead at a checkpoint that it has read
			w.exec("CHECKPOINT")
			w.catchUp()
		}
		w.exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%[1]d LOOP
	BEGIN EXECUTE 'ALTER TABLE %[2]s SET (fillfactor = ' || 50 + i %% 50 || ')'; RAISE EXCEPTION 'back'; EXCEPTION WHEN raise_exception THEN NULL; END;
END LOOP;
EXECUTE 'ALTER TABLE %[2]s ALTER v TYPE bigint'; END $$`, 25+n, table))
		err := w.server.Exec(w.t.Context(), w.db, "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('"+w.slot()+"', NULL, NULL, 'proto_version', '1', 'publication_names', 'tidemark')")
		if err != nil {
			require.ErrorContains(w.t, err, "unexpected duplicate for tablespace")
			w.t.Logf("attempt %d: %v", n+1, err)
			return true
		}
	}
	return false
}

// TestUndecodableTransactionIsAGap: where the server fails at the same place for ever, waiting only fills its disk.
func TestUndecodableTransactionIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	if w.undecodable() {
		requireGap(t, w)
		return
	}
	t.Log("this server decodes all of it")
	after := w.insert(1, 3)
	w.catchUp()
	w.holdsOnce(1, after)
}
