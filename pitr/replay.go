package pitr

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/segment"
)

// fetched is a part that is being read, or was.
type fetched struct {
	entry  int // index into plan.entries
	object catalog.Object
	data   chan []byte // gets the bytes, or nothing after err
	err    error       // set before data is closed
}

// Parts read ahead of the one being decoded, of at most about 8 MiB each.
const readAhead = 4

// fetchParts reads the parts of the plan's segments ahead, several at a time, and gives them in order.
// Each was compared with the catalog's SHA-256 before it is given. The channel is closed at the end, or
// early when ctx ends; wait returns once nothing is being read any more.
func (r *run) fetchParts(ctx context.Context) (parts <-chan *fetched, wait func()) {
	var under sync.WaitGroup
	// One part is with the reader, one is taken out of the queue and waits to be sent.
	out := make(chan *fetched, readAhead-1)
	under.Go(func() {
		defer close(out)
		for i, e := range r.entries {
			for _, o := range e.Segment.Objects {
				f := &fetched{entry: i, object: o, data: make(chan []byte, 1)}
				under.Go(func() {
					defer close(f.data)
					data, err := r.o.Archive.getVerified(ctx, f.object)
					if err != nil {
						f.err = err
						return
					}
					f.data <- data
				})
				select {
				case out <- f:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return out, under.Wait
}

// segmentParts gives the parts of one entry to a segment.Reader.
type segmentParts struct {
	run   *run
	parts <-chan *fetched
	entry int
	left  int
	held  []segment.PartFile // read already, to be given first
}

// maxHeld bounds the parts of a segment that are held to be read twice.
const maxHeld = 48 << 20

// hold reads all parts and holds them, if they are small enough together.
func (s *segmentParts) hold() (bool, error) {
	var size int64
	for _, o := range s.run.entries[s.entry].Segment.Objects {
		size += o.Size
	}
	if size > maxHeld {
		return false, nil
	}
	var held []segment.PartFile
	for s.left > 0 {
		p, err := s.next()
		if err != nil {
			return false, err
		}
		held = append(held, p)
	}
	s.held = held
	return true, nil
}

// peek gives the held parts without taking them.
func (s *segmentParts) peek() func() (segment.PartFile, error) {
	held := s.held
	return func() (segment.PartFile, error) {
		if len(held) == 0 {
			return segment.PartFile{}, io.EOF
		}
		p := held[0]
		held = held[1:]
		return p, nil
	}
}

func (s *segmentParts) next() (segment.PartFile, error) {
	if len(s.held) > 0 {
		p := s.held[0]
		s.held = s.held[1:]
		return p, nil
	}
	if s.left == 0 {
		return segment.PartFile{}, io.EOF
	}
	s.left--
	f, ok := <-s.parts
	if !ok {
		return segment.PartFile{}, context.Canceled
	}
	data, ok := <-f.data
	if !ok {
		return segment.PartFile{}, f.err
	}
	if f.entry != s.entry {
		return segment.PartFile{}, errors.New("parts are out of step")
	}
	s.run.advance(f.object.Size)
	return segment.PartFile{R: bytes.NewReader(data), Size: int64(len(data)), Name: f.object.Key}, nil
}

// replay applies the commits from the snapshot to the cut.
func (r *run) replay(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := apply.New(ctx, apply.Options{
		Connect:     r.replaySession,
		Workers:     r.o.Jobs,
		Want:        r.wantsRows,
		Schema:      r.schemaOptions(),
		Inexact:     r.withheld,
		SchemaOf:    r.snapshotSchemas(),
		Sources:     r.snapshotTables(),
		TableSchema: r.names.table, TypeSchema: r.names.object,
		InsertOnly: r.insertOnly,
	})
	if err != nil {
		return err
	}
	if err := r.replayRange(ctx, a); err != nil {
		a.Abort()
		return err
	}
	counts, err := a.Finish(ctx)
	if err != nil {
		return err
	}
	if err := r.fold.Replayed(); err != nil {
		return fault.Wrap(err, fault.Damage, verifyHint, "the archive was changed while it was restored")
	}
	if r.fold.Pass() > 0 {
		return nil
	}
	r.report.Transactions = a.Transactions()
	r.report.Tables = a.Known()
	r.countReplayed(a.Live())
	r.foldedCounts(counts)
	r.doubted = r.doubted || a.Doubted()
	return r.checkReplayed(counts)
}

// replayRange gives the range to an Applier, but for what folding leaves out.
func (r *run) replayRange(ctx context.Context, a *apply.Applier) error {
	further := r.fold.Pass() > 0
	want := func(rel *segment.Relation) bool { return r.wantsRows(rel) && (!further || r.fold.Table(rel.ID) != nil) }
	announce := func(ctx context.Context, e catalog.Entry, source *segmentParts) error {
		return r.announce(ctx, a, e, source)
	}
	pass := func(rel *segment.Relation, rows int64) bool {
		t := r.fold.Table(rel.ID)
		return t != nil && r.fold.PassOver(t, rows)
	}
	return r.readRange(ctx, want, pass, announce, func(rec *segment.Record) error {
		switch {
		case rec.Op == segment.OpTruncate:
			if rec = r.withoutFolded(rec); rec == nil {
				return nil
			}
		case rec.Relation != nil && rec.Op != segment.OpRelation:
			if t := r.fold.Table(rec.Relation.ID); t != nil {
				return r.replayFolded(ctx, a, t, rec)
			}
		}
		return a.Apply(ctx, rec)
	})
}

// readRange reads the commits from the snapshot to the cut. Before each segment it calls announce; it passes rows over
// as a segment.Reader does. Both may be nil.
func (r *run) readRange(ctx context.Context, want func(*segment.Relation) bool, pass func(*segment.Relation, int64) bool,
	announce func(context.Context, catalog.Entry, *segmentParts) error, each func(*segment.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	parts, wait := r.fetchParts(ctx)
	defer func() {
		cancel()
		wait()
	}()
	for i := range r.entries {
		source := &segmentParts{run: r, parts: parts, entry: i, left: len(r.entries[i].Segment.Objects)}
		if announce != nil {
			if err := announce(ctx, r.entries[i], source); err != nil {
				return err
			}
		}
		if err := r.readSegment(source, want, pass, each); err != nil {
			return err
		}
	}
	return nil
}

// snapshotSchemas gives the schemas of the base snapshot's tables, by their OIDs at the source. A restore into
// another schema knows tables by the stream's names alone.
func (r *run) snapshotSchemas() func(uint32) string {
	if r.names != nil {
		return nil
	}
	schemas := make(map[uint32]string, len(r.manifest.Tables))
	for i := range r.manifest.Tables {
		schemas[r.manifest.Tables[i].OID] = r.manifest.Tables[i].Namespace
	}
	return func(source uint32) string { return schemas[source] }
}

// snapshotTables gives the tables of the base snapshot as the target has them, by their OIDs at the source.
func (r *run) snapshotTables() map[uint32]apply.Name {
	tables := make(map[uint32]apply.Name, len(r.chosen.tables))
	for _, t := range r.chosen.tables {
		namespace := t.Namespace
		if r.names != nil {
			namespace = r.names.table(t.Namespace, t.Name)
		}
		tables[t.OID] = apply.Name{Namespace: namespace, Name: t.Name}
	}
	return tables
}

// recognise fills in the report's tables where nothing was replayed.
func (r *run) recognise(ctx context.Context) error {
	if r.report.Tables != nil {
		return nil
	}
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	r.report.Tables, err = apply.Recognise(ctx, conn, r.snapshotTables())
	return err
}

// wantsRows reports whether rows of a relation are replayed.
func (r *run) wantsRows(rel *segment.Relation) bool {
	return !r.o.SchemaOnly && r.chosen.wantsRelation(rel)
}

// readSegment reads one segment to its end, where all that it holds is proven, except when the cut lies in it.
func (r *run) readSegment(source *segmentParts, want func(*segment.Relation) bool, pass func(*segment.Relation, int64) bool, each func(*segment.Record) error) error {
	e := r.entries[source.entry]
	if e.From < r.plan.Snapshot.LSN || e.To > r.plan.Cut {
		pass = nil // some of its rows don't count
	}
	reader := segment.NewReader(source.next, segment.ReaderOptions{
		Want:       want,
		Pass:       pass,
		LargeValue: largeValue,
		Expect:     r.o.Archive.identity(e),
	})
	defer reader.Close()
	skip := false
	for {
		rec, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return objectError(err, e.Segment.Objects[0].Key)
		}
		if rec.Op == segment.OpBegin {
			if rec.Begin.CommitLSN >= r.plan.Cut {
				return r.drain(source)
			}
			skip = rec.Begin.CommitLSN < r.plan.Snapshot.LSN
		}
		if skip && rec.Op != segment.OpRelation && rec.Op != segment.OpType {
			continue
		}
		if err := each(rec); err != nil {
			return err
		}
	}
}

// largeValue is the size in bytes above which a value is streamed instead of held.
const largeValue = 1 << 20

// drain takes the rest of a segment's parts, so that the next segment's come first in the queue.
func (r *run) drain(s *segmentParts) error {
	for {
		_, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// insertOnly reports whether a table sees nothing but inserts up to the cut: the catalog knows, or folding leaves
// nothing else of it.
func (r *run) insertOnly(rel *segment.Relation) bool {
	if t := r.fold.Table(rel.ID); t != nil {
		return !t.InOrder()
	}
	table := rel.String()
	if r.plan.TablesCut || r.plan.SchemaChanges > 0 {
		return false
	}
	for _, t := range r.plan.Tables {
		if t.Table == table {
			return t.Updates+t.Deletes+t.Truncates == 0
		}
	}
	return false
}

// checkReplayed compares what was applied with what the catalog and the segments' indexes say.
func (r *run) checkReplayed(counts map[string]apply.Counts) error {
	if r.o.SchemaOnly {
		return nil
	}
	if r.report.Transactions != r.plan.Transactions {
		return fault.New(fault.Damage, verifyHint, "%d transactions were replayed, and the catalog says %d", r.report.Transactions, r.plan.Transactions)
	}
	for name, c := range counts {
		t := r.tableRows(name)
		t.Inserted, t.Updated, t.Deleted, t.Truncated = c.Inserted, c.Updated, c.Deleted, c.Truncated
	}
	// Names that change under the patterns don't tell what is chosen; rows that were left out don't count.
	if r.plan.TablesCut || r.doubted || r.plan.SchemaChanges > 0 && len(r.chosen.filter) > 0 {
		return nil
	}
	for _, t := range r.plan.Tables {
		if !r.chosen.wantsQualified(t.Table) {
			continue
		}
		c := counts[t.Table]
		if c.Inserted != t.Inserts || c.Updated != t.Updates || c.Deleted != t.Deletes || c.Truncated != t.Truncates {
			return fault.New(fault.Damage, verifyHint, "%s saw %d inserts, %d updates, %d deletes and %d truncates, and the catalog says %d, %d, %d and %d",
				t.Table, c.Inserted, c.Updated, c.Deleted, c.Truncated, t.Inserts, t.Updates, t.Deletes, t.Truncates)
		}
	}
	return nil
}

// replaySettings of a session that finds rows.
const replaySettings = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"

// replaySession opens a session that finds rows by an index wherever there is one. The planner knows no
// statistics of tables that have just been filled and would read small ones from end to end; but replay
// leaves a dead row with each update, so that small tables grow large within one transaction. Just-in-time
// compilation, which the price of a forbidden plan would call for, can't pay for single rows.
func (r *run) replaySession(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := r.dataSession(ctx)
	if err != nil {
		return nil, err
	}
	if err := exec(ctx, conn, replaySettings); err != nil {
		closeNow(conn)
		return nil, fault.Wrap(err, fault.Failed, "", "set up a session for replay")
	}
	return conn, nil
}
