package pitr

import (
	"context"
	"errors"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/fold"
)

// dataPhases loads the snapshot's rows and replays what came after.
func (r *run) dataPhases(ctx context.Context) error {
	r.entries = r.replayed()
	if r.planFold(); r.fold != nil {
		if err := r.phase(ctx, PhaseFold, "bytes", r.replayBytes(), r.scan); err != nil {
			return err
		}
	}
	if !r.o.SchemaOnly {
		if err := r.phase(ctx, PhaseSnapshot, "bytes", storedBytes(r.chosen.tables), r.load); err != nil {
			return err
		}
	}
	if len(r.entries) == 0 {
		return nil
	}
	if r.schemaFirst() {
		if err := r.fullSchema(ctx); err != nil {
			return err
		}
	}
	if !r.o.SchemaOnly {
		if err := r.phase(ctx, PhaseKeys, "steps", 0, r.prepareReplay); err != nil {
			return err
		}
	}
	if err := r.phase(ctx, PhaseReplay, "bytes", r.replayBytes(), r.replay); err != nil {
		return err
	}
	return r.furtherPasses(ctx)
}

// piece is a chunk to load.
type piece struct {
	table  *basesnapshot.Table
	chunk  basesnapshot.Chunk
	filter *fold.Snapshot // nil: all rows
	body   io.ReadCloser  // its rows, once it was opened
}

// load fills the chosen tables from the base snapshot.
func (r *run) load(ctx context.Context) error {
	if !r.o.DataOnly {
		if err := r.prepareNames(ctx); err != nil {
			return err
		}
	}
	if err := r.clearExtensionTables(ctx, r.chosen.tables); err != nil {
		return err
	}
	if err := r.loadTables(ctx, r.chosen.tables); err != nil {
		return err
	}
	if err := r.checkLoaded(); err != nil {
		return err
	}
	return r.countLoaded(ctx)
}

// loadTables copies all chunks of some tables over several connections, large tables first.
func (r *run) loadTables(ctx context.Context, tables []*basesnapshot.Table) error {
	tables = slices.Clone(tables)
	sort.SliceStable(tables, func(i, j int) bool { return tables[i].RawBytes > tables[j].RawBytes })
	filters := make([]*fold.Snapshot, len(tables))
	for i, t := range tables {
		var err error
		if filters[i], err = r.foldedFilter(t); err != nil {
			return err
		}
	}
	group, under := errgroup.WithContext(ctx)
	opened := r.openPieces(under, group, tables, filters)
	for range r.o.Jobs {
		group.Go(func() error {
			conn, err := r.dataSession(under)
			if err != nil {
				return err
			}
			defer closeNow(conn)
			for p := range opened {
				if err := r.copyPiece(under, conn, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, f := range filters {
		if f == nil {
			continue
		}
		if err := f.Check(); err != nil {
			return contradiction(err)
		}
	}
	return nil
}

// openPieces gives the chunks of some tables, opened. The next ones are fetched while those before them are loaded: one
// for each connection, so that none waits for the store.
func (r *run) openPieces(ctx context.Context, group *errgroup.Group, tables []*basesnapshot.Table, filters []*fold.Snapshot) <-chan piece {
	pieces, opened := make(chan piece), make(chan piece)
	group.Go(func() error {
		defer close(pieces)
		for i, t := range tables {
			for _, c := range t.Chunks {
				select {
				case pieces <- piece{table: t, chunk: c, filter: filters[i]}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	var openers sync.WaitGroup
	openers.Add(r.o.Jobs)
	for range r.o.Jobs {
		group.Go(func() error {
			defer openers.Done()
			for p := range pieces {
				var err error
				if p.body, err = basesnapshot.OpenChunk(ctx, r.o.Archive.store, p.chunk); err != nil {
					return err
				}
				select {
				case opened <- p:
				case <-ctx.Done():
					return errors.Join(ctx.Err(), p.body.Close())
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		openers.Wait()
		close(opened)
		return nil
	})
	return opened
}

// clearExtensionTables empties tables that an extension's script made and may have filled: their rows
// come from the snapshot.
func (r *run) clearExtensionTables(ctx context.Context, tables []*basesnapshot.Table) error {
	var names []string
	for _, t := range tables {
		if t.Extension != "" {
			names = append(names, r.quoted(t.Namespace, t.Name))
		}
	}
	if len(names) == 0 || r.o.DataOnly {
		return nil
	}
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	return exec(ctx, conn, "TRUNCATE "+strings.Join(names, ", "))
}

// copyPiece loads an opened chunk and closes it.
func (r *run) copyPiece(ctx context.Context, conn *pgconn.PgConn, p piece) error {
	rows := &errReader{r: p.body}
	left := func() int64 { return 0 }
	if p.filter != nil {
		kept := p.filter.Rows(p.body)
		defer kept.Close() // a temporary file that is deleted already
		rows.r, left = kept, kept.Dropped
	}
	tag, err := conn.CopyFrom(ctx, rows, r.copySQL(p.table))
	closeErr := p.body.Close()
	switch {
	case rows.err != nil:
		return contradiction(rows.err) // damage found under way: the COPY was undone
	case err != nil:
		err = sqlError(err)
		return fault.Wrap(err, fault.CodeOf(err), "", "load %s from %s", p.table, p.chunk.Objects[0].Key)
	case closeErr != nil:
		return closeErr
	case tag.RowsAffected()+left() != p.chunk.Rows:
		return fault.New(fault.Failed, verifyHint, "%s took %d rows from %s, which holds %d", p.table, tag.RowsAffected()+left(), p.chunk.Objects[0].Key, p.chunk.Rows)
	}
	if r.fold.Pass() == 0 {
		r.mu.Lock()
		r.tableRows(p.table.String()).Copied += p.chunk.Rows
		r.mu.Unlock()
	}
	r.advance(p.chunk.StoredBytes())
	return nil
}

func (r *run) copySQL(t *basesnapshot.Table) string {
	var names []string
	for _, c := range t.CopyColumns() {
		names = append(names, quoteIdent(c))
	}
	list := ""
	if len(names) > 0 {
		list = " (" + strings.Join(names, ", ") + ")"
	}
	return "COPY " + r.quoted(t.Namespace, t.Name) + list + " FROM STDIN"
}

// errReader remembers why reading ended.
type errReader struct {
	r   io.Reader
	err error // but io.EOF
}

func (e *errReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

// tableRows returns a table's counts; r.mu is held, or nobody else runs.
func (r *run) tableRows(table string) *TableRows {
	t := r.rows[table]
	if t == nil {
		t = &TableRows{}
		r.rows[table] = t
	}
	return t
}

// checkLoaded compares what was copied with the manifest.
func (r *run) checkLoaded() error {
	for _, t := range r.chosen.tables {
		copied := r.tableRows(t.String()).Copied
		if copied != t.Rows {
			return fault.New(fault.Damage, verifyHint, "the chunks of %s hold %d rows, its manifest says %d", t, copied, t.Rows)
		}
	}
	return nil
}
