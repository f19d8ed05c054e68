package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
)

func shownTable(columns ...segment.Column) *segment.Relation {
	return &segment.Relation{ID: 1, Namespace: "public", Name: "t", Columns: columns}
}

func TestSnapshotNeeds(t *testing.T) {
	id := segment.Column{Name: "id", TypeOID: 23, Modifier: -1}
	name := func(modifier int32) segment.Column {
		return segment.Column{Name: "name", TypeOID: 1043, Modifier: modifier}
	}
	manifest := &basesnapshot.Manifest{Tables: []basesnapshot.Table{{Namespace: "public", Name: "t", Columns: []basesnapshot.Column{
		{Name: "id", TypeOID: 23, Type: "integer"}, {Name: "twice", TypeOID: 23, Type: "integer", Generated: "s"},
		{Name: "name", TypeOID: 1043, Type: "character varying(10)"}}}}}
	for what, c := range map[string]struct {
		columns []segment.Column
		commit  segment.LSN
		needed  bool
	}{
		"the same":                      {[]segment.Column{id, name(14)}, 300, false},
		"a column less":                 {[]segment.Column{id}, 300, true},
		"a longer column":               {[]segment.Column{id, name(24)}, 300, true},
		"any length":                    {[]segment.Column{id, name(-1)}, 300, true},
		"changed at the snapshot's LSN": {[]segment.Column{id}, 200, true},
		"as it was before the snapshot": {[]segment.Column{id}, 199, false},
	} {
		t.Run(what, func(t *testing.T) {
			before, after := newSnapshotNeeds(), newSnapshotNeeds()
			before.relation(shownTable(c.columns...), c.commit) // while the snapshot is being taken
			before.taken(200, manifest)
			after.taken(200, manifest)
			after.relation(shownTable(c.columns...), c.commit)
			for _, n := range []*snapshotNeeds{before, after} {
				require.Equal(t, c.needed, n.pending() != "")
				require.Equal(t, c.needed, len(n.wake) == 1)
			}
		})
	}
	t.Run("a new history with lower LSNs", func(t *testing.T) {
		n := newSnapshotNeeds()
		n.taken(900, manifest)
		n.relation(shownTable(id), 950)
		n.restart()
		n.taken(200, manifest)
		require.Empty(t, n.pending())
		n.relation(shownTable(id), 300)
		require.NotEmpty(t, n.pending())
	})
}

// TestModifiersAreThoseOfFormatType compares with the server's own words.
func TestModifiersAreThoseOfFormatType(t *testing.T) {
	w := newWorld(t, nil)
	for _, declared := range []string{"varchar(10)", "varchar", "char(3)", "char(3)[]", "numeric(10,2)", "numeric(3,-2)", "numeric(5,7)[]", "numeric",
		"bit(4)", "varbit(9)", "time(2)", "timetz(0)", "timestamp(3)", "timestamptz(6)[]", "int", "interval(2)", "text"} {
		var oid uint32
		var modifier int32
		var printed string
		w.exec("DROP TABLE IF EXISTS m; CREATE TABLE m (c " + declared + ")")
		_, err := fmt.Sscan(w.query(`SELECT format('%s %s %s', atttypid::oid, atttypmod, replace(format_type(atttypid, atttypmod), ' ', '_'))
			FROM pg_attribute WHERE attrelid = 'm'::regclass AND attnum = 1`), &oid, &modifier, &printed)
		require.NoError(t, err)
		require.Equal(t, printedModifier(oid, printed), modifierText(oid, modifier), printed)
	}
}

// snapshotAfter waits for a base snapshot beyond lsn.
func (r *running) snapshotAfter(lsn segment.LSN) catalog.SnapshotPoint {
	r.w.t.Helper()
	var s catalog.SnapshotPoint
	r.w.eventually("a snapshot after "+lsn.String(), func() bool {
		r.lives()
		var ok bool
		s, ok = newestSnapshot(r.w.view())
		return ok && s.LSN > lsn
	})
	return s
}

// TestDDLDuringTheFirstSnapshotAsksForAnother: the stream shows a relation once, maybe while the base snapshot
// is still on its way.
func TestDDLDuringTheFirstSnapshotAsksForAnother(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.NoSchemaCapture = true
	held, release := w.holdSnapshots()
	r := w.start()
	<-held
	w.exec("CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)")
	ddl := w.flush()
	w.archivedPast(ddl)
	release()
	s := r.snapshotAfter(ddl)
	m, err := basesnapshot.ReadManifest(context.Background(), w.store, s.Snapshot)
	require.NoError(t, err)
	require.Len(t, m.Tables, 2)
	require.NoError(t, r.end())
}

// TestUnseenChangeDuringASnapshotAsksForAnother: the archiver may notice a change while a base snapshot that lacks it is on its way.
func TestUnseenChangeDuringASnapshotAsksForAnother(t *testing.T) {
	w := newWorld(t, nil)
	held, release := w.holdSnapshots()
	r := w.start()
	<-held
	before := w.flush()
	w.exec("CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION f()")
	w.eventually("the change is noticed", func() bool {
		r.lives()
		return strings.Contains(r.log.String(), "another base snapshot is needed")
	})
	release()
	r.snapshotAfter(before)
	require.NoError(t, r.end())
}

func TestDDLWhileStreamingAsksForASnapshot(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.NoSchemaCapture = true
	w.catchUp()
	r := w.start()
	before := w.flush()
	w.exec("ALTER TABLE t ALTER v TYPE varchar(10); INSERT INTO t VALUES (1, 'x')")
	r.snapshotAfter(before)
	require.NoError(t, r.end())
}

// TestLaterSnapshotThatFailsLeavesTheStreamAlone: whatever keeps a snapshot from being taken must not make
// the slot hold back WAL too.
func TestLaterSnapshotThatFailsLeavesTheStreamAlone(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.NoSchemaCapture = true
	w.catchUp()
	r := w.start(func(c *Config) { c.PgDump = "/nonexistent/pg_dump" })
	w.exec("ALTER TABLE t ADD c int; INSERT INTO t VALUES (1, 'x')")
	w.eventually("the snapshot fails", func() bool {
		r.lives()
		return strings.Contains(r.log.String(), "base snapshot failed")
	})
	xids := w.insert(10, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, xids)
	require.NoError(t, r.end())
}

func TestFirstSnapshotThatFailsEndsTheRun(t *testing.T) {
	w := newWorld(t, nil)
	err := w.start(func(c *Config) { c.PgDump = "/nonexistent/pg_dump" }).wait()
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
}

func TestDroppedTableDoesNotKeepAnArchiveFromGoingOn(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE TABLE other (id int PRIMARY KEY)")
	w.cfg.Tables = []string{"public.t", "public.other"}
	w.catchUp()
	w.exec("DROP TABLE other")
	xids := w.insert(1, 2)
	w.catchUp()
	w.holdsOnce(1, xids)
}

// TestNewHistoryIsNotCaughtUpWithoutASnapshot: --until ends when what is archived can be restored.
func TestNewHistoryIsNotCaughtUpWithoutASnapshot(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.insert(1, 2)
	w.query("SELECT pg_replication_slot_advance('" + w.slot() + "', pg_current_wal_flush_lsn())::text")
	_, release := w.holdSnapshots()
	r := w.start(acceptGap, func(c *Config) { c.Until = "current" })
	w.eventually("the gap", func() bool { r.lives(); return len(w.view().Gaps()) == 1 })
	w.eventually("status tells that there is no base snapshot behind the gap yet", func() bool {
		r.lives()
		s, err := ReadStatus(context.Background(), w.cfg.DSN, w.store, time.Now())
		require.NoError(t, err)
		require.NotEqual(t, StateProtected, s.State)
		return s.State == StateSnapshot
	})
	release()
	require.NoError(t, r.wait())
	_, ok := newestSnapshot(w.view())
	require.True(t, ok)
}
