package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

func uncaptured(c *Config) { c.NoSchemaCapture = true }

// schemaChanges counts the schema changes in a history's segments.
func (w *world) schemaChanges() (n int64) {
	w.t.Helper()
	for _, e := range w.entries(1) {
		if e.Segment != nil {
			n += e.Segment.DDL
		}
	}
	return n
}

func TestCapturedChangesNeedNoSnapshot(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec("ALTER TABLE t ADD c int; CREATE TABLE fresh (id int); INSERT INTO t VALUES (1, 'x', 2); INSERT INTO fresh VALUES (1)")
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
	require.EqualValues(t, 3, w.schemaChanges(), "with the replica identity of the table without a key")
	w.exec("ALTER TABLE t DROP c; INSERT INTO t VALUES (2, 'y')") // while nobody looks
	w.catchUp()
	require.EqualValues(t, 4, w.schemaChanges())
	require.Len(t, w.view().Snapshots(), 1)
	require.Empty(t, w.view().Inexact())
	require.Equal(t, "f", w.query("SELECT relreplident FROM pg_class WHERE relname = 'fresh'"), "a table without a key can be updated all the same")

	s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
	require.NoError(t, err)
	require.Equal(t, "on", s.SchemaCapture)
	plan, err := Detach(context.Background(), w.cfg, true)
	require.NoError(t, err)
	require.NotEmpty(t, plan.Capture)
	require.Equal(t, "0", w.query("SELECT count(*) FROM pg_event_trigger"))
	require.Equal(t, "0", w.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'tidemark'"))
}

// TestInexactChangeStandsInItsSegment, and a base snapshot behind it makes the archive whole again.
func TestInexactChangeStandsInItsSegment(t *testing.T) {
	w := newWorld(t, nil)
	w.insert(1, 3)
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec("ALTER TABLE t ADD c float DEFAULT random()")
	at := w.flush()
	w.archivedPast(at)
	w.eventually("the inexact change", func() bool { return len(w.view().Inexact()) == 1 })
	p := w.view().Inexact()[0]
	require.Equal(t, []string{"public.t"}, p.Tables)
	require.Equal(t, p.From+1, p.To)
	e, _, err := w.view().Entry(context.Background(), p.Seq)
	require.NoError(t, err)
	require.Equal(t, catalog.KindSegment, e.Kind)
	r.snapshotAfter(p.From)
	require.NoError(t, r.end())
	require.Len(t, w.view().Snapshots(), 2)
}

// TestUncapturedChangesAreInexact: without event triggers the catalogs are compared, while streaming and at a START.
func TestUncapturedChangesAreInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp(uncaptured)
	r := w.start(uncaptured)
	r.protected()
	w.exec("TRUNCATE t; ANALYZE t; CREATE TEMP TABLE x (id int)")
	w.exec("CREATE INDEX ON t (v)")
	p := r.inexactAt(w.flush() - 1)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
	require.Len(t, w.view().Inexact(), 1)

	w.exec("ALTER TABLE t ADD c int")
	changed := w.flush() - 1
	w.exec("INSERT INTO t VALUES (5, 'x', 6)")
	r = w.start(uncaptured)
	p = r.inexactAt(changed)
	w.recordedBefore(p, changed)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())

	w.exec("ALTER TABLE t DROP c")
	changed = w.flush() - 1
	r = w.start() // which installs the capture, too late for that one
	p = r.inexactAt(changed)
	r.snapshotAfter(p.To - 1)
	w.exec("ALTER TABLE t ADD d int")
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
	require.Len(t, w.view().Inexact(), 3)

	s, err := ReadArchiveStatus(context.Background(), w.store, time.Now())
	require.NoError(t, err)
	require.Equal(t, "unknown", s.SchemaCapture)
	require.Equal(t, 3, s.Inexact)
}

// TestCaptureThatWasInterruptedIsInexact, whether it is off for good or was off for a moment.
func TestCaptureThatWasInterruptedIsInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	toggle := "ALTER EVENT TRIGGER \"" + ddl.EventTriggers[len(ddl.EventTriggers)-1] + "\" "
	w.exec(toggle + "DISABLE; ALTER TABLE t ADD c int")
	missed := w.flush() - 1
	w.exec(toggle + "ENABLE ALWAYS")
	r := w.start()
	p := r.inexactAt(missed)
	r.snapshotAfter(p.To - 1)
	w.exec(toggle + "DISABLE")
	off := w.flush() - 1
	p = r.inexactAt(off)
	require.Contains(t, p.Reason, "switched off")
	w.exec("ALTER TABLE t DROP c")
	missed = w.flush() - 1
	p = r.inexactAt(missed)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
}

// TestChangeUnderWayWhenTheCaptureCameIsInexact: it was made before, and is committed after.
func TestChangeUnderWayWhenTheCaptureCameIsInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE TABLE other (id int PRIMARY KEY)")
	w.catchUp(uncaptured)
	tx := w.server.Connect(t, w.db)
	exec := func(sql string) {
		_, err := tx.PgConn().Exec(context.Background(), sql).ReadAll()
		require.NoError(t, err)
	}
	exec("BEGIN; ALTER TABLE other ADD CONSTRAINT positive CHECK (id > 0)")
	r := w.start()
	r.protected()
	w.eventually("the capture", func() bool {
		return w.query("SELECT count(*) > 0 FROM pg_event_trigger WHERE evtname = '00_tidemark_end'") == "t"
	})
	last := w.flush()
	w.insert(1, 3)
	w.archivedPast(w.flush())
	exec("COMMIT")
	p := r.inexactAt(w.flush() - 1)
	require.LessOrEqual(t, p.From, last)
	r.snapshotAfter(p.To - 1)
	w.eventually("the capture counts", func() bool {
		r.lives()
		s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
		return err == nil && s.SchemaCapture == "on"
	})
	w.exec("ALTER TABLE t ADD c int")
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
	require.Len(t, w.view().Inexact(), 1)
}

// TestEventTriggersSwitchedOff: a server can be told to let none fire.
func TestEventTriggersSwitchedOff(t *testing.T) {
	w := newWorld(t, postgres.Start(t, postgres.Options{Version: "18"}))
	w.cfg.PgDump = w.server.Path("pg_dump")
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec("ALTER SYSTEM SET event_triggers = off")
	w.exec("SELECT pg_reload_conf()")
	w.eventually("an inexact range", func() bool { return len(w.view().Inexact()) > 0 })
	p := w.view().Inexact()[0]
	require.Contains(t, p.Reason, "switched off")
	s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
	require.NoError(t, err)
	require.NotEqual(t, "on", s.SchemaCapture)
	w.exec("CREATE TABLE unseen (id int PRIMARY KEY); INSERT INTO unseen VALUES (1)")
	p = r.inexactAt(w.flush() - 1)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
}

// TestChangeBehindTheCapturesBackIsInexact: a superuser can switch event triggers off for a session.
func TestChangeBehindTheCapturesBackIsInexact(t *testing.T) {
	w := newWorld(t, postgres.Start(t, postgres.Options{Version: "18"}))
	w.cfg.PgDump = w.server.Path("pg_dump")
	w.catchUp()
	r := w.start()
	r.protected()
	w.insert(1, 1)
	w.exec("SET event_triggers = off; ALTER TABLE t ADD c int; INSERT INTO t VALUES (2, 'x', 3)")
	w.eventually("the inexact change", func() bool { r.lives(); return len(w.view().Inexact()) == 1 })
	p := w.view().Inexact()[0]
	require.Equal(t, []string{"public.t"}, p.Tables)
	r.snapshotAfter(p.From)
	require.NoError(t, r.end())
}

// TestTableMadeUnseenIsInexact: EXPLAIN fires no event trigger, whatever it executes.
func TestTableMadeUnseenIsInexact(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped=%v", stopped), func(t *testing.T) {
			w := newWorld(t, nil)
			w.catchUp()
			var r *running
			if !stopped {
				r = w.start()
				r.protected()
				// What the session starts from is read after the slot is taken.
				w.insert(1, 1)
				w.archivedPast(w.flush())
			}
			w.exec("CREATE TABLE seen AS SELECT 1 AS id; EXPLAIN ANALYZE CREATE TABLE unseen AS SELECT 1 AS id; INSERT INTO unseen VALUES (2)")
			if stopped {
				r = w.start()
			}
			w.archivedPast(w.flush())
			w.eventually("the inexact table", func() bool { r.lives(); return len(w.view().Inexact()) == 1 })
			require.Equal(t, []string{"public.unseen"}, w.view().Inexact()[0].Tables)
			r.snapshotAfter(w.view().Inexact()[0].From)
			require.NoError(t, r.end())
		})
	}
}

func TestWhatNoEventTriggerSeesAsksForASnapshot(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	r := w.start()
	r.protected()
	var last segment.LSN
	for _, sql := range []string{
		"CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION f()",
		"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 1000', current_database()); END $$",
	} {
		last = w.flush()
		w.exec(sql)
		r.snapshotAfter(last)
	}
	require.Empty(t, w.view().Inexact())
	require.NoError(t, r.end())
}

func TestCheckSaysWhyTheCaptureIsOff(t *testing.T) {
	w := newWorld(t, nil)
	role := "plain_" + w.db[:20]
	w.exec("CREATE ROLE " + role + " LOGIN REPLICATION PASSWORD 'x'")
	w.t.Cleanup(func() {
		_ = w.server.Exec(context.Background(), w.db, "DROP OWNED BY "+role)
		_ = w.server.Exec(context.Background(), w.db, "DROP ROLE "+role)
	})
	find := func() *Finding {
		findings, err := Check(context.Background(), Config{DSN: w.server.DSNFor(role, "x", w.db)})
		require.NoError(t, err)
		for _, f := range findings {
			if f.ID == "schema_capture" {
				return &f
			}
		}
		return nil
	}
	f := find()
	require.NotNil(t, f)
	require.False(t, f.Fatal)
	require.True(t, strings.HasPrefix(f.Fix, "ALTER ROLE"), f.Fix)
	require.NoError(t, ddl.Install(context.Background(), w.server.Connect(t, w.db), ddl.Options{}))
	f = find()
	require.NotNil(t, f)
	require.Contains(t, f.Problem, "may not read the key")
	require.Contains(t, f.Fix, "GRANT SELECT ON tidemark.ddl_key TO")
	w.exec(f.Fix)
	require.Nil(t, find())
}
