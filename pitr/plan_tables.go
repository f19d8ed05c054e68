package pitr

import (
	"context"
	"fmt"
	"slices"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// ForTables gives the plan of a restore that takes only the tables that patterns (see segment.Pattern) choose; without patterns that is
// the plan itself. The base snapshot's tables, rows and bytes, the changed tables and the rows changed are those of the chosen tables.
// Transactions, segments and the commits named are those of the whole archive, which a restore reads in any case. It reads the
// snapshot's manifest, the whole range in the catalog, and the segments in it that hold schema changes.
//
// Errors are faults, as Restore has them: Usage for what is no pattern and where no table matches.
func (plan *Plan) ForTables(ctx context.Context, a *Archive, patterns []string) (*Plan, error) {
	filter, err := newTableFilter(patterns)
	if err != nil || len(filter) == 0 {
		return plan, err
	}
	m, err := plan.manifest(ctx, a)
	if err != nil {
		return nil, err
	}
	walked, err := plan.walkAll(ctx, a)
	if err != nil {
		return nil, err
	}
	h, _ := a.view.History(plan.History)
	chosen := selectItems(m, filter, h.Begins.Publication, false)
	strays, err := chosen.unmatched(patterns, walked.writtenOrMade())
	if err != nil {
		return nil, err
	}
	made, err := walked.namesOf(ctx, a, chosen)
	if err != nil {
		return nil, err
	}
	narrow := *walked
	narrow.Warnings = append(slices.Clone(walked.Warnings), strays...)
	narrow.keepSnapshot(m, chosen)
	narrow.keepTables(func(table string) bool { return chosen.wantsQualified(table) || made[table] })
	return &narrow, nil
}

// manifest reads the manifest of the plan's base snapshot.
func (plan *Plan) manifest(ctx context.Context, a *Archive) (*basesnapshot.Manifest, error) {
	key := plan.snapshot.Snapshot.Manifest.Key
	m, err := basesnapshot.ReadManifest(ctx, a.store, plan.snapshot.Snapshot)
	if err != nil {
		return nil, objectError(err, key)
	}
	if m.ID != plan.Snapshot.ID || m.LSN != plan.Snapshot.LSN || m.History != plan.History || m.Archive != plan.Archive {
		return nil, fault.New(fault.Damage, verifyHint, "%s is the manifest of another snapshot", key)
	}
	return m, nil
}

// writtenOrMade are the tables that the replay writes to, if the base snapshot may lack some of them: a schema change makes those before.
func (plan *Plan) writtenOrMade() []PlanTable {
	if plan.SchemaChanges == 0 {
		return nil
	}
	return plan.Tables
}

// unmatched says which patterns choose no table, neither of the base snapshot nor of those replayed. If none chooses any, that is a
// Usage fault.
func (s *selection) unmatched(patterns []string, replayed []PlanTable) (notes []string, err error) {
	for i, p := range s.filter[:min(len(s.filter), len(patterns))] {
		if !s.takes(tableFilter{p}, replayed) {
			notes = append(notes, fmt.Sprintf("no table of the base snapshot, and none that was written to since, matches %q", patterns[i]))
		}
	}
	if len(s.filter) > 0 && !s.takes(s.filter, replayed) {
		return nil, fault.New(fault.Usage, "restorer plan lists what is changed; patterns are matched against namespace.name",
			"no table of the base snapshot matches %v", patterns)
	}
	return notes, nil
}

// takes reports whether a filter chooses any table.
func (s *selection) takes(filter tableFilter, replayed []PlanTable) bool {
	defined := func(it basesnapshot.SchemaItem) bool {
		return it.Kind == "TABLE" && filter.match(it.Namespace, it.Name)
	}
	loaded := func(t *basesnapshot.Table) bool { return filter.match(t.Namespace, t.Name) }
	written := func(t PlanTable) bool { return filter.matchQualified(t.Table) }
	return slices.ContainsFunc(s.tables, loaded) || slices.ContainsFunc(s.items, defined) || slices.ContainsFunc(replayed, written)
}

// namesOf gives the names that schema changes of the range gave to chosen tables, and to new ones that are chosen with them.
func (plan *Plan) namesOf(ctx context.Context, a *Archive, chosen *selection) (map[string]bool, error) {
	names := map[string]bool{}
	for _, e := range plan.entries {
		changes, err := a.SchemaChanges(ctx, e)
		if err != nil {
			return nil, err
		}
		for _, c := range plan.inRange(changes) {
			if c.Message == nil {
				continue
			}
			chosen.made(c.Message)
			for _, o := range c.Message.Relations() {
				if chosen.sources[o.OID] {
					names[segment.QualifiedName(o.Schema, o.Name)] = true
				}
			}
		}
	}
	return names, nil
}

// keepSnapshot leaves only the chosen tables' part of the base snapshot.
func (plan *Plan) keepSnapshot(m *basesnapshot.Manifest, chosen *selection) {
	plan.Snapshot.Tables, plan.Snapshot.Rows = 0, 0
	for i := range m.Tables {
		t := &m.Tables[i]
		if chosen.loads[t.String()] {
			plan.Snapshot.Tables++
			plan.Snapshot.Rows += t.Rows
			continue
		}
		plan.Snapshot.Bytes -= t.StoredBytes()
		plan.Bytes -= t.StoredBytes()
	}
}

// keepTables leaves only some of the changed tables, and what concerns them.
func (plan *Plan) keepTables(wants func(table string) bool) {
	plan.Inserts, plan.Updates, plan.Deletes, plan.Truncates = 0, 0, 0, 0
	all := plan.Tables
	plan.Tables = []PlanTable{}
	for _, t := range all {
		if !wants(t.Table) {
			continue
		}
		plan.Tables = append(plan.Tables, t)
		plan.add(catalog.Counts{Inserts: t.Inserts, Updates: t.Updates, Deletes: t.Deletes, Truncates: t.Truncates}, 1)
	}
	plan.Inexact = plan.inexactFor(wants)
}
