package follow

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// sequencesQuery lists the sequences with what limits them, and the columns that take values of them or
// own them.
const sequencesQuery = `
select n.nspname, c.relname, s.seqincrement::text, s.seqmin::text, s.seqmax::text, s.seqcycle::int::text,
       coalesce(u.table, ''), coalesce(u.column, '')
from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join lateral (
  select quote_ident(tn.nspname) || '.' || quote_ident(t.relname) as table, a.attname as column
  from (select d.refobjid as rel, d.refobjsubid as num from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0
        union
        select f.adrelid, f.adnum from pg_catalog.pg_depend d join pg_catalog.pg_attrdef f on f.oid = d.objid
        where d.classid = 'pg_catalog.pg_attrdef'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid) x
  join pg_catalog.pg_class t on t.oid = x.rel and t.relkind in ('r', 'p') join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = x.rel and a.attnum = x.num
) u on true
where n.nspname not in ('pg_catalog', 'information_schema', 'tidemark') and n.nspname !~ '^pg_'
order by 1, 2`

// sequence is a sequence of the fed database, on its way to a value that no row uses.
type sequence struct {
	namespace, name string
	descending      bool
	min, max        int64
	value           int64
	called          bool
}

// ahead takes a value over if it is further on.
func (q *sequence) ahead(value int64, called bool) {
	further := value > q.value
	if q.descending {
		further = value < q.value
	}
	if further || value == q.value && called {
		q.value, q.called = value, called
	}
}

// settleSequences gives every sequence a value past the newest sample archived and past what its columns
// hold, and returns how many there are. No sequence goes back.
func settleSequences(ctx context.Context, s *pgconn.PgConn, samples []segment.Sequence) (int, error) {
	rows, err := session.Rows(ctx, s, sequencesQuery)
	if err != nil {
		return 0, err
	}
	sampled := map[string][]segment.Sequence{}
	for _, q := range samples {
		name := segment.QualifiedName(q.Namespace, q.Name)
		sampled[name] = append(sampled[name], q)
	}
	settled := 0
	for i := 0; i < len(rows); {
		q := &sequence{namespace: rows[i][0], name: rows[i][1], descending: rows[i][2][0] == '-'}
		q.min, _ = strconv.ParseInt(rows[i][3], 10, 64)
		q.max, _ = strconv.ParseInt(rows[i][4], 10, 64)
		cycles := rows[i][5] == "1"
		var columns [][2]string
		for ; i < len(rows) && rows[i][0] == q.namespace && rows[i][1] == q.name; i++ {
			if rows[i][6] != "" && !cycles {
				columns = append(columns, [2]string{rows[i][6], rows[i][7]})
			}
		}
		if err := q.settle(ctx, s, sampled[segment.QualifiedName(q.namespace, q.name)], cycles, columns); err != nil {
			return settled, fault.Wrap(err, fault.CodeOf(err), "", "set sequence %s.%s", q.namespace, q.name)
		}
		settled++
	}
	return settled, nil
}

// settle sets one sequence. One that cycles starts again by design: its columns say nothing of where it is.
func (q *sequence) settle(ctx context.Context, s *pgconn.PgConn, samples []segment.Sequence, cycles bool, columns [][2]string) error {
	name := sqltext.QuoteName(q.namespace, q.name)
	now, err := session.Rows(ctx, s, "select last_value::text, is_called::int::text from "+name)
	if err != nil {
		return err
	}
	q.value, _ = strconv.ParseInt(now[0][0], 10, 64)
	q.called = now[0][1] == "1"
	for _, sample := range samples { // by age
		if cycles {
			q.value, q.called = sample.LastValue, sample.IsCalled
		} else {
			q.ahead(sample.LastValue, sample.IsCalled)
		}
	}
	for _, c := range columns {
		v, ok, err := pitr.FurthestValue(ctx, s, c[0], c[1], q.descending, q.min, q.max)
		if err != nil {
			return err
		}
		if ok {
			q.ahead(v, true)
		}
	}
	value := min(max(q.value, q.min), q.max)
	return session.Exec(ctx, s, fmt.Sprintf("SELECT pg_catalog.setval(%s, %d, %t)", sqltext.QuoteLiteral(name), value, q.called))
}

// lastSamples reads the samples of the sequences that count for a database as far as it came: the newest one
// passed and, where it is archived, the first one after. It tells if that one is missing and the newest is older
// than the last commit applied.
func lastSamples(ctx context.Context, o Options, r *record) (samples []segment.Sequence, stale bool, err error) {
	f, err := newFollower(ctx, Options{Store: o.Store, Log: o.Log, Now: time.Now})
	if err != nil {
		return nil, true, err
	}
	a := pitr.NewArchive(o.Store, f.log.View())
	if samples, err = samplesOf(ctx, a, r.Sequences); err != nil {
		return nil, true, err
	}
	for e, err := range a.View().Entries(ctx, catalog.Range{History: r.History, From: r.Position}) {
		if err != nil {
			return samples, true, err
		}
		if e.Kind == catalog.KindGap {
			break
		}
		if e.Segment == nil || e.Segment.Sequences == nil || e.Segment.Sequences.LSN < r.Position {
			continue
		}
		if !e.Segment.Sequences.Changed {
			return samples, false, nil
		}
		after, err := samplesOf(ctx, a, e.Seq)
		return append(samples, after...), err != nil, err
	}
	if r.CommitLSN == 0 {
		return samples, false, nil // the restore that the feed began with told
	}
	e, ok, err := a.View().LastSegment(ctx, catalog.Range{History: r.History, To: r.Position})
	stale = err != nil || !ok || e.Segment.Sequences == nil || e.Segment.Sequences.LSN <= r.CommitLSN
	return samples, stale, err
}

// samplesOf reads the sample of the sequences that a catalog entry names; none for 0.
func samplesOf(ctx context.Context, a *pitr.Archive, seq uint64) ([]segment.Sequence, error) {
	if seq == 0 {
		return nil, nil
	}
	e, ok, err := a.View().Entry(ctx, seq)
	if err != nil || !ok || e.Kind != catalog.KindSegment {
		return nil, err
	}
	x, err := a.Index(ctx, e)
	if err != nil {
		return nil, err
	}
	return x.Sequences, nil
}
