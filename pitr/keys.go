package pitr

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/sqltext"
	"tidemark/pitr/apply"
	"tidemark/pitr/session"
)

// prepareReplay builds what replay needs to find rows by: the replica identity's index of each table that
// sees updates or deletes, since without it each of them reads the whole table.
func (r *run) prepareReplay(ctx context.Context) error {
	conn, err := r.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close(conn)
	if r.o.DataOnly {
		return nil // its indexes are there
	}
	var builds []*build
	for _, t := range r.chosen.tables {
		if !r.finds(t) || r.schemaFirst() {
			continue
		}
		for _, it := range r.identityItems(t) {
			if r.early[it.ID] {
				continue
			}
			builds = append(builds, r.newBuild(it))
			r.early[it.ID] = true
		}
	}
	if err := r.runBuilds(ctx, builds); err != nil {
		return err
	}
	if r.fold.Pass() > 0 {
		return nil // such tables are not folded, and the first pass did all that there is to do for them
	}
	for _, t := range r.chosen.tables {
		if t.Identity == "f" && r.finds(t) && !r.hasPrimaryKey(t) {
			if err := r.helperIndex(ctx, conn, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// finds reports whether replay updates or deletes rows of the table.
func (r *run) finds(t *basesnapshot.Table) bool {
	if f := r.folded(t); f != nil {
		return f.InOrder()
	}
	return r.changes(t.String())
}

// changes reports whether rows of the table were updated or deleted.
func (r *run) changes(table string) bool {
	if r.plan.TablesCut {
		return true
	}
	return slices.ContainsFunc(r.plan.Tables, func(t PlanTable) bool { return t.Table == table && t.Updates+t.Deletes > 0 })
}

// identityItems are the items that make a table's primary key or replica identity index.
func (r *run) identityItems(t *basesnapshot.Table) []*basesnapshot.SchemaItem {
	return r.itemsOf(func(it *basesnapshot.SchemaItem) bool {
		if it.Section != "post-data" || it.Namespace != t.Namespace || (it.Kind != "CONSTRAINT" && it.Kind != "INDEX") {
			return false
		}
		keyed := it.Kind == "CONSTRAINT" && strings.Contains(it.SQL, " PRIMARY KEY (") || strings.Contains(it.SQL, " REPLICA IDENTITY USING INDEX ")
		return keyed && r.dependsOnTable(it, t)
	})
}

func (r *run) dependsOnTable(it *basesnapshot.SchemaItem, t *basesnapshot.Table) bool {
	return slices.ContainsFunc(it.Deps, func(id int) bool {
		dep := r.chosen.byID[id]
		return dep != nil && dep.Kind == "TABLE" && dep.Namespace == t.Namespace && dep.Name == t.Name
	})
}

func (r *run) hasPrimaryKey(t *basesnapshot.Table) bool {
	return slices.ContainsFunc(r.identityItems(t), func(it *basesnapshot.SchemaItem) bool { return strings.Contains(it.SQL, " PRIMARY KEY (") })
}

// Types whose values a hash index finds by the same equality as their images, in order of how well they
// usually tell rows apart.
var hashableTypes = []string{
	"uuid", "bigint", "timestamp with time zone", "timestamp without time zone", "integer", "text", "character varying", "bytea", "numeric", "double precision", "date", "inet",
}

// helperIndex gives a table without any key (identity FULL) a hash index for the time of the replay, on
// the column whose values tell its rows best apart.
func (r *run) helperIndex(ctx context.Context, conn *pgconn.PgConn, t *basesnapshot.Table) error {
	table := r.quoted(t.Namespace, t.Name)
	namespace := r.names.table(t.Namespace, t.Name)
	if err := session.Exec(ctx, conn, "ANALYZE "+table); err != nil {
		return err
	}
	rows, err := session.Rows(ctx, conn, `
select s.attname from pg_catalog.pg_stats s join pg_catalog.pg_class c on c.relname = s.tablename
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = s.schemaname
where s.schemaname = $1 and s.tablename = $2 and not s.inherited
order by case when n_distinct < 0 then -n_distinct * greatest(c.reltuples, 1) else n_distinct end * (1 - null_frac) desc`, namespace, t.Name)
	if err != nil {
		return err
	}
	best := ""
	for _, row := range rows {
		if hashable(t, row[0]) < len(hashableTypes) {
			best = row[0]
			break
		}
	}
	if best == "" {
		rank := len(hashableTypes)
		for _, c := range t.Columns {
			if k := hashable(t, c.Name); k < rank {
				best, rank = c.Name, k
			}
		}
	}
	if best == "" {
		return nil
	}
	if rows, err = session.Rows(ctx, conn, "select $1::pg_catalog.regclass::pg_catalog.oid", table); err != nil {
		return err
	}
	here, err := strconv.ParseUint(rows[0][0], 10, 32)
	if err != nil {
		return err
	}
	r.helpers[t.OID] = uint32(here)
	return session.Exec(ctx, conn, "CREATE INDEX "+sqltext.QuoteIdent(apply.HelperName(t.OID))+" ON "+table+" USING hash ("+sqltext.QuoteIdent(best)+")")
}

// hashable ranks a column's type; len(hashableTypes) for one that is no good.
func hashable(t *basesnapshot.Table, column string) int {
	for _, c := range t.Columns {
		if c.Name == column && c.Generated == "" {
			typ, _, _ := strings.Cut(c.Type, "(")
			if i := slices.Index(hashableTypes, strings.TrimSpace(typ)); i >= 0 {
				return i
			}
		}
	}
	return len(hashableTypes)
}

func (r *run) dropHelpers(ctx context.Context, conn *pgconn.PgConn) error {
	for source, here := range r.helpers {
		if err := apply.DropHelper(ctx, conn, source, here); err != nil {
			return session.Error(err)
		}
	}
	clear(r.helpers)
	return nil
}
