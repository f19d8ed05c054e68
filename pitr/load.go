package pitr

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/fold"
	"tidemark/pitr/pgbinary"
	"tidemark/pitr/session"
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

// load fills the chosen tables from the base snapshot.
func (r *run) load(ctx context.Context) error {
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
	kinds, err := r.binaryKinds(ctx, tables)
	if err != nil {
		return err
	}
	group, under := errgroup.WithContext(ctx)
	opened := r.openChunks(under, group, tables, kinds, filters)
	var loads chunkLoads
	for range r.o.Jobs {
		group.Go(func() error {
			conn, err := r.dataSession(under)
			if err != nil {
				return err
			}
			defer session.Close(conn)
			for l := range opened {
				loads.begin(l)
				if err := r.copyChunk(under, conn, l); err != nil {
					return err
				}
			}
			for l := loads.unfinished(); l != nil; l = loads.unfinished() {
				if err := r.copyChunk(under, conn, l); err != nil {
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

// openChunks gives the chunks of some tables, opened. The next ones are fetched while those before them are loaded: one
// for each connection, so that none waits for the store.
func (r *run) openChunks(ctx context.Context, group *errgroup.Group, tables []*basesnapshot.Table, kinds [][]pgbinary.Kind, filters []*fold.Snapshot) <-chan *chunkLoad {
	type unopened struct {
		table  *basesnapshot.Table
		chunk  basesnapshot.Chunk
		kinds  []pgbinary.Kind
		filter *fold.Snapshot // nil: all rows
	}
	chunks, opened := make(chan unopened), make(chan *chunkLoad)
	group.Go(func() error {
		defer close(chunks)
		for i, t := range tables {
			for _, c := range t.Chunks {
				select {
				case chunks <- unopened{t, c, kinds[i], filters[i]}:
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
			for c := range chunks {
				body, err := basesnapshot.OpenChunk(ctx, r.o.Archive.store, c.chunk)
				if err != nil {
					return err
				}
				select {
				case opened <- newChunkLoad(c.table, c.chunk, c.kinds, c.filter, body):
				case <-ctx.Done():
					return errors.Join(ctx.Err(), body.Close())
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
	defer session.Close(conn)
	return session.Exec(ctx, conn, "TRUNCATE "+strings.Join(names, ", "))
}

func (r *run) copySQL(t *basesnapshot.Table) string {
	var names []string
	for _, c := range t.CopyColumns() {
		names = append(names, sqltext.QuoteIdent(c))
	}
	list := ""
	if len(names) > 0 {
		list = " (" + strings.Join(names, ", ") + ")"
	}
	return "COPY " + r.quoted(t.Namespace, t.Name) + list + " FROM STDIN"
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
