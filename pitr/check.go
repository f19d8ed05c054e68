package pitr

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
)

// counted is how many rows a table must have in the end, by its OID on the target: names may change while
// the schema does.
type counted map[uint32]int64

// targetOIDs finds the chosen tables on the target.
func (r *run) targetOIDs(ctx context.Context, conn *pgconn.PgConn) (map[string]uint32, error) {
	rows, err := session.Rows(ctx, conn, `select n.nspname, c.relname, c.oid::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')`)
	if err != nil {
		return nil, err
	}
	found := map[[2]string]uint32{}
	for _, row := range rows {
		found[[2]string{row[0], row[1]}] = number(row[2])
	}
	out := map[string]uint32{}
	for _, t := range r.chosen.tables {
		namespace := r.names.table(t.Namespace, t.Name)
		out[t.String()] = found[[2]string{namespace, t.Name}]
	}
	return out, nil
}

// countLoaded notes how many rows the tables have that the snapshot filled.
func (r *run) countLoaded(ctx context.Context) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	oids, err := r.targetOIDs(ctx, conn)
	if err != nil {
		return err
	}
	for _, t := range r.chosen.tables {
		oid := oids[t.String()]
		if oid == 0 {
			return fault.New(fault.Failed, "", "the target lost table %s", t)
		}
		r.rowsOf[oid] = r.tableRows(t.String()).Copied
		r.targets[t.String()] = oid
	}
	return nil
}

// countReplayed adds what the replay did.
func (r *run) countReplayed(live map[uint32]apply.Live) {
	for oid, l := range live {
		if l.Reset {
			r.rowsOf[oid] = 0
		}
		r.rowsOf[oid] += l.Rows
	}
}

// countQuery gives every table that holds rows itself, with the partition tree it is in.
const countQuery = `
select c.oid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)::oid::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^(pg_|tidemark)' and n.nspname <> 'information_schema'
order by pg_catalog.pg_relation_size(c.oid) desc`

// checkPhase counts every table's rows and compares with what was copied and replayed. Beside that it gathers
// statistics: each ANALYZE keeps one core busy, so that the counts cost little time of their own.
func (r *run) checkPhase(ctx context.Context) error {
	if r.o.SchemaOnly {
		return nil
	}
	return r.phase(ctx, PhaseCheck, "steps", 0, func(ctx context.Context) error {
		conn, err := r.session(ctx)
		if err != nil {
			return err
		}
		defer session.Close(conn)
		statistics, err := r.analyses(ctx, conn)
		if err != nil {
			return err
		}
		counts, err := r.counts(ctx, conn)
		if err != nil {
			return err
		}
		return r.together(ctx, append(statistics, counts...))
	})
}

// counts are the checks of all tables that rows came to, large ones first.
func (r *run) counts(ctx context.Context, conn *pgconn.PgConn) ([]task, error) {
	rows, err := session.Rows(ctx, conn, countQuery)
	if err != nil {
		return nil, err
	}
	var tasks []task
	for _, row := range rows {
		oid, root := number(row[0]), number(row[2])
		if _, known := r.rowsOf[oid]; !known {
			continue // neither the snapshot nor the stream has rows of it
		}
		if _, byRoot := r.rowsOf[root]; byRoot && root != oid {
			continue // the stream had its rows under the root's name
		}
		tasks = append(tasks, func(ctx context.Context, conn *pgconn.PgConn) error { return r.checkCount(ctx, conn, row[1], oid) })
	}
	return tasks, nil
}

func (r *run) checkCount(ctx context.Context, conn *pgconn.PgConn, name string, oid uint32) error {
	n, err := session.Value(ctx, conn, "select count(*) from only "+name)
	if err != nil || r.doubted {
		return err
	}
	if want := itoa(r.rowsOf[oid]); n != want {
		return fault.New(fault.Failed, verifyHint, "%s holds %s rows in the end, and copied and replayed rows come to %s", name, n, want)
	}
	return nil
}

// number reads an OID that the server printed.
func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}
