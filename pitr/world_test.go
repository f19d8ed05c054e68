package pitr

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/segment"
	"tidemark/walstream/pgoutput"
)

var server *postgres.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = postgres.Launch(postgres.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	foldLeast = 1 // wherever it is possible
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// world is a source database with an archive of it, made by a miniature of the archiver: it peeks at
// the slot's pgoutput messages and feeds them to a segment.Writer.
type world struct {
	t     *testing.T
	db    string
	conn  *pgx.Conn
	store objectstore.Store
	log   *catalog.Log
	id    catalog.Identity
	end   segment.LSN
	taken int64 // rows of the slot archived
	tx    int   // transactions of a segment
	part  int   // bytes of a part
	known map[uint32]*segment.Relation
	types map[uint32]segment.TypeDef

	sequences []segment.Sequence     // a sample to put into segments
	unchanged *catalog.SequenceState // or word that there is none

	feeder  *feeder
	decoder *pgoutput.Decoder
}

const testPublication = "tidemark"

// newWorld makes a database with a schema and archives its base snapshot.
func newWorld(t *testing.T, name, schema string) *world {
	t.Helper()
	return newListedWorld(t, name, schema, "FOR ALL TABLES")
}

// newListedWorld is newWorld with an archive that holds only some tables: the publication's, which match the patterns.
func newListedWorld(t *testing.T, name, schema, published string, tables ...string) *world {
	t.Helper()
	ctx := t.Context()
	server.CreateDatabase(t, name)
	store, err := objectstore.Open(ctx, "mem://"+name+uuid.NewString())
	require.NoError(t, err)
	w := &world{t: t, db: name, conn: server.Connect(t, name), store: store, tx: 3, part: 64 << 10, known: map[uint32]*segment.Relation{}, types: map[uint32]segment.TypeDef{}}
	w.sql(schema)
	w.sql("CREATE PUBLICATION " + testPublication + " " + published)
	w.id = catalog.Identity{ID: uuid.NewString(), Made: time.Now().UTC().Truncate(time.Microsecond), Slot: name, Database: name}
	w.log, err = catalog.Create(ctx, store, w.id)
	require.NoError(t, err)
	var at string
	require.NoError(t, w.conn.QueryRow(ctx, "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')", name).Scan(&at))
	t.Cleanup(func() {
		_ = server.Exec(context.Background(), "postgres", "select pg_drop_replication_slot('"+name+"')")
	})
	w.end = lsn(t, at)
	w.append(catalog.Entry{Kind: catalog.KindHistory, History: 1, From: w.end, To: w.end, Begins: &catalog.History{
		Timeline: 1, ServerVersion: 150000, Database: name, Encoding: "UTF8", Slot: name, Publication: testPublication, Tables: tables, Reason: "test"}})
	w.append(catalog.Entry{Kind: catalog.KindWriter, Epoch: 1, Writer: &catalog.Writer{Instance: "test", Version: "test", Timeline: 1}})
	w.snapshot()
	return w
}

func lsn(t *testing.T, s string) segment.LSN {
	t.Helper()
	v, err := segment.ParseLSN(s)
	require.NoError(t, err)
	return v
}

func (w *world) sql(sql string) {
	w.t.Helper()
	_, err := w.conn.PgConn().Exec(w.t.Context(), sql).ReadAll()
	require.NoError(w.t, err)
}

func (w *world) append(e catalog.Entry) {
	w.t.Helper()
	_, err := w.log.Append(w.t.Context(), func(*catalog.View) (catalog.Entry, error) { return e, nil })
	require.NoError(w.t, err)
}

// snapshot takes a base snapshot and appends it.
func (w *world) snapshot() *basesnapshot.Result {
	w.t.Helper()
	res, err := basesnapshot.Take(w.t.Context(), basesnapshot.Options{DSN: server.DSN(w.db), Publication: testPublication, Store: w.store, Archive: w.id.ID, History: 1})
	require.NoError(w.t, err)
	w.append(catalog.Entry{Kind: catalog.KindSnapshot, History: 1, From: res.LSN, To: res.LSN, Snapshot: &res.Snapshot})
	return res
}

// here is the position after everything that was committed.
func (w *world) here() segment.LSN {
	w.t.Helper()
	var s string
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&s))
	return lsn(w.t, s)
}

// archive brings the archive up to now.
func (w *world) archive() {
	w.t.Helper()
	rows, err := w.conn.Query(w.t.Context(), `select data from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', $2, 'messages', 'true') offset $3`,
		w.db, testPublication, w.taken)
	require.NoError(w.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(w.t, err)
	end := w.here()
	w.taken += int64(len(messages))
	if w.feeder == nil {
		w.feeder = &feeder{world: w}
		w.decoder = pgoutput.NewDecoder(w.feeder)
	}
	for _, m := range messages {
		require.NoError(w.t, w.decoder.Decode(m))
	}
	require.NoError(w.t, w.feeder.closeSegment(end))
}

// feeder cuts the stream into segments.
type feeder struct {
	world *world
	*segment.Writer
	parts []segment.Part
	sent  map[uint32]bool
	n     int
}

func (f *feeder) open() error {
	w := f.world
	var err error
	f.sent, f.n, f.parts = map[uint32]bool{}, 0, nil
	f.Writer, err = segment.NewWriter(segment.WriterOptions{
		Archive: w.id.UUID(), History: 1, Epoch: 1, Start: w.end, PartSize: w.part, BlockSize: 16 << 10,
		Buffer: func() ([]byte, error) { return make([]byte, 0, segment.BufferSize(w.part, 16<<10)), nil },
		Emit:   func(p segment.Part) error { f.parts = append(f.parts, p); return nil },
	})
	return err
}

func (f *feeder) Begin(b segment.Begin) error {
	if f.Writer == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	return f.Writer.Begin(b)
}

func (f *feeder) Commit(c segment.Commit) error {
	if err := f.Writer.Commit(c); err != nil {
		return err
	}
	if f.n++; f.n >= f.world.tx {
		return f.closeSegment(c.EndLSN)
	}
	return nil
}

func (f *feeder) Relation(r *segment.Relation) error {
	c := *r
	c.Columns = append([]segment.Column(nil), r.Columns...)
	f.world.known[r.ID] = &c
	f.sent[r.ID] = true
	return f.Writer.Relation(&c)
}

func (f *feeder) Type(t segment.TypeDef) error {
	f.world.types[t.ID] = t
	return f.Writer.Type(t)
}

func (f *feeder) know(id uint32) error {
	if f.sent[id] {
		return nil
	}
	f.sent[id] = true
	for _, c := range f.world.known[id].Columns {
		if def, ok := f.world.types[c.TypeOID]; ok {
			if err := f.Writer.Type(def); err != nil {
				return err
			}
		}
	}
	return f.Writer.Relation(f.world.known[id])
}

func (f *feeder) Row(op segment.Op, relation uint32) error {
	if err := f.know(relation); err != nil {
		return err
	}
	return f.Writer.Row(op, relation)
}

func (f *feeder) Truncate(t segment.Truncate) error {
	for _, id := range t.Relations {
		if err := f.know(id); err != nil {
			return err
		}
	}
	return f.Writer.Truncate(t)
}

func (f *feeder) closeSegment(end segment.LSN) error {
	w := f.world
	if f.Writer == nil {
		if end > w.end {
			w.append(catalog.Entry{Kind: catalog.KindWatermark, Epoch: 1, History: 1, From: w.end, To: end, Watermark: &catalog.Watermark{}})
			w.end = end
		}
		return nil
	}
	if len(w.sequences) > 0 {
		f.Writer.SetSequences(end, w.sequences)
	}
	sum, err := f.Writer.Close(end)
	if err != nil {
		return err
	}
	c := &catalog.Segment{
		Transactions: sum.Transactions, Inserts: sum.Inserts, Updates: sum.Updates, Deletes: sum.Deletes, Truncates: sum.Truncates,
		Messages: sum.Messages, DDL: sum.DDL, FirstCommitLSN: sum.FirstCommitLSN, LastCommitLSN: sum.LastCommitLSN,
		FirstCommitTime: sum.FirstCommitTime, LastCommitTime: sum.LastCommitTime, MinCommitTime: sum.MinCommitTime, MaxCommitTime: sum.MaxCommitTime,
		MinXID: sum.MinXID, MaxXID: sum.MaxXID, RawBytes: sum.RawBytes, StoredBytes: sum.StoredBytes, TablesCut: sum.TablesCut,
	}
	for _, t := range sum.Tables {
		c.Tables = append(c.Tables, catalog.TableCounts(t))
	}
	for _, m := range sum.Marks {
		c.Marks = append(c.Marks, catalog.Mark(m))
	}
	c.Sequences = w.unchanged
	if len(w.sequences) > 0 {
		c.Sequences = &catalog.SequenceState{LSN: end, Changed: true}
	}
	for _, p := range f.parts {
		o := catalog.Object{Key: fmt.Sprintf("segments/1/%s-%s.%d", w.end.Hex(), end.Hex(), p.Number), Size: int64(len(p.Data)), SHA256: hex.EncodeToString(p.SHA256[:])}
		if err := w.store.Put(w.t.Context(), o.Key, p.Data); err != nil {
			return err
		}
		c.Objects = append(c.Objects, o)
	}
	w.append(catalog.Entry{Kind: catalog.KindSegment, Epoch: 1, History: 1, From: w.end, To: end, Segment: c})
	w.end, f.Writer = end, nil
	return nil
}

func (w *world) view() *Archive { return NewArchive(w.store, w.log.View()) }

// plan plans a restore, failing the test if that fails.
func (w *world) plan(target Target) *Plan {
	w.t.Helper()
	p, err := MakePlan(w.t.Context(), w.view(), target, time.UTC)
	require.NoError(w.t, err)
	return p
}

// restore restores into a database that is made for it.
func (w *world) restore(target Target, into string, change func(*Options)) *Report {
	w.t.Helper()
	a := w.view()
	p, err := MakePlan(w.t.Context(), a, target, time.UTC)
	require.NoError(w.t, err)
	o := Options{Archive: a, Plan: p, DSN: server.DSN(into), Create: true, Jobs: 3}
	if change != nil {
		change(&o)
	}
	rep, err := Restore(w.t.Context(), o)
	require.NoError(w.t, err)
	return rep
}

// hashes gives a hash of the rows of every table of a database, by name.
func hashes(t *testing.T, database string) map[string]string {
	t.Helper()
	conn := server.Connect(t, database)
	rows, err := conn.Query(t.Context(), `select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_' and c.relpersistence = 'p' and c.relispopulated order by 1`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	out := map[string]string{}
	for _, n := range names {
		var hash string
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) || ' ' || coalesce(md5(string_agg(md5("no column"::text), '' order by md5("no column"::text))), '') from only `+n+` "no column"`).Scan(&hash))
		out[n] = hash
	}
	return out
}

// schemaOf is pg_dump's schema of a database without what can't be the same.
func schemaOf(t *testing.T, database string, more ...string) string {
	t.Helper()
	out, err := osexec.CommandContext(t.Context(), server.Path("pg_dump"), append(more, "--schema-only", "--exclude-schema=tidemark", "--dbname="+server.DSN(database))...).Output()
	require.NoError(t, err)
	var kept []string
	for line := range strings.Lines(string(out)) {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`) || strings.Contains(line, "PUBLICATION tidemark") {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

// sameRows checks that a database has the rows of the world's, and none of Tidemark's own.
func (w *world) sameRows(into string) {
	w.t.Helper()
	want := hashes(w.t, w.db)
	delete(want, "tidemark.ddl_key")
	require.Equal(w.t, want, hashes(w.t, into))
}

// sameSchema checks that a database has the schema of the world's, whose event triggers are Tidemark's. More arguments go to pg_dump.
func (w *world) sameSchema(into string, more ...string) {
	w.t.Helper()
	want, _, _ := strings.Cut(schemaOf(w.t, w.db, more...), "CREATE EVENT TRIGGER")
	require.Equal(w.t, want, schemaOf(w.t, into, more...))
}
