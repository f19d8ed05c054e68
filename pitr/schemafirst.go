package pitr

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// A range that holds schema changes is replayed into the full schema: the changes name indexes, constraints,
// triggers and views, and find them as they were at the source. What would act on its own is held back
// meanwhile (apply.Schema).

// schemaFirst reports whether the schema is made before the replay.
func (r *run) schemaFirst() bool {
	return r.plan.SchemaChanges > 0 && !r.o.DataOnly && r.names == nil
}

// replayed are the segments to read.
func (r *run) replayed() []catalog.Entry {
	if !r.o.SchemaOnly {
		return r.plan.entries
	}
	if !r.schemaFirst() {
		return nil
	}
	var out []catalog.Entry
	for _, e := range r.plan.entries {
		if e.Segment.DDL > 0 {
			out = append(out, e)
		}
	}
	return out
}

// fullSchema makes what else comes after the rows, before the replay.
func (r *run) fullSchema(ctx context.Context) error {
	if err := r.buildPhase(ctx); err != nil {
		return err
	}
	return r.phase(ctx, PhaseFinish, "steps", 0, func(ctx context.Context) error {
		conn, err := r.session(ctx)
		if err != nil {
			return err
		}
		defer session.Close(conn)
		steps := []func(context.Context, *pgconn.PgConn) error{r.makeRest, r.keepEmpty, r.makeEventTriggers}
		for _, step := range steps {
			if err := step(ctx, conn); err != nil {
				return err
			}
		}
		return nil
	})
}

// startSequences sets the sequences as the snapshot has them: changes of them count from there.
func (r *run) startSequences(ctx context.Context, conn *pgconn.PgConn) error {
	if r.o.SchemaOnly {
		return nil
	}
	for _, s := range r.manifest.Sequences {
		if !r.hasSequence(s) {
			continue
		}
		if _, err := r.setSequence(ctx, conn, s, s.Sequence); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "set sequence %s.%s", s.Namespace, s.Name)
		}
	}
	return nil
}

// makeEventTriggers makes the event triggers, which don't fire for replicas; those that do are held back at once.
func (r *run) makeEventTriggers(ctx context.Context, conn *pgconn.PgConn) error {
	sql := r.eventTriggers()
	if sql == "" {
		return nil
	}
	if err := session.Exec(ctx, conn, sql); err != nil {
		return fault.Wrap(err, fault.Failed, "", "make event triggers")
	}
	return apply.Hold(ctx, conn, r.names.schema())
}

// settleSchema does what follows the replay of schema changes.
func (r *run) settleSchema(ctx context.Context) error {
	return r.phase(ctx, PhaseFinish, "steps", 0, func(ctx context.Context) error {
		conn, err := r.session(ctx)
		if err != nil {
			return err
		}
		defer session.Close(conn)
		steps := []func(context.Context, *pgconn.PgConn) error{r.dropHelpers, r.release, r.setTargetSequences, r.refreshAll}
		for _, step := range steps {
			if err := step(ctx, conn); err != nil {
				return err
			}
		}
		if r.o.Create {
			return r.databaseSettings(ctx, r.place.admin)
		}
		return nil
	})
}

// release puts back what the replay held back; event triggers come last of all, in end.
func (r *run) release(ctx context.Context, conn *pgconn.PgConn) error {
	if err := session.Exec(ctx, conn, "BEGIN"); err != nil {
		return err
	}
	last, err := apply.PutBack(ctx, conn, r.names.schema())
	if err != nil {
		return err
	}
	r.last += last
	return session.Exec(ctx, conn, "COMMIT")
}

// ownObjects leaves out system schemas and what Tidemark itself keeps on a target.
const ownObjects = `n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'tidemark', 'tidemark_replay', '` + unfinishedSchema + `')`

// sequenceQuery gives each sequence of the target with the columns that own or use it.
const sequenceQuery = `
select n.nspname, c.relname, cn.nspname, t.relname, a.attname
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join lateral (
  select d.refobjid as relation, d.refobjsubid::int2 as number from pg_catalog.pg_depend d
  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
  union
  select f.adrelid, f.adnum from pg_catalog.pg_depend d join pg_catalog.pg_attrdef f on f.oid = d.objid
  where d.classid = 'pg_catalog.pg_attrdef'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
) u on true
left join pg_catalog.pg_attribute a on a.attrelid = u.relation and a.attnum = u.number
left join pg_catalog.pg_class t on t.oid = u.relation left join pg_catalog.pg_namespace cn on cn.oid = t.relnamespace
where c.relkind = 'S' and c.relpersistence <> 't' and ` + ownObjects + ` order by 1, 2`

// setTargetSequences is setSequences for the sequences that there are after schema changes. One without a
// sample goes on from where the snapshot or a change set it.
func (r *run) setTargetSequences(ctx context.Context, conn *pgconn.PgConn) error {
	if r.o.SchemaOnly {
		return nil
	}
	states, earlier, at, err := r.sequenceStates(ctx)
	if err != nil {
		return err
	}
	rows, err := session.Rows(ctx, conn, sequenceQuery)
	if err != nil {
		return err
	}
	sequences := map[string]*basesnapshot.Sequence{}
	var order []string
	for _, row := range rows {
		name := segment.QualifiedName(row[0], row[1])
		s := sequences[name]
		if s == nil {
			s = &basesnapshot.Sequence{}
			s.Namespace, s.Name = row[0], row[1]
			sequences[name], order = s, append(order, name)
		}
		if row[4] != "" {
			s.UsedBy = append(s.UsedBy, basesnapshot.ColumnRef{Namespace: row[2], Table: row[3], Column: row[4]})
		}
	}
	for _, name := range order {
		s := sequences[name]
		state, sampled := states[name]
		if !sampled || at < r.plan.Cut {
			if state, err = furthest(ctx, conn, s, state, sampled); err != nil {
				return err
			}
		}
		states := []segment.Sequence{state}
		if e, ok := earlier[name]; ok {
			states = append(states, e)
		}
		if _, err := r.setSequence(ctx, conn, *s, states...); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "set sequence %s", name)
		}
		r.advance(1)
	}
	r.noteSequences(at, len(order))
	return nil
}

// furthest gives a sequence's state on the target or, where that is further on, the last sample.
func furthest(ctx context.Context, conn *pgconn.PgConn, s *basesnapshot.Sequence, sample segment.Sequence, sampled bool) (segment.Sequence, error) {
	name := sqltext.QuoteName(s.Namespace, s.Name)
	rows, err := session.Rows(ctx, conn, `select s.last_value::text, s.is_called::int::text, (q.seqincrement < 0)::int::text
from `+name+` s, pg_catalog.pg_sequence q where q.seqrelid = $1::regclass`, name)
	if err != nil || len(rows) == 0 {
		return sample, err
	}
	value, err := strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil {
		return sample, err
	}
	here := segment.Sequence{Namespace: s.Namespace, Name: s.Name, LastValue: value, IsCalled: rows[0][1] == "1"}
	switch descending := rows[0][2] == "1"; {
	case !sampled, !descending && here.LastValue > sample.LastValue, descending && here.LastValue < sample.LastValue:
		return here, nil
	}
	return sample, nil
}

// keepEmpty notes the materialized views that the snapshot says have rows. They stay empty until all else is done:
// what the source did with rows of long ago may not be possible with those of now.
func (r *run) keepEmpty(ctx context.Context, conn *pgconn.PgConn) error {
	r.empty = map[uint32]bool{}
	for _, m := range r.manifest.Matviews {
		if !m.Populated {
			continue
		}
		oid, err := session.Value(ctx, conn, "select oid from pg_catalog.pg_class where oid = to_regclass($1) and relkind = 'm'", r.quoted(m.Namespace, m.Name))
		if err != nil {
			return err
		}
		if n, err := strconv.ParseUint(oid, 10, 32); err == nil {
			r.empty[uint32(n)] = true
		}
	}
	return nil
}

// refreshQuery gives the materialized views that have rows or whose OIDs are given, each after those that it reads.
const refreshQuery = `
with recursive reads(view, what) as (
  select distinct r.ev_class, d.refobjid from pg_catalog.pg_rewrite r join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
  where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> r.ev_class),
below(root, at, depth) as (
  select c.oid, c.oid, 0 from pg_catalog.pg_class c where c.relkind = 'm' and (c.relispopulated or c.oid = any($1::oid[]))
  union select b.root, r.what, b.depth + 1 from below b join reads r on r.view = b.at)
select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from below b join pg_catalog.pg_class c on c.oid = b.root
join pg_catalog.pg_namespace n on n.oid = c.relnamespace group by 1, c.oid order by max(depth), c.oid`

// refreshAll fills every materialized view of the target that has rows at the source.
func (r *run) refreshAll(ctx context.Context, conn *pgconn.PgConn) error {
	if r.o.SchemaOnly {
		return nil
	}
	var empty []string
	for oid := range r.empty {
		empty = append(empty, strconv.FormatUint(uint64(oid), 10))
	}
	rows, err := session.Rows(ctx, conn, refreshQuery, "{"+strings.Join(empty, ",")+"}")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := r.fill(ctx, conn, row[0]); err != nil {
			return fault.Wrap(err, fault.CodeOf(err), "", "fill materialized view %s", row[0])
		}
		r.advance(1)
	}
	return nil
}
