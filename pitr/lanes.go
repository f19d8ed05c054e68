package pitr

import (
	"context"

	"tidemark/pitr/apply"
	"tidemark/pitr/fold"
	"tidemark/segment"
)

// maxLanes bounds how many segments are read at once. Reading a segment is one processor's work, and loading what comes of it
// about one connection's.
const maxLanes = 4

// lanes is how many segments are read at once: one, unless all that is left to do is inserting rows.
func (r *run) lanes() int {
	n := min(maxLanes, r.o.Jobs, len(r.entries))
	if n < 2 || r.plan.SchemaChanges > 0 || r.plan.TablesCut || len(r.plan.Inexact) > 0 || r.o.SchemaOnly {
		return 1
	}
	folded := map[string]*fold.Table{}
	for _, t := range r.fold.Tables() {
		folded[t.Name()] = t
	}
	for _, t := range r.plan.Tables {
		switch f := folded[t.Table]; {
		case f != nil && f.InOrder(), f == nil && t.Updates+t.Deletes+t.Truncates > 0 && r.chosen.wantsQualified(t.Table):
			return 1
		}
	}
	return n
}

// newApplier makes that of a lane, which gets its part of connections and memory.
func (r *run) newApplier(ctx context.Context, lane, lanes int) (*apply.Applier, error) {
	return apply.New(ctx, apply.Options{
		Connect:     r.replaySession,
		Workers:     (r.o.Jobs + lanes - 1 - lane) / lanes,
		Others:      lanes - 1,
		Want:        r.wantsRows,
		Schema:      r.schemaOptions(),
		Inexact:     r.withheld,
		SchemaOf:    r.snapshotSchemas(),
		Sources:     r.snapshotTables(),
		TableSchema: r.names.table, TypeSchema: r.names.object,
		InsertOnly: r.insertOnly,
	})
}

// finishLanes ends the lanes and puts together what they did.
func (r *run) finishLanes(ctx context.Context, lanes []*apply.Applier) (map[string]apply.Counts, error) {
	sum := map[string]apply.Counts{}
	for _, a := range lanes {
		counts, err := a.Finish(ctx)
		if err != nil {
			return nil, err
		}
		for name, c := range counts {
			c.Add(sum[name])
			sum[name] = c
		}
		if r.fold.Pass() > 0 {
			continue
		}
		r.report.Transactions += a.Transactions()
		r.report.Tables = a.Known()
		r.countReplayed(a.Live())
		r.doubted = r.doubted || a.Doubted()
	}
	return sum, nil
}

// reorders returns the relation, if it is wanted, of an operation that is not an insert: those have to come in order.
func (r *run) reorders(rec *segment.Record) *segment.Relation {
	relations := rec.TruncateRelations
	if rec.Op == segment.OpUpdate || rec.Op == segment.OpDelete {
		relations = []*segment.Relation{rec.Relation}
	}
	for _, rel := range relations {
		if r.wantsRows(rel) {
			return rel
		}
	}
	return nil
}
