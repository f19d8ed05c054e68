package pitr

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// replay applies the commits from the snapshot to the cut, in several lanes where their order doesn't matter.
func (r *run) replay(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lanes := make([]*apply.Applier, r.lanes())
	defer func() {
		for _, a := range lanes {
			if a != nil && err != nil {
				a.Abort()
			}
		}
	}()
	for i := range lanes {
		if lanes[i], err = r.newApplier(ctx, i, len(lanes)); err != nil {
			return err
		}
	}
	g, under := errgroup.WithContext(ctx)
	for i, a := range lanes {
		g.Go(func() error { return r.replayLane(under, a, i, len(lanes)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	counts, err := r.finishLanes(ctx, lanes)
	if err != nil {
		return err
	}
	if err := r.fold.Replayed(); err != nil {
		return changedMeanwhile(err)
	}
	if r.fold.Pass() > 0 {
		return nil
	}
	r.foldedCounts(counts)
	return r.checkReplayed(counts)
}

// changedMeanwhile says that the second reading was not like the first.
func changedMeanwhile(err error) error {
	return fault.Wrap(err, fault.Damage, verifyHint, "the archive was changed while it was restored")
}

// replayLane gives each lanes-th segment to an Applier, but for what folding leaves out.
func (r *run) replayLane(ctx context.Context, a *apply.Applier, lane, lanes int) error {
	further := r.fold.Pass() > 0
	want := func(rel *segment.Relation) bool { return r.wantsRows(rel) && (!further || r.fold.Table(rel.ID) != nil) }
	return r.readEntries(ctx, r.laneEntries(lane, lanes), readAhead/lanes, func(ctx context.Context, source *segmentParts) error {
		if err := r.announce(ctx, a, source); err != nil {
			return err
		}
		again := r.readAgain(source.entry)
		pass := func(rel *segment.Relation, rows int64) bool {
			d := again.Table(rel.ID)
			return d != nil && d.PassOver(rows)
		}
		err := source.read(look{want, pass, func(rec *segment.Record) error {
			switch {
			case rec.Op == segment.OpTruncate:
				if rec = r.withoutFolded(again, rec); rec == nil {
					return nil
				}
			case rec.Relation != nil && rec.Op != segment.OpRelation:
				if d := again.Table(rec.Relation.ID); d != nil {
					return replayFolded(ctx, a, d, rec)
				}
			}
			if lanes > 1 && rec.Op != segment.OpInsert {
				if rel := r.reorders(rec); rel != nil {
					return fault.New(fault.Damage, verifyHint, "the catalog says that %s saw only inserts, and %s has something else", rel, r.entries[source.entry].Segment.Objects[0].Key)
				}
			}
			return a.Apply(ctx, rec)
		}})
		if err != nil {
			return err
		}
		if err := again.End(); err != nil {
			return changedMeanwhile(err)
		}
		return nil
	})
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
	defer session.Close(conn)
	r.report.Tables, err = apply.Recognise(ctx, conn, r.snapshotTables())
	return err
}

// wantsRows reports whether rows of a relation are replayed.
func (r *run) wantsRows(rel *segment.Relation) bool {
	return !r.o.SchemaOnly && r.chosen.wantsRelation(rel)
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

// replaySession opens a session for rows that finds them by an index.
func (r *run) replaySession(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := r.dataSession(ctx)
	if err != nil {
		return nil, err
	}
	if err := session.FindByIndex(ctx, conn); err != nil {
		session.Close(conn)
		return nil, err
	}
	return conn, nil
}
